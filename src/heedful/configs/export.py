"""What `heedful export` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

What = Literal[
    "comparisons",
    "rankings",
    "unpaired",
    "demonstrations",
    "judgments",
    "scores",
    "critiques",
    "turns",
    "prompts",
    "samples",
]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Write what people have said to a file, and FILE.manifest.json beside it."""

    what: Annotated[What, tyro.conf.Positional]
    """comparisons: prompt, chosen, rejected, as TRL has them; rankings: heedful's, with ties; unpaired: prompt,
    completion, label; judgments: everything that is known about each answer."""
    file: Annotated[Path, tyro.conf.Positional]
    """The file: .jsonl, .csv (each also with .gz) or .parquet."""
    workspace: Path = Path(".")
    """The workspace's folder."""
    project: str | None = None
    """The project; needed where there are several."""
    split: Literal["all", "train", "held_out"] = "all"
    """Only prompts of this side; a prompt stays on its side for ever."""
    surplus: bool = False
    """Also answers beyond the overlap that was asked for."""
    gold: bool = False
    """Also answers to gold questions."""
    swaps: bool = False
    """Also pairs that were asked again the other way round."""
    margin: bool = False
    """Comparisons with TRL's column `margin`: the strength, 0 where nobody was asked."""
    snapshot: str | None = None
    """Write an earlier export again, byte for byte, by the snapshot's id in its manifest."""
