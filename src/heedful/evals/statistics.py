"""Means with bootstrap intervals, and win rates with ties."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Interval = tuple[float, float]


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


def wins(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Per prompt 1 for a higher score, ½ for a tie, 0 for a lower; swapping sides gives 1 minus this."""
    return [0.5 * (float(a > b) + 1.0 - float(b > a)) for a, b in zip(ours, theirs, strict=True)]


def win_rate(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, Interval]:
    """Mean of `wins` over prompts with its 95 % bootstrap interval, scores paired by prompt."""
    w = wins(ours, theirs)
    return float(np.mean(w)), bootstrap_ci(w)
