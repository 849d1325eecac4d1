"""What `heedful play` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.configs.common import Reading
from heedful.configs.playing import Playing, refuse_unplayable
from heedful.errors import UserError
from heedful.fields import AT_LEAST_1, DATA, SEED, Data


@dataclass(frozen=True, kw_only=True)
class Config(Reading, Playing):
    """Play an environment in the terminal; what is played is a demonstration."""

    data: Annotated[Data, DATA] = ""
    """Tasks; an --env may bring its own."""
    out: Path | None = None
    """A file of transcripts (.jsonl) that each episode is added to."""
    task: Annotated[int, AT_LEAST_1] = 1
    """The number of the first task."""
    limit: Annotated[int, AT_LEAST_1] = 1
    """Tasks to play."""
    name: str = "person"
    """Who plays; stands in the transcript's column `model`."""
    seed: Annotated[int, SEED] = 0
    """Seed of the tasks and of what is random in the environment."""


def refuse_nonsense(config: Config) -> None:
    """What cannot be played."""
    if not config.plays:
        raise UserError("--env is missing: what is played")
    refuse_unplayable(config)
