"""How far raters agree: Krippendorff's α, gold accuracy, position bias, self-consistency. Only numpy.

Ratings come as three sequences of the same length: which unit was rated, by whom, and what they said. A rater
who has not said anything about a unit is simply not there. Where data cannot answer a question the value is
None, and `why` says so in a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from heedful.evals.statistics import wilson

Level = Literal["nominal", "ordinal", "interval"]
LEAST_DRAWS = 0.2  # share of the bootstrap's draws that must be defined


@dataclass(frozen=True)
class Alpha:
    """α with a percentile interval; 1 is perfect agreement, 0 what chance would give, below 0 worse."""

    value: float | None
    low: float | None
    high: float | None
    units: int  # that two raters or more have rated
    raters: int
    values: int  # ratings of those units
    why: str | None = None


@dataclass(frozen=True)
class Share:
    """A proportion with its Wilson interval; None where there is nothing to count."""

    count: int
    n: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """How much one share is above another, with an interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Swaps:
    """What raters said when the same pair came again the other way round."""

    consistent: Share  # the same response, or a tie, both times
    first: Share  # of those that kept to a place on the screen: the first one


@dataclass(frozen=True)
class Ratings:
    """Ratings of units with two raters or more, as numbers. R ratings; ids count from 0."""

    unit: np.ndarray  # [R]
    rater: np.ndarray  # [R]
    value: np.ndarray  # [R]; for nominal and ordinal ones the number of the category
    cluster: np.ndarray  # [units] which units are drawn together
    people: list[Hashable]  # the raters' names


def share(count: int, n: int, *, level: float = 0.95) -> Share:
    """count of n with Wilson's interval (Wilson 1927), which behaves at 0, at n and for small n."""
    if n == 0:
        return Share(count, n, None, None, None)
    low, high = wilson(count, n, level=level)
    return Share(count, n, count / n, low, high)


def difference(one: Share, other: Share) -> Difference | None:
    """one − other of independent shares, with the interval that their Wilson intervals make (Newcombe 1998, method 10);
    None where one of them counts nothing."""
    if one.value is None or other.value is None:
        return None
    assert one.low is not None and one.high is not None
    assert other.low is not None and other.high is not None
    value = one.value - other.value
    below = math.hypot(one.value - one.low, other.high - other.value)
    above = math.hypot(one.high - one.value, other.value - other.low)
    return Difference(value, value - below, value + above)


def alpha(
    units: Sequence[Hashable],
    raters: Sequence[Hashable],
    values: Sequence[Any],
    *,
    level: Level,
    clusters: Sequence[Hashable] | None = None,
    draws: int = 200,
    seed: int = 0,
) -> Alpha:
    """Krippendorff's α (Computing Krippendorff's Alpha-Reliability, 2011) with a bootstrap interval.

    The bootstrap draws units *and* raters with replacement (two ways, Owen 2007): an interval over units alone
    would promise what other raters need not keep. `clusters` names what each rating's unit is part of, where
    several units hang together (the pairs of one ranking); then clusters are drawn. `draws` = 0: no interval.
    """
    r = _ratings(units, raters, values, level, clusters)
    n_units, n_raters = len(r.cluster), len(r.people)
    if n_units == 0:
        return Alpha(None, None, None, 0, 0, 0, "no two have rated the same thing yet")
    size = (n_units, n_raters, len(r.unit))
    whole = _alpha(r, level, np.ones(n_units), np.ones(n_raters))
    if whole is None:
        why = "everybody always said the same, so there is no chance agreement to compare with"
        return Alpha(None, None, None, *size, why)
    rng = np.random.default_rng(seed)
    n_clusters = int(r.cluster.max()) + 1
    found = []
    for _ in range(draws):
        drawn = np.bincount(rng.integers(0, n_clusters, n_clusters), minlength=n_clusters)
        asked = np.bincount(rng.integers(0, n_raters, n_raters), minlength=n_raters)
        value = _alpha(r, level, drawn[r.cluster].astype(float), asked.astype(float))
        if value is not None:
            found.append(value)
    if len(found) < max(1.0, LEAST_DRAWS * draws):
        why = "too few ratings for an interval" if draws else None
        return Alpha(whole, None, None, *size, why)
    low, high = np.quantile(found, [0.025, 0.975])
    return Alpha(whole, float(low), float(high), *size)


def with_others(
    units: Sequence[Hashable], raters: Sequence[Hashable], values: Sequence[Any]
) -> dict[Hashable, Share]:
    """Of each rater: how often others who rated the same unit said the same, of all such comparisons.

    Not corrected for chance. The interval takes comparisons as independent, which flatters it a little.
    """
    r = _ratings(units, raters, values, "nominal", None)
    if not len(r.unit):
        return {}
    cell = r.unit * (int(r.value.max()) + 1) + r.value
    agreed = np.bincount(r.rater, np.bincount(cell)[cell] - 1)
    compared = np.bincount(r.rater, np.bincount(r.unit)[r.unit] - 1)
    return {
        name: share(int(a), int(n)) for name, a, n in zip(r.people, agreed, compared, strict=True)
    }


