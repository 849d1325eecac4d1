"""What `heedful check` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class Config:
    """Check a workspace's books: every row stored is exported or left out for a reason, and nothing was changed."""

    workspace: Annotated[Path, tyro.conf.Positional] = Path(".")
    """The workspace."""
