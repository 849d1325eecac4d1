"""What `heedful check` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.fields import POSITIONAL


@dataclass(frozen=True, kw_only=True)
class Config:
    """Audit a workspace: every row stored is exported or excluded for a reason, and nothing was changed. Where people
    have withdrawn answers it lists the exports, files and runs that still have them.

    What an earlier check has seen is not read again, only what was added; `checked.json` in the workspace says how far
    it came. The database file is looked through each time, but for whether its indexes hold what its tables do.
    """

    workspace: Annotated[Path, POSITIONAL] = Path(".")
    """The workspace."""
    all: bool = False
    """Check everything anew."""
