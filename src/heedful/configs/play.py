"""What `heedful play` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.configs.common import Reading
from heedful.configs.playing import Playing, refuse_unplayable
from heedful.errors import UserError
from heedful.fields import AT_LEAST_1, DATA, ROWS, SEED, Data
from heedful.tagged import ReadWith


@dataclass(frozen=True, kw_only=True)
class Config(Reading, Playing):
    """Play an environment, or a game, in the terminal; what is played is a demonstration. Or let a script of its own,
    or a player, play it."""

    game: str = ""
    """In place of --env a game: tetris, cartpole, minatar(name=breakout), or package.module:Game. What is played is a
    clip; the same --task is the same game whoever plays it, so two clips of it are a comparison."""
    data: Annotated[Data, DATA] = ""
    """Tasks; an --env may bring its own."""
    out: Annotated[Path | None, ROWS] = None
    """A file of transcripts, or of clips (.jsonl), that each episode or game is added to."""
    task: Annotated[int, AT_LEAST_1] = 1
    """The number of the first task."""
    limit: Annotated[int, AT_LEAST_1] = 1
    """Tasks to play; of a --player episodes."""
    player: str | None = None
    """Let a scripted player of the environment play, in place of a person: maze, words and twenty_questions have
    shortest or best, random and mixed, the last stubborn, too, browse has expert and clumsy, bargaining expert, greedy
    and mixed. Tasks are gone round until --limit episodes are played. Of a game: random, advised, or the folder of a
    run."""
    name: Annotated[str, ReadWith("player", unset=True)] = "person"
    """Who plays; stands in the transcript's column `model`."""
    seed: Annotated[int, SEED] = 0
    """Seed of the tasks and of what is random in the environment."""


def refuse_nonsense(config: Config) -> None:
    """What cannot be played."""
    if config.game and (config.plays or config.data):
        raise UserError("--game is played without --env, --tools and --data")
    if not (config.plays or config.game):
        raise UserError("--env is missing: what is played; or --game")
    refuse_unplayable(config)
    if config.player and config.out is None:
        raise UserError("--out is missing: the file that what --player plays is written to")
