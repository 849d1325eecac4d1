"""What `heedful choose` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from heedful.configs.common import Reading
from heedful.errors import UserError
from heedful.fields import AT_LEAST_0, DATA, ROWS, SEED, SHARE, Data


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    """What to ask next: the pairs of responses whose comparison would tell a reward model most, of samples or of a
    workspace's open questions."""

    reward: str
    """A reward model; what it is sure of follows from --answered, by its last layer."""
    answered: str = ""
    """Comparisons that people have made already; db: is a workspace. Default: of --workspace; not for newcomer."""
    data: Annotated[Data, DATA] = ""
    """Samples: several responses to each prompt, as heedful sample writes them."""
    number: Annotated[int, AT_LEAST_0] = 0
    """Questions to ask of --data, at most one of each prompt."""
    workspace: Path | None = None
    """In place of --data: the open questions of this workspace are asked in this order from now on."""
    project: str | None = None
    """The project in it; needed where there are several."""
    strategy: Literal["bald", "disagreement", "double_thompson", "newcomer"] = "bald"
    """By what the answer would tell of the reward (BALD), by disagreement of an ensemble, or the winners of two of its
    members; newcomer: by what it would tell of who somebody new is, for a personal reward."""
    uniform: Annotated[float, SHARE] = 0.15
    """Share of the questions that are drawn by chance all the same: to measure by, without bias."""
    out: Annotated[Path | None, ROWS] = None
    """The samples of the chosen pairs, to import: with strategy, score and propensity."""
    seed: Annotated[int, SEED] = 0
    """Seed of what is by chance."""
    device: str = "cpu"
    """Torch device, such as cpu, cuda or auto."""


def refuse_nonsense(config: Config) -> None:
    """Either samples become questions, or questions are put in order."""
    if config.workspace is None:
        told = config.answered or config.strategy == "newcomer"
        if not (config.data and config.number and config.out and told):
            raise UserError(
                "heedful choose takes --data, --number, --answered and --out, or --workspace, whose open questions "
                "it puts in order"
            )
        if config.project is not None:
            raise UserError("--project is for --workspace")
    elif config.data or config.number or config.out:
        raise UserError(
            "--workspace orders its own questions: leave --data, --number and --out out"
        )
