"""TAMER: a model H(s, a) of the reward that a person gives by key presses, and a player who is greedy in it.

A press comes some time after what it is about: its credit is shared out among the moves of a window of time before it
(Knox & Stone 2009, section 3.2). H is linear in what makes a move different from the others that could have been made;
its fit, ridge regression, is exact after each press.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from heedful.control.games import Choices, Game

Delay = tuple[float, float]  # seconds, the least and the most, between a move and a press about it
DELAY: Delay = (0.2, 0.8)  # Knox, Stone & Breazeal 2013: uniform between these
RIDGE = 1.0


@dataclass(frozen=True)
class Moment:
    """A move while it is seen: from when to when, in seconds, and its features less the mean of the alternatives'."""

    start: float
    end: float
    features: Float[np.ndarray, " F"]


@dataclass(frozen=True)
class Press:
    """A key press: when, in seconds, and 1 for good or −1 for bad."""

    time: float
    value: float


def relative(choices: Choices) -> Choices:
    """What each move has that the mean of all has not. What all moves of a state share is nothing to choose by, and
    would be most of what a regression sees."""
    return choices - choices.mean(0)


def credits(moments: Sequence[Moment], time: float, delay: Delay) -> list[float]:
    """The share of a press at `time` that is due to each moment: P(start ≤ time − d < end), d uniform in `delay`.

    They add up to less than 1 where the window reaches before the first or behind the last moment.
    """
    least, most = delay
    width = most - least
    if width == 0:
        return [float(m.start <= time - least < m.end) for m in moments]
    overlaps = (min(time - m.start, most) - max(time - m.end, least) for m in moments)
    return [max(o, 0.0) / width for o in overlaps]


class Tamer:
    """H, fitted press by press: w minimises Σ (h − wᵀx)² + ridge·|w|², x the features that a press is credited to."""

    def __init__(self, features: int, delay: Delay = DELAY, ridge: float = RIDGE):
        self.features, self.delay, self.presses = features, delay, 0
        self.inverse = np.eye(features) / ridge  # of Σ x xᵀ + ridge·I
        self.weights = np.zeros(features)

    def learn(self, moments: Sequence[Moment], press: Press) -> bool:
        """Fit to one press more; False where it came too early or too late to be about any of the moments."""
        shares = credits(moments, press.time, self.delay)
        if not sum(shares):
            return False
        x = sum(c * m.features for c, m in zip(shares, moments, strict=True) if c) / sum(shares)
        assert isinstance(x, np.ndarray)
        gain = self.inverse @ x
        scale = 1 + x @ gain
        # Sherman & Morrison: the inverse after one row more.
        self.weights = self.weights + gain * (press.value - x @ self.weights) / scale
        self.inverse = self.inverse - np.outer(gain, gain) / scale
        self.presses += 1
        return True

    def worth(self, choices: Choices) -> Float[np.ndarray, " A"]:
        """H of each move, up to what they share."""
        return relative(choices) @ self.weights

    def __call__(self, game: Game, rng: np.random.Generator) -> int:
        """The best move; by chance among equals, as before the first press all are."""
        worth = self.worth(game.choices())
        best = np.flatnonzero(worth >= worth.max() - 1e-9)
        return int(rng.choice(best))

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """All that there is to go on from: numbers, and arrays."""
        about = {"delay": list(self.delay), "presses": self.presses}
        return about, {"weights": self.weights, "inverse": self.inverse}

    @classmethod
    def of(cls, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Tamer:
        """The inverse of `state`."""
        least, most = about["delay"]
        known = cls(len(arrays["weights"]), (float(least), float(most)))
        known.weights, known.inverse = arrays["weights"], arrays["inverse"]
        known.presses = int(about["presses"])
        return known
