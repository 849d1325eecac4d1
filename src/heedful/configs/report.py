"""What `heedful report` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.errors import UserError
from heedful.fields import Flag


@dataclass(frozen=True, kw_only=True)
class Config:
    """Draw runs as one HTML page that needs nothing else: curves, sampled texts, alarms, several runs side by side."""

    runs: Annotated[tuple[Path, ...], Flag(positional=True, metavar="RUN")]
    """Folders of runs, or one with runs in it; that of a demo or a comparison is drawn as its own page again."""
    out: Path | None = None
    """The page; default: report.html in the folder, of several runs in that of the first one's parent."""


def refuse_nonsense(config: Config) -> None:
    """Nothing is drawn of nothing."""
    if not config.runs:
        raise UserError("report needs the folder of a run, a demo or a comparison")
