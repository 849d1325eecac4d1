"""Ratings of models from comparisons of their responses: Bradley–Terry (1952) on the scale of Elo (1978)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from heedful.evals.statistics import NORMAL, Interval, student, wilson

SCALE, MEAN = 400 / np.log(10), 1000.0  # 400 points are odds of ten to one
STEPS = 100
BLOCK = 10_000  # clusters summed up at once


class Clusters(NamedTuple):
    """Of N answers, by number: which prompt each is about, and whose it is."""

    prompt: np.ndarray
    rater: np.ndarray


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
    curvature, since of few prompts or raters B is too small, with Student's t for the fewer of them.
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
    spread = NORMAL * np.sqrt(np.maximum(np.diag(bread), 0))
    rated = [battle for battle in battles if battle.first in index]
    if rated:
        first, second = _sides(rated, index)
        surprise = np.array([b.won for b in rated]) - chance[first, second]
        of = clusters(rated)
        meat = two_way(of, [(first, surprise), (second, -surprise)], len(names))
        variance = np.maximum(np.diag(bread @ meat @ bread), 0)
        spread = np.maximum(spread, critical(of) * np.sqrt(variance))
    points, half = MEAN + SCALE * rating, SCALE * spread
    return {
        name: (float(p), (float(p - h), float(p + h)))
        for name, p, h in zip(names, points, half, strict=True)
    }


def share_of(won: np.ndarray, of: Clusters) -> tuple[float, float, float]:
    """The mean of `won` `[N]`, and its 95 % interval: Wilson's of N independent answers, or that of as many as they are
    worth (Kish 1965), by `two_way` and Student's t, where it is wider. Of a model that always won, or never, nothing
    tells how answers hang together: then as many as there are prompts."""
    n, share = len(won), float(won.mean())
    surprise = won - share
    alone = float((surprise * surprise).sum())
    if alone < 1e-12:
        prompts = len(np.unique(of.prompt))
        return (share, *wilson(share * prompts, prompts))
    low, high = wilson(share * n, n)
    together = float(two_way(of, [(np.zeros(n, int), surprise)], 1)[0, 0])
    if together > 0:
        worth = n * alone / together
        wide = wilson(share * worth, worth, critical=critical(of))
        low, high = min(low, wide[0]), max(high, wide[1])
    return share, low, high


def critical(of: Clusters) -> float:
    """How many standard errors a 95 % interval has on each side: Student's t with one degree of freedom fewer than
    there are prompts, or raters, whichever are fewer (Cameron, Gelbach & Miller 2011, section 3), but not one alone."""
    several = [count for ids in of if (count := len(np.unique(ids))) > 1]
    return student(min(several) - 1) if several else NORMAL


def two_way(
    of: Clusters, scores: Sequence[tuple[np.ndarray, np.ndarray]], models: int
) -> np.ndarray:
    """The covariance `[models, models]` of the sum of `scores`, (model, number) of each battle, when those about one
    prompt hang together, and so do those of one rater: Σ ssᵀ over prompts, and over raters, less that over both.

    s is the sum within a prompt, a rater, or both; each Σ has the factor G/(G−1) for its G. Of a single prompt, or
    rater, nothing tells how others would differ: then it is left out, and who is asked is taken as given."""
    clusters = [np.unique(ids, return_inverse=True)[1] for ids in of]
    several = [ids for ids in clusters if ids.max() > 0]
    signs = [1.0] * len(several)
    if len(several) == 2:
        both = several[0] * (several[1].max() + 1) + several[1]
        several, signs = [*several, np.unique(both, return_inverse=True)[1]], [1.0, 1.0, -1.0]
    total = np.zeros((models, models))
    for sign, ids in zip(signs, several, strict=True):
        number = int(ids.max()) + 1
        total += sign * number / (number - 1) * _squares(ids, scores, models)
    return total


def clusters(battles: Sequence[Battle]) -> Clusters:
    """Whose answers each battle hangs together with."""
    return clusters_of([b.prompt for b in battles], [b.rater for b in battles])


def clusters_of(prompts: Sequence[Hashable], raters: Sequence[Hashable]) -> Clusters:
    """The same of answers about these prompts by these raters."""
    return Clusters(_numbered(prompts), _numbered(raters))


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
