"""What `heedful prompts` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from heedful.configs.common import Reading
from heedful.fields import ABOVE_0, DATA, ROWS, SEED, Data, Flag


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    """Which prompts are hard or dated, those of which nobody was asked too: by where raters disagree, rewards err."""

    answered: Annotated[Data, Flag(positional=True, metavar="COMPARISONS")] = "db:"
    """Comparisons, of which some prompts have several raters' of the same responses; db: is the workspace here."""
    data: Annotated[Data | None, DATA] = None
    """Prompts to tell about. Default: those of the comparisons."""
    reward: str | None = None
    """Also where this reward orders responses otherwise than people; it must not have learned from these
    comparisons."""
    dated: Annotated[float, ABOVE_0] = 30.0
    """Days between two answers from which on their disagreement is counted as the prompt's being dated."""
    on_bad_row: Literal["stop", "drop"] = "stop"
    """A comparison that cannot be read stops the command, or is left out and counted."""
    out: Annotated[Path, ROWS]
    """The file of prompts, the hardest first, each with its chances and their intervals."""
    seed: Annotated[int, SEED] = 0
    """Seed of folds and draws."""
    device: str = "cpu"
    """Torch device of the reward, such as cpu, cuda or auto."""
