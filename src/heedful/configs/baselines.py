"""What `heedful baselines` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from heedful.configs.common import alias


@dataclass(frozen=True, kw_only=True)
class Config:
    """Measure simple baselines on held-out comparisons."""

    data: Annotated[str, alias("--dataset-name")]
    """Comparisons: chosen and rejected, or responses and ranking."""
    held_out: float = 0.05
    """Share of the prompts kept back, chosen by hash, as in train reward."""
    skip_bad: bool = False
    """Leave out unusable rows (equal or empty responses), and say how many."""
