"""Clips of games that a player plays, and games played again by their clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float

from heedful.control.games import Choices, Game
from heedful.data.clips import Clip, Frame
from heedful.errors import UserError


def filmed(
    game: Game, spec: str, player: Callable[[Game, np.random.Generator], int | None], seed: int
) -> tuple[Clip, float]:
    """A whole game, or as much of it as is played before a player says None; and its return."""
    rng, score = np.random.default_rng(seed), 0.0
    moves, frames = list[int](), list[Frame]()
    game.reset(seed)
    while not game.over and (move := player(game, rng)) is not None:
        moves.append(move)
        score += game.step(move)
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


def moves_of(game: Game, clip: Clip) -> Float[np.ndarray, "T F"]:
    """The features of each move that a clip shows."""
    return np.stack([choices[move] for choices, move in replayed(game, clip)])


def replayed(game: Game, clip: Clip) -> Iterator[tuple[Choices, int]]:
    """The choices and the move of each step that a clip shows; UserError where they are none of the game's."""
    game.reset(clip.seed)
    for number, move in enumerate(clip.moves):
        if game.over or not 0 <= move < len(choices := game.choices()):
            raise UserError(f"a clip of {clip.game}: its moves are none of that game's")
        if number >= clip.first:
            yield choices, move
        game.step(move)
