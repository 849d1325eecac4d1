"""What a game is here, and how one is loaded: `tetris`, `tetris(pieces=50)`, `package.module:Game`."""

from __future__ import annotations

import inspect
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from heedful import registry
from heedful.calls import call, typed
from heedful.data.clips import Frame
from heedful.errors import UserError

Choices = Float[np.ndarray, "A F"]
Over = Literal["", "terminated", "truncated"]


@runtime_checkable
class Game(Protocol):
    """A game, one step after the other. The same seed and the same moves are the same game.

    What can be done now is told by features alone, one row a move: so a game whose moves are always the same, as keys
    are, and one whose moves are places, as in Tetris, are learned alike.
    """

    over: Over
    """How it ended: by itself, or by a limit of its own; empty while it goes on."""
    ms: int
    """How many milliseconds people need to see of a step."""

    def reset(self, seed: int) -> None:
        """Begin."""
        ...

    def choices(self) -> Choices:
        """The features of each move that can be made now, `[A, F]`; F is always the same."""
        ...

    def step(self, move: int) -> float:
        """Make a move; its reward, which people do not see."""
        ...

    def frame(self) -> Frame:
        """What people see after the last move (`data.clips`)."""
        ...

    def advice(self) -> Float[np.ndarray, " A"] | None:
        """How good a player who was written by hand thinks each move, None where there is none: simulated trainers
        press keys by it."""
        ...


def load_game(spec: str) -> Game:
    """A game by its name, with options, or a class or function of one's own."""
    name, arguments = call(f"--game {spec}", spec)
    make: Any = registry.load("game", name, "--game")
    try:
        game = make(**typed(f"--game {spec}", name, inspect.signature(make).parameters, arguments))
    except (TypeError, ValueError) as error:
        raise UserError(f"--game {spec}: {error}") from error
    if not isinstance(game, Game):
        raise UserError(f"--game {spec}: {type(game).__name__} is no game (heedful.control.games)")
    return game


def one_of_n(seen: Float[np.ndarray, " O"], n: int) -> Choices:
    """Features of n moves that are always the same: what is seen, and a constant, in the move's own columns."""
    return np.kron(np.eye(n), np.append(1.0, seen))
