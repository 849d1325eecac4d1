"""What a run of answers says with confidence: shares, medians and falls with intervals. Only the standard library.

The numbers are looked at again and again while answers come in, so levels are 99 %, and whoever warns of them waits
until the whole interval is beyond a threshold.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, median, variance

LEVEL = 0.99


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, of so many answers."""

    value: float
    low: float
    high: float
    n: int


def typical(values: Sequence[float], *, level: float = LEVEL) -> Estimate | None:
    """The median with the interval between two of the values, which holds whatever they are distributed like: at most
    1 − level is the chance that fewer than k of n fall on one side (Conover, Practical Nonparametric Statistics, §3.2).
    None where there are too few for any such interval."""
    ordered, n = sorted(values), len(values)
    tail, k = 0.0, 0
    while k < n and (more := tail + math.comb(n, k) / 2**n) <= (1 - level) / 2:
        tail, k = more, k + 1
    if k == 0:
        return None
    return Estimate(median(ordered), ordered[k - 1], ordered[n - k], n)


def fall(
    before: Sequence[float], after: Sequence[float], *, level: float = LEVEL
) -> Estimate | None:
    """How much lower the mean of numbers from 0 to 1 has become, with a normal interval. Each side gets a 0 and a 1
    besides (Agresti and Caffo 2000), without which a few that are all the same would seem certain. None where one side
    has less than ten."""
    if min(len(before), len(after)) < 10:
        return None
    sides = [[*values, 0.0, 1.0] for values in (before, after)]
    drop = fmean(sides[0]) - fmean(sides[1])
    error = math.sqrt(sum(variance(values) / len(values) for values in sides))
    half = NormalDist().inv_cdf((1 + level) / 2) * error
    return Estimate(drop, drop - half, drop + half, len(before) + len(after))


def halves(values: Sequence[float], *, level: float = LEVEL) -> Estimate | None:
    """How much lower the newer half of a sequence in time is than the older one."""
    middle = len(values) // 2
    return fall(values[:middle], values[middle:], level=level)


def agreements(
    units: Sequence[Hashable],
    raters: Sequence[str],
    values: Sequence[object],
    tasks: Sequence[str],
) -> dict[tuple[str, str], float]:
    """By (task, rater): the share of the others' ratings of the same units that say the same; those with no other are
    left out."""
    by_unit: dict[Hashable, list[tuple[str, object, str]]] = defaultdict(list)
    for unit, rater, value, task in zip(units, raters, values, tasks, strict=True):
        by_unit[unit].append((rater, value, task))
    same: dict[tuple[str, str], list[float]] = defaultdict(list)
    for ratings in by_unit.values():
        for i, (rater, value, task) in enumerate(ratings):
            others = [other == value for j, (_, other, _) in enumerate(ratings) if j != i]
            if others:
                same[task, rater].append(sum(others) / len(others))
    return {key: fmean(shares) for key, shares in same.items()}
