"""What `heedful critique` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.configs.common import OnBadRow, Reading
from heedful.errors import UserError
from heedful.fields import AT_LEAST_0, AT_LEAST_1, DATA, ROWS, SEED, Data, alias
from heedful.tagged import refuse_numbers

OF_ASKING = ("n", "max_tokens", "temperature", "judge")


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    """Let a critic say what is wrong with responses, and measure whether a judge who reads it decides better; without a
    model write the questions that a critic learns to answer."""

    data: Annotated[Data, DATA]
    """Comparisons, of which every response is criticised, or samples: rows with prompt and completion."""
    out: Annotated[Path, ROWS]
    """The file of critiques, rows of prompt, completion, critique and author; without --model that of questions."""
    model: Annotated[str | None, alias("--model-name-or-path")] = None
    """The critic, mostly of train sft on people's critiques. Default: nobody is asked."""
    judge: str | None = None
    """Who decides the comparisons alone and with the critiques, as in heedful judge; how often each is right is
    printed."""
    n: Annotated[int, alias("--num-generations"), AT_LEAST_1] = 1
    """Critiques of each response; a judge reads the first."""
    max_tokens: Annotated[int, alias("--max-completion-length", "--max-new-tokens"), AT_LEAST_1] = (
        128
    )
    """Longest critique in tokens."""
    temperature: Annotated[float, AT_LEAST_0] = 0.0
    """Sampling temperature; 0 is the likeliest token, for --n above 1 one above 0 is needed."""
    limit: Annotated[int | None, AT_LEAST_1] = None
    """Use the first N rows only."""
    on_bad_row: OnBadRow = "stop"
    """Rows that cannot be read, and questions that are too long: stop at the first, drop them, or cut."""
    seed: Annotated[int, SEED] = 0
    """Seed of the sampling and of simulated judges."""
    device: str = "cpu"
    """Torch device, such as cpu, cuda or auto."""
    quiet: bool = False
    """Log lines in place of a progress bar."""


def unread(config: Config) -> dict[str, str]:
    """Nobody is asked without a model."""
    why = "without --model nobody is asked"
    return dict.fromkeys(OF_ASKING, why) if config.model is None else {}


def refuse_nonsense(config: Config) -> None:
    """What makes no sense, before anything is loaded."""
    refuse_numbers(config)
    if config.n > 1 and config.temperature == 0:
        raise UserError("--n above 1 needs --temperature above 0: else all are the same")
