"""A reward without what attributes of the text explain of it: reward − Σ slope·(attribute − its mean)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heedful.errors import UserError, did_you_mean
from heedful.evals.biases import TEXTUAL, Slopes, attributes
from heedful.types import Group, Reward


class Residual:
    """`types.Reward`. What the reward itself can do besides (its context, its batches) is asked of it."""

    def __init__(self, reward: Reward, slopes: dict[str, float], mean: dict[str, float]):
        self.reward, self.slopes, self.mean = reward, slopes, mean

    async def __call__(self, group: Group) -> list[float | None]:
        worth = await self.reward(group)
        rows = [attributes(group.prompt, r) for r in group.responses]
        return [
            w if w is None else w - self.explained(row) for w, row in zip(worth, rows, strict=True)
        ]

    def explained(self, row: Sequence[float]) -> float:
        """What the attributes of a response say of its reward."""
        of = dict(zip(TEXTUAL, row, strict=True))
        return sum(slope * (of[name] - self.mean[name]) for name, slope in self.slopes.items())

    def __getattr__(self, name: str) -> Any:
        if name == "reward":  # while it is made
            raise AttributeError(name)
        return getattr(self.reward, name)


def residual(where: str, reward: Reward, file: Path, of: str) -> Residual:
    """The reward less what the attributes `of` (names, spaces between) explain by a file of `heedful biases`."""
    names = of.split()
    if unknown := next((n for n in names if n not in TEXTUAL), None):
        raise UserError(
            f"{where}: there is no attribute '{unknown}'{did_you_mean(unknown, TEXTUAL)}; there are "
            f"{', '.join(TEXTUAL)}"
        )
    try:
        told = json.loads(file.read_text(encoding="utf-8"))["reward"]
        xx, xy, mean = (np.array(told[name]) for name in ("xx", "xy", "mean"))
        kept = Slopes(xx, xy, told["yy"], mean, told["responses"])
        if told["attributes"] != list(TEXTUAL) or xx.shape != (len(TEXTUAL),) * 2:
            raise ValueError("other attributes")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{where}: {file} is no file of `heedful biases COMPARISONS --reward REWARD --out FILE`"
        ) from error
    means = dict(zip(TEXTUAL, mean.tolist(), strict=True))
    return Residual(reward, kept.of(names), means)
