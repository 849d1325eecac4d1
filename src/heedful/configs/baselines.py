"""What `heedful baselines` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from heedful.configs.common import SPLIT, Reading
from heedful.fields import DATA, Data


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    """Measure simple baselines on held-out comparisons."""

    data: Annotated[Data, DATA]
    """Comparisons: chosen and rejected, or responses and ranking."""
    held_out: Annotated[float, SPLIT] = 0.05
    """Share of the prompts held out, chosen by hash, as in train reward."""
    on_bad_row: Literal["stop", "drop"] = "stop"
    """Invalid rows (equal or empty responses): stop at the first, or drop them and say how many."""
