"""Ratings of models from comparisons of their responses: Bradley–Terry (1952) on the scale of Elo (1978)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from heedful.evals.statistics import Interval

SCALE, MEAN = 400 / np.log(10), 1000.0  # 400 points are odds of ten to one
STEPS = 100


def elo(wins: Mapping[tuple[str, str], float]) -> dict[str, tuple[float, Interval]]:
    """Each model's rating and its 95 % interval, by the likelihood's curvature, as if answers were independent.

    `wins[a, b]` is how often a was preferred to b, ties one half of each. Unlike win rates, ratings do not depend on
    who was shown beside whom. Their mean is 1000; half a win each way is added to every pair that was compared, so that
    who has never lost has a rating, too. Only models that comparisons join, however indirectly, have ratings on one
    scale: of several such sets the one with most models is rated.
    """
    names = _joined(wins)
    index = {name: k for k, name in enumerate(names)}
    won = np.zeros((len(names), len(names)))
    for (a, b), count in wins.items():
        if a in index:
            won[index[a], index[b]] += count
    met = (won + won.T) > 0
    won += met / 2
    n, rating = won + won.T, np.zeros(len(names))
    information = np.zeros_like(n)
    for _ in range(STEPS):  # Newton; the mean, which nothing tells, stays 0
        chance = 1 / (1 + np.exp(rating[None] - rating[:, None]))
        information = -n * chance * (1 - chance)
        information -= np.diag(information.sum(1))
        step = np.linalg.pinv(information) @ (won - n * chance).sum(1)
        rating = rating + step / max(1.0, float(abs(step).max(initial=0)))
        if abs(step).max(initial=0) < 1e-10:
            break
    spread = 1.96 * SCALE * np.sqrt(np.maximum(np.diag(np.linalg.pinv(information)), 0))
    points = MEAN + SCALE * rating
    return {
        name: (float(p), (float(p - s), float(p + s)))
        for name, p, s in zip(names, points, spread, strict=True)
    }


def _joined(wins: Mapping[tuple[str, str], float]) -> list[str]:
    """The largest set of models that are joined by comparisons."""
    group = {name: {name} for pair in wins for name in pair}
    for a, b in wins:
        if group[a] is not group[b]:
            both = group[a] | group[b]
            group |= dict.fromkeys(both, both)
    return sorted(max(group.values(), key=len, default=set()))