def position(places: Sequence[int]) -> Share:
    """How often the first place on the screen won, of the answers that preferred one (0 is the first place).

    Orders are random, so that without a bias it is one half in the long run.
    """
    return share(sum(1 for p in places if p == 0), len(places))


def swaps(before: Sequence[int | None], again: Sequence[int | None]) -> Swaps:
    """Self-consistency from pairs asked twice: the *place* (0, 1; None is a tie) chosen before and when swapped.

    Whoever chooses another place both times means the same response. Whoever keeps to a place shows which
    place they lean to.
    """
    both = list(zip(before, again, strict=True))
    kept = [b for b, a in both if b is not None and b == a]
    consistent = sum(1 for b, a in both if (b is None) == (a is None) and (b is None or b != a))
    return Swaps(share(consistent, len(both)), share(sum(1 for p in kept if p == 0), len(kept)))


def _ratings(
    units: Sequence[Hashable],
    raters: Sequence[Hashable],
    values: Sequence[Any],
    level: Level,
    clusters: Sequence[Hashable] | None,
) -> Ratings:
    """Numbers for names; units with one rating are left out, they say nothing about agreement."""
    if not len(units) == len(raters) == len(values) == len(units if clusters is None else clusters):
        raise ValueError("units, raters, values and clusters must have the same length")
    unit, _ = _numbered(units)
    keep: list[int] = np.flatnonzero(np.bincount(unit)[unit] >= 2).tolist() if len(unit) else []
    unit, _ = _numbered([units[i] for i in keep])
    person, people = _numbered([raters[i] for i in keep])
    if len(np.unique(unit * (len(people) + 1) + person)) < len(unit):
        raise ValueError("somebody has rated the same unit twice")
    whole, _ = _numbered([(units if clusters is None else clusters)[i] for i in keep])
    cluster = np.zeros(int(unit.max(initial=-1)) + 1, dtype=np.int64)
    cluster[unit] = whole
    said = [values[i] for i in keep]
    if level == "nominal":
        value = _numbered(said)[0]
    elif level == "ordinal":
        value = np.unique(said, return_inverse=True)[1] if said else np.zeros(0, dtype=np.int64)
    else:
        value = np.array(said, dtype=float)
    return Ratings(unit, person, value, cluster, people)


def _numbered(names: Sequence[Hashable]) -> tuple[np.ndarray, list[Hashable]]:
    known: dict[Hashable, int] = {}
    numbers = [known.setdefault(name, len(known)) for name in names]
    return np.array(numbers, dtype=np.int64), list(known)


def _alpha(r: Ratings, level: Level, units: np.ndarray, people: np.ndarray) -> float | None:
    """α = 1 − D_o/D_e where unit u counts `units[u]` times and rater k `people[k]` times; None if undefined.

    A rater drawn twice is never compared with themselves. With all weights 1 this is the coincidence matrix's α:
    each unit's pairs of ratings weigh 1/(m−1), m its number of ratings.
    """
    v = people[r.rater]
    n = len(units)
    m = np.bincount(r.unit, v, n)
    pairs = m * m - np.bincount(r.unit, v * v, n)  # ordered pairs of different raters
    weight = np.where(pairs > 0, units * m / np.where(pairs > 0, pairs, 1.0), 0.0)
    each = weight[r.unit] * v * (m[r.unit] - v)  # how much each rating counts in the margins
    total, said = each.sum(), r.value[each > 0]
    if total <= 1 or said.min() == said.max():
        return None
    if level == "nominal":
        k = int(r.value.max()) + 1
        same = np.bincount(r.unit * k + r.value, v, n * k).reshape(n, k) ** 2
        agree = same.sum(1) - np.bincount(r.unit, v * v, n)
        observed = (weight * (pairs - agree)).sum() / total
        margins = np.bincount(r.value, each)
        expected = (total**2 - (margins**2).sum()) / (total * (total - 1))
    else:
        x = r.value
        if level == "ordinal":
            # Krippendorff's ordinal metric, (Σ_{g=c}^{k} n_g − (n_c+n_k)/2)², is that of midranks squared.
            counts = np.bincount(r.value, each)
            x = (np.cumsum(counts) - counts / 2)[r.value]
        x = x - (each * x).sum() / total  # the same differences, numerically better
        s1, s2 = np.bincount(r.unit, v * x, n), np.bincount(r.unit, v * x * x, n)
        observed = 2 * (weight * (m * s2 - s1 * s1)).sum() / total
        expected = 2 * (total * (each * x * x).sum() - (each * x).sum() ** 2)
        expected /= total * (total - 1)
    return float(1 - observed / expected)
