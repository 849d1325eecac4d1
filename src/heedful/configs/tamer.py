"""What `heedful train tamer` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from heedful.configs.common import Reading
from heedful.errors import UserError
from heedful.fields import ABOVE_0, AT_LEAST_0, AT_LEAST_1, DATA, SEED, Data, alias


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    """TAMER: a player learns from the keys that a person presses while it plays (in the terminal; + or j is good, - or
    k bad, q leaves off), or from keys that people pressed at clips in the browser."""

    game: str = ""
    """A game: tetris, cartpole, minatar(name=breakout), or package.module:Game. Default: that of the run in --out, or
    of the clips in --data."""
    out: Annotated[Path, alias("--output-dir")]
    """Folder of the run. One that is there goes on: what was learned is kept, and new presses come on top."""
    data: Annotated[Data, DATA] = ""
    """Presses at clips, as `heedful export critiques` writes them, or db:DIR#PROJECT; then nobody is asked. Clips
    alone, as `heedful play --game` writes them, are demonstrations: each of their moves counts as called good."""
    trainer: Literal["person", "simulated"] = "person"
    """Who presses: whoever sits at the terminal, or a program that goes by a player written by hand."""
    games: Annotated[int, AT_LEAST_1] = 10
    """Games to play at most."""
    presses: Annotated[int, AT_LEAST_0] = 0
    """Presses after which it ends, all that the run has seen counted; 0: no limit."""
    ms: Annotated[int, AT_LEAST_0] = 0
    """Milliseconds for which a move is seen; 0: as the game says."""
    delay_from: Annotated[float, AT_LEAST_0] = 0.2
    """Seconds that it takes people to press, at least: a press is about the moves of the window before it."""
    delay_to: Annotated[float, AT_LEAST_0] = 0.8
    """Seconds that it takes them at most."""
    ridge: Annotated[float, ABOVE_0] = 1.0
    """Ridge of the regression: the higher, the less a single press changes."""
    seed: Annotated[int, SEED] = 0
    """Seed of the games and of a simulated trainer."""


def refuse_nonsense(config: Config) -> None:
    """A window that is none; what nobody would read; no game."""
    if config.delay_from > config.delay_to:
        raise UserError("--delay-from must not be above --delay-to")
    if config.data and (config.trainer != "person" or config.presses or config.ms):
        raise UserError(
            "--trainer, --presses and --ms are about playing; with --data nothing is played"
        )
    if not (config.game or config.data or config.out.is_dir()):
        raise UserError("--game is missing: what is played, such as tetris or cartpole")
