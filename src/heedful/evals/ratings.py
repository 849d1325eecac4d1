"""Ratings of models from comparisons of their responses: Bradley–Terry (1952) on the scale of Elo (1978)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from heedful.evals.statistics import Interval

SCALE, MEAN = 400 / np.log(10), 1000.0  # 400 points are odds of ten to one
STEPS = 100
BLOCK = 10_000  # clusters summed up at once


class Battle(NamedTuple):
    """Two models whose responses somebody compared: what the first won (1, ½ or 0), on which prompt, who said so."""

    first: str
    second: str
    won: float
    prompt: Hashable
    rater: Hashable


def elo(
    wins: Mapping[tuple[str, str], float], battles: Sequence[Battle] = ()
) -> dict[str, tuple[float, Interval]]:
    """Each model's rating and its 95 % interval.

    `wins[a, b]` is how often a was preferred to b, ties one half of each. Unlike win rates, ratings do not depend on
    who was shown beside whom. Their mean is 1000; half a win each way is added to every pair that was compared, so that
    who has never lost has a rating, too. Only models that comparisons join, however indirectly, have ratings on one
    scale: of several such sets the one with most models is rated.

    Without the `battles` that the wins were counted from, intervals are those of the likelihood's curvature, as if
    answers were independent. With them they allow for answers about one prompt and of one rater, which hang together:
    the sandwich H⁻¹BH⁻¹ with B = `two_way` of the scores (Cameron, Gelbach & Miller 2011), and nowhere less than the
    curvature, since of few prompts or raters B is too small.
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
    information, chance = np.zeros_like(n), np.zeros_like(n)
    for _ in range(STEPS):  # Newton; the mean, which nothing tells, stays 0
        chance = 1 / (1 + np.exp(rating[None] - rating[:, None]))
        information = -n * chance * (1 - chance)
        information -= np.diag(information.sum(1))
        step = np.linalg.pinv(information) @ (won - n * chance).sum(1)
        rating = rating + step / max(1.0, float(abs(step).max(initial=0)))
        if abs(step).max(initial=0) < 1e-10:
            break
    bread = np.linalg.pinv(information)
    variance = np.diag(bread)
    rated = [battle for battle in battles if battle.first in index]
    if rated:
        first, second = _sides(rated, index)
        surprise = np.array([b.won for b in rated]) - chance[first, second]
        meat = two_way(rated, [(first, surprise), (second, -surprise)], len(names))
        variance = np.maximum(variance, np.diag(bread @ meat @ bread))
    spread = 1.96 * SCALE * np.sqrt(np.maximum(variance, 0))
    points = MEAN + SCALE * rating
    return {
        name: (float(p), (float(p - s), float(p + s)))
        for name, p, s in zip(names, points, spread, strict=True)
    }


def effective(
    battles: Sequence[Battle], models: Mapping[str, int], shares: np.ndarray
) -> np.ndarray:
    """How many independent battles each model's share of wins is worth: their number over the design effect (Kish
    1965), by `two_way`. Of one that always won, or never, nothing tells it: as many as there are prompts."""
    first, second = _sides(battles, models)
    won = np.array([b.won for b in battles])
    scores = [(first, won - shares[first]), (second, 1 - won - shares[second])]
    alone = sum(np.bincount(who, x * x, len(models)) for who, x in scores)
    n = np.bincount(np.concatenate([first, second]), minlength=len(models)).astype(float)
    together = np.diag(two_way(battles, scores, len(models)))
    found = n / np.maximum(1.0, together / np.maximum(alone, 1e-12))
    for k in np.flatnonzero(alone < 1e-12):
        found[k] = len({b.prompt for b in battles if k in (models[b.first], models[b.second])})
    return found


def two_way(
    battles: Sequence[Battle], scores: Sequence[tuple[np.ndarray, np.ndarray]], models: int
) -> np.ndarray:
    """The covariance `[models, models]` of the sum of `scores`, (model, number) of each battle, when those about one
    prompt hang together, and so do those of one rater: Σ ssᵀ over prompts, and over raters, less that over both.

    s is the sum within a prompt, a rater, or both; each Σ has the factor G/(G−1) for its G. Of a single prompt, or
    rater, nothing tells how others would differ: then it is left out, and who is asked is taken as given."""
    clusters = [_numbered([b.prompt for b in battles]), _numbered([b.rater for b in battles])]
    several = [ids for ids in clusters if ids.max() > 0]
    signs = [1.0] * len(several)
    if len(several) == 2:
        both = _numbered(list(zip(*(ids.tolist() for ids in several), strict=True)))
        several, signs = [*several, both], [1.0, 1.0, -1.0]
    total = np.zeros((models, models))
    for sign, ids in zip(signs, several, strict=True):
        number = int(ids.max()) + 1
        total += sign * number / (number - 1) * _squares(ids, scores, models)
    return total


def _sides(battles: Sequence[Battle], models: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    first = np.array([models[b.first] for b in battles])
    return first, np.array([models[b.second] for b in battles])


def _numbered(keys: Sequence[Hashable]) -> np.ndarray:
    """0, 1, … by first appearance."""
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(key, len(number)) for key in keys])


def _squares(
    ids: np.ndarray, scores: Sequence[tuple[np.ndarray, np.ndarray]], models: int
) -> np.ndarray:
    """Σ ssᵀ over clusters, some at a time: of a million there would be too many rows."""
    order = np.argsort(ids, kind="stable")
    number = int(ids.max()) + 1
    begins = list(range(0, number, BLOCK))
    places = np.searchsorted(ids[order], [*begins, number])
    total = np.zeros((models, models))
    for begin, low, high in zip(begins, places, places[1:], strict=False):
        part = order[low:high]
        row, size = (ids[part] - begin) * models, min(BLOCK, number - begin) * models
        each = [np.bincount(row + who[part], x[part], size) for who, x in scores]
        sums = np.sum(each, 0).reshape(-1, models)
        total += sums.T @ sums
    return total


def _joined(wins: Mapping[tuple[str, str], float]) -> list[str]:
    """The largest set of models that are joined by comparisons."""
    group = {name: {name} for pair in wins for name in pair}
    for a, b in wins:
        if group[a] is not group[b]:
            both = group[a] | group[b]
            group |= dict.fromkeys(both, both)
    return sorted(max(group.values(), key=len, default=set()))
