"""What `heedful restore` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.fields import POSITIONAL


@dataclass(frozen=True, kw_only=True)
class Config:
    """Make a workspace of a backup: verified, and whole or not at all."""

    file: Annotated[Path, POSITIONAL]
    """What `heedful backup` wrote."""
    workspace: Annotated[Path, POSITIONAL]
    """The new workspace's folder, which is not there yet or empty."""
    database: str | None = None
    """An empty database to put it in, such as postgresql://user:password@host/name; else $HEEDFUL_DATABASE, or SQLite
    in the folder. Settings never name the database that was backed up."""
