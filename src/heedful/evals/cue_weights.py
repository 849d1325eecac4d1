"""What each cue of a conversation is worth, by the ratings that a few of them have: a ridge regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heedful.errors import UserError
from heedful.evals.statistics import Interval, rank_correlation

FOLDS, DRAWS, LEAST = 5, 300, 20
PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)  # times the number of conversations: of standardised cues
Array = NDArray[Any]


@dataclass(frozen=True)
class CueWeights:
    """In the rating's units for each unit of a cue; `intervals` are 95 %, by drawing conversations anew.

    `correlation` is Spearman's, of the ratings with what weights that were fitted to other conversations say.
    """

    weights: tuple[float, ...]
    intervals: tuple[Interval, ...]
    correlation: float
    penalty: float
    rated: int


def fitted(cues: Sequence[Sequence[float]], ratings: Sequence[float], seed: int = 0) -> CueWeights:
    """Weights of the cues `[conversations, cues]`, each a mean over a conversation's replies.

    The penalty is the one by which folds predict each other best. A cue that never changes weighs nothing. UserError
    for fewer than 20 ratings, or ratings that are all the same.
    """
    x, y = np.asarray(cues, float), np.asarray(ratings, float)
    if len(y) < LEAST:
        raise UserError(
            f"{len(y)} conversations have a rating; weights of cues need at least {LEAST}"
        )
    if np.ptp(y) == 0:
        raise UserError(f"all {len(y)} ratings are {y[0]:g}; they say nothing of cues")
    rng = np.random.default_rng(seed)
    fold = rng.permutation(len(y)) % FOLDS
    predicted = {penalty: _by_others(x, y, fold, penalty) for penalty in PENALTIES}
    penalty = min(PENALTIES, key=lambda p: float(((predicted[p] - y) ** 2).mean()))
    drawn = (rng.integers(0, len(y), len(y)) for _ in range(DRAWS))
    weights = np.array([_ridge(x[rows], y[rows], penalty) for rows in drawn])
    low, high = np.quantile(weights, [0.025, 0.975], axis=0)
    return CueWeights(
        tuple(map(float, _ridge(x, y, penalty))),
        tuple((float(a), float(b)) for a, b in zip(low, high, strict=True)),
        rank_correlation(predicted[penalty], y),
        penalty,
        len(y),
    )


def _by_others(x: Array, y: Array, fold: Array, penalty: float) -> Array:
    told = np.empty(len(y))
    for k in range(FOLDS):
        mine, others = fold == k, fold != k
        w = _ridge(x[others], y[others], penalty)
        told[mine] = y[others].mean() + (x[mine] - x[others].mean(0)) @ w
    return told


def _ridge(x: Array, y: Array, penalty: float) -> Array:
    """Of cues in standard deviations, so that their units do not matter; the weights are of the cues as they are."""
    spread = x.std(0)
    unit = np.where(spread > 1e-12, spread, np.inf)  # what never changes becomes 0
    z = (x - x.mean(0)) / unit
    gram = z.T @ z + penalty * len(y) * np.eye(x.shape[1])
    return np.linalg.solve(gram, z.T @ (y - y.mean())) / unit
