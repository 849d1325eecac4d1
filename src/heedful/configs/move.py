"""What `heedful move` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from heedful.fields import POSITIONAL


@dataclass(frozen=True, kw_only=True)
class Config:
    """Move a workspace's database: every row of every table is copied and read back, or nothing is. Stop its server
    before; the old database stays as it is."""

    source: Annotated[str, POSITIONAL]
    """The workspace's folder, or a database: sqlite:///FILE, postgresql://USER@HOST/NAME."""
    target: Annotated[str, POSITIONAL]
    """Where to: an empty database, or the folder of a new workspace."""
