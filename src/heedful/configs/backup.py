"""What `heedful backup` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.fields import POSITIONAL


@dataclass(frozen=True, kw_only=True)
class Config:
    """Write a workspace into one file, while people work in it; the file is read back and verified."""

    workspace: Annotated[Path, POSITIONAL]
    """The workspace, on SQLite or PostgreSQL."""
    file: Annotated[Path, POSITIONAL]
    """The backup, a zip archive; an earlier one of this name is replaced once the new one is right."""
    folders: bool = False
    """Also the folders in the workspace's: runs with their models, exports. Without it they are left out and named."""
