"""Who presses keys: a simulated trainer; and games in which a player learns from each press while it plays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from heedful.control.filming import replayed
from heedful.control.games import Game
from heedful.control.tamer import Moment, Press, Tamer, relative
from heedful.data.clips import Clip, Frame
from heedful.errors import UserError

KEPT = 200  # moments that a press may still be about


@dataclass(frozen=True)
class Seen:
    """What a trainer sees of a move: what it looks like, from when to when (seconds), and, for one who is simulated,
    what the game's advice said of it and of the alternatives."""

    frame: Frame
    start: float
    end: float
    move: int
    advice: Float[np.ndarray, " A"] | None


class Trainer(Protocol):
    """Sees each move; returns the presses that it makes, some of them perhaps after the move's end."""

    def __call__(self, seen: Seen) -> list[Press]: ...


@dataclass
class Simulated:
    """Presses at a share of the moves: good where `advice` finds the move among the best of the alternatives, else bad;
    at some it slips. It takes as long to press as people do."""

    seed: int
    pressed: float = 0.7
    slips: float = 0.1
    good: float = 0.2
    """What share of the alternatives, from the best on, is called good."""
    delay: tuple[float, float] = (0.2, 0.8)
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def __call__(self, seen: Seen) -> list[Press]:
        if self.rng.random() >= self.pressed:
            return []
        advice = seen.advice
        if advice is None:
            raise UserError("this game has no simulated trainer; people can press keys")
        better = (advice > advice[seen.move] + 1e-9).mean()
        good = (better < self.good) != (self.rng.random() < self.slips)
        return [Press(seen.start + self.rng.uniform(*self.delay), 1.0 if good else -1.0)]


@dataclass(frozen=True)
class Told:
    """A game that has been played and how: its return, its moves, and the presses that were made."""

    seed: int
    moves: tuple[int, ...]
    score: float
    presses: tuple[Press, ...]

    def row(self) -> dict[str, Any]:
        """As a line of JSON."""
        return asdict(self)


def again(game: Game, player: Tamer, clip: Clip, presses: Sequence[Press]) -> None:
    """What was pressed at a clip is learned, as if the game were played now; times count from its first frame."""
    shown = clip.ms / 1000
    moments = [
        Moment(k * shown, (k + 1) * shown, relative(choices)[move])
        for k, (choices, move) in enumerate(replayed(game, clip))
    ]
    for press in sorted(presses, key=lambda p: p.time):
        player.learn(moments, press)


def imitated(game: Game, player: Tamer, clip: Clip) -> None:
    """Each move that a clip shows is learned as if it had been called good: what somebody did is a demonstration."""
    most = player.delay[1]
    for choices, move in replayed(game, clip):
        # Alone in the window of the press, which is therefore about this move and no other.
        alone = Moment(-most - 1.0, 1.0, relative(choices)[move])
        player.learn([alone], Press(0.0, 1.0))


def taught(
    game: Game,
    player: Tamer,
    trainer: Trainer,
    seed: int,
    *,
    seconds: float | None = None,
    most: int | None = None,
) -> Told:
    """One game, in which the player learns from each press as soon as it is made, until there were `most` in all.

    A move is seen for `seconds`, else for as long as the game says; times count from the game's beginning.
    """  # fmt: skip
    shown = game.ms / 1000 if seconds is None else seconds
    rng = np.random.default_rng(seed)
    moments, waiting, pressed = list[Moment](), list[Press](), list[Press]()
    moves, score = list[int](), 0.0
    game.reset(seed)
    while not game.over and (most is None or player.presses < most):
        move, advice = player(game, rng), game.advice()
        start, end = len(moves) * shown, (len(moves) + 1) * shown
        moments = [*moments, Moment(start, end, relative(game.choices())[move])][-KEPT:]
        score += game.step(move)
        moves.append(move)
        waiting += trainer(Seen(game.frame(), start, end, move, advice))
        due = sorted((p for p in waiting if p.time < end or game.over), key=lambda p: p.time)
        waiting = [p for p in waiting if p not in due]
        for press in due:
            if (most is None or player.presses < most) and player.learn(moments, press):
                pressed.append(press)
    return Told(seed, tuple(moves), score, tuple(pressed))
