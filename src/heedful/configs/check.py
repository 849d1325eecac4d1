"""What `heedful check` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.fields import POSITIONAL


@dataclass(frozen=True, kw_only=True)
class Config:
    """Audit a workspace: every row stored is exported or excluded for a reason, and nothing was changed."""

    workspace: Annotated[Path, POSITIONAL] = Path(".")
    """The workspace."""
