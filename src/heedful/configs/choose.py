"""What `heedful choose` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from heedful.configs.common import Reading
from heedful.fields import AT_LEAST_1, DATA, SEED, SHARE, Data


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    """What to ask next: the pairs of responses whose comparison would tell a reward model most."""

    reward: str
    """A reward model; what it is sure of follows from --answered, by its last layer."""
    answered: str
    """Comparisons that people have made already; db: is a workspace."""
    data: Annotated[Data, DATA]
    """Samples: several responses to each prompt, as heedful sample writes them."""
    number: Annotated[int, AT_LEAST_1]
    """Questions to ask, at most one of each prompt."""
    strategy: Literal["bald", "disagreement", "double_thompson"] = "bald"
    """By what the answer would tell (BALD), by disagreement of an ensemble, or the winners of two of its members."""
    uniform: Annotated[float, SHARE] = 0.15
    """Share of the questions that are drawn by chance all the same: to measure by, without bias."""
    out: Path
    """The samples of the chosen pairs, to import: with strategy, score and propensity."""
    seed: Annotated[int, SEED] = 0
    """Seed of what is by chance."""
    device: str = "cpu"
    """Torch device, such as cpu, cuda or auto."""
