"""What `heedful biases` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from heedful.configs.common import Reading
from heedful.fields import Data, Flag


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    """Which attributes of responses predict what is preferred: length, lists, agreement, place and others."""

    data: Annotated[Data, Flag(positional=True, metavar="COMPARISONS")] = "db:"
    """Comparisons; db: is the workspace here, db:DIR#PROJECT another."""
    on_bad_row: Literal["stop", "drop"] = "stop"
    """A row that cannot be read stops the command, or is left out and counted."""
    reward: str | None = None
    """Also what this reward goes by, on the same responses; its slopes are what residual(REWARD, FILE) takes away."""
    ratings: Data | None = None
    """Also ratings of the same responses (of a workspace: db:DIR#PROJECT): whether what is rated higher wins, and
    whether raters agree more where they compare or where they rate."""
    out: Path | None = None
    """Write everything as JSON, too."""
    device: str = "cpu"
    """Torch device of the reward, such as cpu, cuda or auto."""
