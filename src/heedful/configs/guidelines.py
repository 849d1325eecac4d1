"""What `heedful guidelines` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.fields import POSITIONAL


@dataclass(frozen=True, kw_only=True)
class Config:
    """Write the guidelines that raters read beside a question, or without a file print them."""

    file: Annotated[Path | None, POSITIONAL] = None
    """Markdown; raters see it from their next question on, and every answer keeps the version it was given under."""
    workspace: Path = Path(".")
    """The workspace's folder."""
    project: str | None = None
    """The project; needed where there are several."""
