"""Means with bootstrap intervals, and win rates with ties."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

Interval = tuple[float, float]
NORMAL = NormalDist().inv_cdf(0.975)


def wilson(
    count: float, n: float, *, level: float = 0.95, critical: float | None = None
) -> Interval:
    """Wilson's interval of a share (1927), (p̂ + z²/2n ± z√(p̂(1−p̂)/n + z²/4n²)) / (1 + z²/n), with the normal's z for
    the level or a critical value in its place; n must be above 0."""
    z = NormalDist().inv_cdf((1 + level) / 2) if critical is None else critical
    p = count / n
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def student(freedom: int, level: float = 0.95) -> float:
    """t with P(|T| < t) = level for Student's T of so many degrees of freedom: the finite series of Abramowitz and
    Stegun, 26.7.3 and 26.7.4, and bisection; beyond 1,000 degrees the first term of 26.7.5."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    if freedom > 1000:
        return z + (z**3 + z) / (4 * freedom)
    low, high = 0.0, math.pi / 2  # of the angle atan(t/√freedom)
    for _ in range(60):
        angle = (low + high) / 2
        low, high = (angle, high) if _within(angle, freedom) < level else (low, angle)
    return math.sqrt(freedom) * math.tan(low)


def _within(angle: float, freedom: int) -> float:
    """P(|T| < √freedom·tan(angle))."""
    odd, cosine = freedom % 2, math.cos(angle)
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= cosine * cosine * k / (k + 1)
    return (angle + math.sin(angle) * total) * 2 / math.pi if odd else math.sin(angle) * total


def bootstrap_ci(
    values: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of the (weighted) mean of independent values (Efron 1979)."""
    x = np.asarray(values, dtype=float)
    if len(x) == 0:
        return (math.nan, math.nan)
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=float)
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(x), (draws, len(x)))
    means = (x * w)[rows].sum(1) / np.maximum(w[rows].sum(1), 1e-12)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return (float(low), float(high))


def crossed_ci(
    values: Sequence[Sequence[float]], *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> Interval:
    """Interval of the mean of `values` `[S, P]`, S runs on the same P prompts, when both might have been others.

    Runs and prompts are drawn with replacement, independently of each other (the pigeonhole bootstrap, Owen
    2007), and the percentiles of the means are taken. One run gives the interval over prompts alone. The noise
    of single cells, such as that of sampling, counts up to threefold; but the variance between S runs is
    underestimated by the factor (S-1)/S, which matters for few runs.
    """
    x = np.asarray(values, dtype=float)
    if x.ndim != 2 or x.size == 0:
        raise ValueError(f"needs the same number of values of every run, got the shape {x.shape}")
    rng = np.random.default_rng(seed)
    runs, prompts = (rng.multinomial(n, np.full(n, 1 / n), size=draws) for n in x.shape)
    means = np.einsum("ds,sp,dp->d", runs, x, prompts, optimize=True) / x.size
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return (float(low), float(high))


def wins(scores: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """Per prompt 1 for a higher score, ½ for a tie, 0 for a lower; swapping sides gives 1 minus this."""
    return [
        0.5 * (float(a > b) + 1.0 - float(b > a)) for a, b in zip(scores, baseline, strict=True)
    ]


def win_rate(scores: Sequence[float], baseline: Sequence[float]) -> tuple[float, Interval]:
    """Mean of `wins` over prompts with its 95 % bootstrap interval, scores paired by prompt."""
    w = wins(scores, baseline)
    return float(np.mean(w)), bootstrap_ci(w)


def rank_correlation(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's coefficient; equal values share the middle of their ranks. 0 where one of the two never changes."""
    a, b = (_ranks(np.asarray(values, dtype=float)) for values in (x, y))
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[which]
