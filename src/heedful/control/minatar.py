"""The games of MinAtar (Young & Tian 2019): small ones in the manner of Atari, without any ROM."""

from __future__ import annotations

import logging

import numpy as np

from heedful.control.games import Choices, Over, one_of_n
from heedful.errors import UserError, of_extra
from heedful.registry import register

GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")


@register(
    "game",
    "minatar",
    help="breakout, asterix, freeway, seaquest, space_invaders",
    source="MinAtar 1.0",
)
class MinAtar:
    """One of the games, with its own sticky moves and rewards; at most so many `steps`."""

    def __init__(self, name: str = "breakout", steps: int = 1000):
        if name not in GAMES or steps < 1:
            raise UserError(f"minatar: the games are {', '.join(GAMES)}, steps are 1 or more")
        logging.disable(
            logging.WARNING
        )  # that nothing can be drawn by matplotlib, which is not asked to
        try:
            minatar = of_extra("minatar", "minatar", "the game minatar needs the package")
        finally:
            logging.disable(logging.NOTSET)
        self._env = minatar.Environment(name)
        self._moves = self._env.minimal_action_set()
        self.steps, self.ms = steps, 150
        self.reset(0)

    def reset(self, seed: int) -> None:
        """A new game, whose random numbers follow from the seed alone."""
        self._env.seed(seed)
        self._env.last_action = 0
        self._env.reset()
        self._left = self.steps
        self.over: Over = ""

    def choices(self) -> Choices:
        """`[A, A·(1 + 100 C)]`: what is in each cell, in the columns of each move that does something."""
        return one_of_n(self._env.state().astype(float).ravel(), len(self._moves))

    def advice(self) -> None:
        """Nobody has written a player for these."""

    def step(self, move: int) -> float:
        """Make a move; points."""
        reward, done = self._env.act(self._moves[move])
        self._left -= 1
        self.over = "terminated" if done else "" if self._left else "truncated"
        return float(reward)

    def frame(self) -> str:
        """Ten rows of ten cells, each with the number of the last thing that is in it."""
        things = self._env.state()
        number = (things * (1 + np.arange(things.shape[2]))).max(2)
        return "/".join("".join(str(min(n, 9)) if n else "." for n in row) for row in number)
