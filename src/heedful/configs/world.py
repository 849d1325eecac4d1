"""What `heedful world` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful import registry
from heedful.errors import UserError
from heedful.fields import AT_LEAST_1, POSITIONAL, SEED, Range


@dataclass(frozen=True, kw_only=True)
class Config:
    """Write a world's texts, demonstrations, prompts and held-out prompts into a folder."""

    name: Annotated[str, POSITIONAL]
    """The world: capitals, reviews, arithmetic, posts, music, molecules, admissions, or one of an installed package."""
    out: Path
    """The folder."""
    seed: Annotated[int, SEED] = 0
    """Seed of what is random in it; the split into train and held-out never is."""
    documents: Annotated[int, AT_LEAST_1] = 40000
    """Raw documents (capitals, arithmetic, posts, molecules)."""
    demonstrations: Annotated[int, AT_LEAST_1] = 3000
    """Demonstrations (capitals, arithmetic, posts, admissions)."""
    levels: Annotated[int, Range(1, 6)] = 6
    """The hardest level, 1 to 6 (arithmetic)."""
    source: Path | None = None
    """A file of reviews with `text` (reviews); a file or folder of .abc and .mid files, or music21 for the tunes of
    this package (music; tunes are made from the seed where none is given); a file of SMILES, or molsets (molecules)."""
    selfies: bool = False
    """Write SELFIES in place of SMILES (molecules)."""


def refuse_nonsense(config: Config) -> None:
    """A world that is made of texts needs them."""
    registry.entry("world", config.name)
    if config.name == "reviews" and config.source is None:
        raise UserError("world reviews needs --source, a file of reviews with a column `text`")
