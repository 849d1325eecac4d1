"""What `heedful compare` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.configs.compare_plan import read_file
from heedful.fields import POSITIONAL


@dataclass(frozen=True, kw_only=True)
class Config:
    """Compare methods over seeds at equal cost: a table, and figures of reward against KL and time."""

    config: Annotated[Path, POSITIONAL]
    """The YAML file that says what to compare; see docs/compare.md."""
    quiet: bool = False
    """Log lines in place of progress bars."""


def refuse_nonsense(config: Config) -> None:
    """Whatever is wrong in the file by itself."""
    read_file(config.config)
