"""One rule for a score that has risen and now falls, whoever measures it and however often.

`ENOUGH` evaluations in a row lie below the best of those before them, each by more than `SURE` standard errors of the
difference. One may be chance, and the best of many is high by chance: of 150 series of 240 noisy rounds without a
trend 2.5 standard errors let 12 % ring, 3 one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import variance

ENOUGH = 3
SURE = 3.0
Error = Callable[
    [int, int], float
]  # (place of the best, another place) → standard error of their difference


def spread(falls: Sequence[float]) -> float:
    """The variance of a fall as several measures see it, each of which has errors of its own; 0 of a single one, whose
    error nobody knows. That of one measure and not of their mean: they may err alike."""
    return variance(falls) if len(falls) > 1 else 0.0


def best_before(means: Sequence[float], place: int) -> int:
    """The place of the highest mean before this one; the first of several."""
    return max(range(place), key=lambda k: means[k])


def has_fallen(means: Sequence[float], error: Error, place: int) -> bool:
    """Whether the rule holds at a place, for the evaluations up to it."""
    last = range(place - ENOUGH + 1, place + 1)
    return last[0] > 0 and all(
        means[best] - means[k] > SURE * error(best, k)
        for k in last
        for best in [best_before(means, k)]
    )


def first_fall(means: Sequence[float], error: Error) -> int | None:
    """The first place at which the rule holds."""
    return next((k for k in range(len(means)) if has_fallen(means, error, k)), None)
