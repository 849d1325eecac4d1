"""Simulated people who compare segments of games."""

from __future__ import annotations

import numpy as np

from heedful.control.segments import Compared, Played


def by_return(
    played: Played, count: int, steps: int, errors: float, rng: np.random.Generator
) -> list[Compared]:
    """Pairs of segments of up to so many steps, from places by chance, compared by somebody who sees what they earned:
    a tie where that is the same, and a share of `errors` of the others the wrong way round."""

    def segment() -> tuple[np.ndarray, float]:
        game = int(rng.integers(len(played.mask)))
        length = int(played.mask[game].sum())
        start = int(rng.integers(length))
        end = min(start + steps, length)
        return played.features[game, start:end].numpy(), float(played.reward[game, start:end].sum())

    compared = []
    for _ in range(count):
        (first, earned), (second, other) = segment(), segment()
        preferred = 0.5 if earned == other else float(earned > other)
        wrong = preferred != 0.5 and rng.random() < errors
        compared.append(Compared(first, second, 1 - preferred if wrong else preferred))
    return compared
