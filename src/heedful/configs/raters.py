"""What `heedful raters` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from heedful.configs.common import Reading
from heedful.fields import Data, Flag


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    """Who can be relied on: how often each rater says what they see, their habits, and what to do."""

    data: Annotated[Data, Flag(positional=True, metavar="COMPARISONS")] = "db:"
    """Comparisons with a column rater; db: is the workspace here, db:DIR#PROJECT another."""
    on_bad_row: Literal["stop", "drop"] = "stop"
    """A row that cannot be read stops the command, or is left out and counted."""
    gold: Data | None = None
    """Comparisons whose order is known to be right, of responses that the raters have compared, too: with them a
    majority that errs together is not taken for the truth."""
    out: Path | None = None
    """Write everything as JSON, too, with a weight for each rater."""
