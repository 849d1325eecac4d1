"""What `heedful demo` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.fields import SEED


@dataclass(frozen=True, kw_only=True)
class Config:
    """Run the whole loop on the embedded world and write a report."""

    out: Path = Path("runs/demo")
    """Folder of the demo; one that was stopped there goes on, a finished one is replaced."""
    seed: Annotated[int, SEED] = 0
    """The same seed gives the same numbers on the same machine."""
    quick: bool = False
    """A smoke test of everything at tiny size, in half a minute."""
    quiet: bool = False
    """Log lines in place of progress bars."""
