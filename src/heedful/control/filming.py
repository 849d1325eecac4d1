"""Clips of games that a player plays."""

from __future__ import annotations

import numpy as np

from heedful.control.games import Game
from heedful.control.players import Player
from heedful.data.clips import Clip, Frame


def filmed(game: Game, spec: str, player: Player, seed: int) -> tuple[Clip, float]:
    """A whole game, and its return."""
    rng, score = np.random.default_rng(seed), 0.0
    moves, frames = list[int](), list[Frame]()
    game.reset(seed)
    while not game.over:
        moves.append(player(game, rng))
        score += game.step(moves[-1])
        frames.append(game.frame())
    return Clip(spec, seed, 0, tuple(moves), game.ms, tuple(frames)), score


def cut(clip: Clip, steps: int, rng: np.random.Generator) -> Clip:
    """So many steps of it from a place by chance; fewer at its end, so that how games end is seen, too.

    Every step is as likely to be the first one: a clip may therefore be of the last step alone.
    """
    first = int(rng.integers(len(clip.frames)))
    last = min(first + steps, len(clip.frames))
    moves = clip.moves[: clip.first + last]
    return Clip(clip.game, clip.seed, clip.first + first, moves, clip.ms, clip.frames[first:last])
