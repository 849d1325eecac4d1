"""What `heedful export` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from heedful.fields import POSITIONAL

What = Literal[
    "comparisons",
    "rankings",
    "unpaired",
    "demonstrations",
    "judgments",
    "scores",
    "critiques",
    "triplets",
    "turns",
    "prompts",
    "samples",
]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Export raters' judgments to a file, with FILE.manifest.json beside it."""

    what: Annotated[What, POSITIONAL]
    """comparisons: prompt, chosen, rejected, as TRL has them; rankings: heedful's, with ties; unpaired: prompt,
    completion, label; triplets: anchor, positive, negative, what is alike; judgments: all columns of each judgment."""
    file: Annotated[Path, POSITIONAL]
    """The file: .jsonl, .csv (each also with .gz) or .parquet."""
    workspace: Path = Path(".")
    """The workspace's folder."""
    project: str | None = None
    """The project; needed where there are several."""
    split: Literal["all", "train", "held_out"] = "all"
    """Only prompts of this split; a prompt never changes its split."""
    surplus: bool = False
    """Also judgments beyond the requested overlap."""
    gold: bool = False
    """Also judgments of gold questions."""
    swaps: bool = False
    """Also pairs that were asked again in swapped order."""
    margin: bool = False
    """Comparisons with TRL's column `margin`: the strength, 0 where none was asked for."""
    weights: str = "equal"
    """comparisons, rankings and unpaired with a column `weight`: raters, by how far each rater can be relied on, as
    fitted to the same split; or a file of `heedful raters --out`. The manifest has every rater's and their version."""
    question: str = ""
    """Of a screen of several questions, the one whose answers are exported. Default: the first that ranks, or that has
    such rows; of scores and critiques all."""
    snapshot: str | None = None
    """Reproduce an earlier export byte for byte, by the snapshot's id in its manifest."""
    quiet: bool = False
    """Say nothing of how far it is."""
