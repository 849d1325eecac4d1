"""What `heedful init` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.fields import POSITIONAL


@dataclass(frozen=True, kw_only=True)
class Config:
    """Make a workspace."""

    folder: Annotated[Path, POSITIONAL] = Path(".")
    """Its folder; made if it is not there."""
