"""What `heedful clips` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.errors import UserError
from heedful.fields import AT_LEAST_0, AT_LEAST_1, ROWS, SEED


@dataclass(frozen=True, kw_only=True)
class Config:
    """Play a game and write clips of it, which people compare, or press keys at, in the browser."""

    game: str = ""
    """A game: tetris, cartpole, minatar(name=breakout), or package.module:Game of one's own. Default: that of
    --model."""
    out: Annotated[Path, ROWS]
    """The file of clips, .jsonl: what `heedful import samples` reads."""
    model: str = "random"
    """Who plays: the folder of a `train tamer` or `train segments` run; random; advised, a player written by hand."""
    count: Annotated[int, AT_LEAST_1] = 20
    """Clips; with --pairs, pairs of them."""
    pairs: bool = False
    """Two clips to a question, for --ask pair; else one, for --ask presses."""
    candidates: Annotated[int, AT_LEAST_1] = 1
    """Pairs that are played for each one that is asked: of all, those about which the rewards of the `train segments`
    run in --model disagree most; 1: by chance."""
    steps: Annotated[int, AT_LEAST_0] = 0
    """Steps of a clip, from a place of the game by chance, as in Christiano et al. 2017; 0: whole games."""
    ms: Annotated[int, AT_LEAST_0] = 0
    """Milliseconds for which a step is shown; 0: as the game says."""
    seed: Annotated[int, SEED] = 0
    """Seed of the games; other clips of the same player have another one."""


def refuse_nonsense(config: Config) -> None:
    """What there is nothing to play by; nobody who could disagree."""
    if config.candidates > 1 and (not config.pairs or config.model in ("random", "advised")):
        raise UserError(
            "--candidates are pairs about which rewards disagree: it needs --pairs, and a `train segments` run as "
            "--model"
        )
    if not config.game and config.model in ("random", "advised"):
        raise UserError("--game is missing: what is played, such as tetris or cartpole")
