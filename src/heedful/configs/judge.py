"""What `heedful judge` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from heedful.configs.common import alias


@dataclass(frozen=True, kw_only=True)
class Config:
    """Let simulated raters, a language model or the samples' own rewards rank the responses to each prompt."""

    data: Annotated[str, alias("--samples")]
    """Samples, several of each prompt."""
    judge: str
    """Whose taste: a world, package.module:function of (prompt, response), llm:MODEL, or scores (column `reward`)."""
    out: Path
    """The file of comparisons."""
    pairs: Literal["rankings", "best_worst"] = "rankings"
    """Write whole rankings, or of each only the best and the worst as `chosen` and `rejected`, as TRL reads them."""
    seed: int = 0
    """Seed of the raters' noise."""
