"""What `heedful canaries` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.errors import UserError
from heedful.fields import AT_LEAST_0, AT_LEAST_1, DATA, ROWS, SEED, Data, Range, alias
from heedful.tagged import refuse_numbers

PLANTING = ("data", "out", "number", "digits", "times")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Plant secrets in training data, or measure whether a model that was trained on it remembers them."""

    canaries: Path
    """The file of the secrets: written beside planted data, read with --model."""
    data: Annotated[Data, DATA] = ""
    """Data to plant in: texts, demonstrations (prompt and completion) or pairs (prompt, chosen and rejected)."""
    out: Annotated[Path | None, ROWS] = None
    """The file of the data with the canaries in it, at places by chance."""
    model: Annotated[str | None, alias("--model-name-or-path")] = None
    """A language model that was trained on such data: how far is each secret known?"""
    number: Annotated[int, AT_LEAST_1] = 8
    """Canaries for each of --times."""
    digits: Annotated[int, Range(1, 12)] = 6
    """Digits of a secret."""
    times: Annotated[tuple[int, ...], AT_LEAST_0] = (0, 1, 4, 16)
    """How often canaries are planted; those of 0 say what a model knows that has never seen them."""
    alternatives: Annotated[int, AT_LEAST_1] = 1000
    """Other secrets to compare each with, of all that there are: exposure is at most log2 of one more."""
    seed: Annotated[int, SEED] = 0
    """Seed of secrets, places and alternatives."""
    device: str = "cpu"
    """Torch device, such as cpu, cuda or auto."""


def unread(config: Config) -> dict[str, str]:
    """What is planted is decided before a model is trained."""
    if config.model is not None:
        return dict.fromkeys(PLANTING, "--model measures what was planted before")
    return {"alternatives": "nothing is measured without --model"}


def refuse_nonsense(config: Config) -> None:
    """What makes no sense, before anything is loaded."""
    refuse_numbers(config)
    if config.model is None and not (config.data and config.out):
        raise UserError("needs --data and --out, to plant, or --model, to measure")
