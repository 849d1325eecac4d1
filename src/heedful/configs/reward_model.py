"""What `heedful train reward` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from heedful.configs.common import FromComparisons, refuse_nonsense
from heedful.fields import AT_LEAST_0, HIDDEN

__all__ = ["Config", "refuse_nonsense"]


@dataclass(frozen=True, kw_only=True)
class Config(FromComparisons):
    """Fit a reward model to comparisons."""

    loss: Literal["bradley_terry", "plackett_luce"] = "bradley_terry"
    """Bradley–Terry on all pairs of a ranking, or Plackett–Luce on the whole ranking."""
    margin: Annotated[float, AT_LEAST_0] = 0.0
    """Margin in the loss: this times a comparison's strength (0 to 1); 0 ignores strengths."""
    batch_size: int = 16
    """Prompts in an optimiser step, each with all its responses."""
    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    command: Annotated[str, HIDDEN] = "train reward"
