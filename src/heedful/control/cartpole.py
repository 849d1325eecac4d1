"""Cart-pole, Gymnasium's: keep a pole upright by pushing the cart under it to the left or to the right."""

from __future__ import annotations

import math

import numpy as np

from heedful.control.games import Choices, Over, one_of_n
from heedful.errors import UserError, of_extra
from heedful.registry import register

USUAL = np.array([2.4, 2.0, 0.21, 2.0])  # metres, metres a second, radians, radians a second
LENGTH = 30.0  # of the pole that is drawn


@register(
    "game", "cartpole", help="keep a pole upright by pushing its cart", source="Gymnasium 1.4"
)
class CartPole:
    """A reward of 1 a step while the pole stands; it is over when it leans too far, and after so many `steps`."""

    def __init__(self, steps: int = 500):
        if steps < 1:
            raise UserError("cartpole: steps are 1 or more")
        gymnasium = of_extra("gymnasium", "gym", "the game cartpole needs the package")
        self._env = gymnasium.make("CartPole-v1").unwrapped
        self.steps, self.ms = steps, 100
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Nearly upright, nearly at rest."""
        self._seen, _ = self._env.reset(seed=seed)
        self._left = self.steps
        self.over: Over = ""

    def choices(self) -> Choices:
        """`[2, 10]`: place, speed, angle and its speed, in the columns of left and of right."""
        return one_of_n(self._seen / USUAL, 2)

    def advice(self) -> np.ndarray:
        """To push to where the pole is about to fall."""
        x, speed, angle, turning = self._seen
        lean = angle + 0.3 * turning + 0.02 * x + 0.05 * speed
        return np.array([-lean, lean])

    def step(self, move: int) -> float:
        """Push to the left (0) or to the right (1)."""
        self._seen, reward, fell, _, _ = self._env.step(int(move))
        self._left -= 1
        self.over = "terminated" if fell else "" if self._left else "truncated"
        return float(reward)

    def frame(self) -> list[list[float]]:
        """The track, the cart, the pole."""
        x, _, angle, _ = (float(v) for v in self._seen)
        middle = 50 + 40 * x / 2.4
        tip = [middle + LENGTH * math.sin(angle), 46 - LENGTH * math.cos(angle)]
        shapes = [[5, 52, 95, 52, 1, 1], [middle - 7, 48, middle + 7, 48, 6, 2]]
        shapes.append([middle, 46, *tip, 2, 3])
        return [[round(v, 2) for v in stroke] for stroke in shapes]
