"""What `heedful reproduce` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.errors import UserError
from heedful.fields import POSITIONAL, Range


@dataclass(frozen=True, kw_only=True)
class Config:
    """Make a published claim again: several seeds, criteria that were frozen beforehand, a verdict, a page.

    A seed that is done is kept, so that the same command goes on after an interruption. The exit code is 1 where a
    criterion is not met.
    """

    name: Annotated[str, POSITIONAL] = ""
    """Which one, or all; without a name they are listed."""
    list: bool = False
    """A line for each: its name, the verdict of the committed result, the date and the command."""
    out: Path = Path("runs/reproductions")
    """Folder for NAME.json, NAME.svg, a folder NAME with the seeds, and the page index.md."""
    page: Path | None = None
    """Where the page about all results in that folder goes. Default: index.md there."""
    seeds: Annotated[int, Range(0)] = 0
    """How many seeds, from 0 on; 0 takes as many as the reproduction says. With fewer the verdict is preliminary."""
    jobs: Annotated[int, Range(0)] = 0
    """How many seeds run side by side, each in a process of its own; 0 takes one for each core. 1 runs them in turn."""
    only: Annotated[int | None, Range(0)] = None
    """This seed alone, and no verdict: for seeds on several machines that share OUT, where the command without it then
    finds them done."""
    quick: bool = False
    """As little work as shows that everything runs, one seed; the verdict is preliminary. It goes into quick/ of the
    folder."""


def refuse_nonsense(config: Config) -> None:
    """What says two things at once."""
    if config.list and config.name:
        raise UserError("--list lists all of them: leave the name out")
    if config.only is not None and config.name in ("", "all"):
        raise UserError("--only is a seed of one reproduction: name it")
