"""What `heedful train reward` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from heedful.configs.common import FromComparisons, alias, refuse_nonsense

__all__ = ["Config", "refuse_nonsense"]


@dataclass(frozen=True, kw_only=True)
class Config(FromComparisons):
    """Fit a reward model to comparisons."""

    loss: Literal["bradley_terry", "plackett_luce"] = "bradley_terry"
    """Bradley–Terry on all pairs of a ranking, or Plackett–Luce on the whole ranking."""
    margin: float = 0.0
    """Margin in the loss: this times a comparison's strength (0 to 1); 0 ignores strengths."""
    batch_size: Annotated[int, alias("--per-device-train-batch-size")] = 16
    """Prompts in an optimiser step, each with all its responses."""
    learning_rate: Annotated[float, alias("--lr")] = 1e-5
    weight_decay: float = 0.01
