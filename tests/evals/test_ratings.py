"""Ratings of models against what follows by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from heedful.evals.ratings import Battle, clusters, elo, share_of, two_way
from heedful.evals.statistics import NORMAL, student, wilson

TEN = 400 / math.log(10)


def test_two_models_by_hand():
    """Seven wins of ten: log-odds of 7.5 to 3.5, variance 1/7.5 + 1/3.5, half of it each. Mutations caught: another
    scale, the loser first, an interval of the difference for that of a rating."""
    found = elo({("a", "b"): 7, ("b", "a"): 3})
    half, wide = TEN * math.log(7.5 / 3.5) / 2, NORMAL * TEN * math.sqrt(1 / 7.5 + 1 / 3.5) / 2
    for name, sign in (("a", 1), ("b", -1)):
        rating, (low, high) = found[name]
        assert rating == pytest.approx(1000 + sign * half)
        assert (high - rating, rating - low) == pytest.approx((wide, wide))


def test_who_was_shown_beside_whom_does_not_matter():
    """a beats b ten to one (with the half), b beats c so, and both are as often compared: 400 points each, though c has
    met nobody else. Mutations caught: win rates on another scale; a model that never lost at infinity."""
    found = elo({("a", "b"): 9.5, ("b", "a"): 0.5, ("b", "c"): 99.5, ("c", "b"): 9.5})
    assert [found[name][0] for name in "abc"] == pytest.approx([1400, 1000, 600])
    assert 1000 < elo({("a", "b"): 5})["a"][0] < 1500
    assert elo({}) == {}


def test_what_no_comparison_joins_has_no_common_scale():
    """Mutation caught: two sets of models, each with a mean of its own, in one table."""
    wins = {("a", "b"): 1, ("x", "y"): 50, ("y", "z"): 50, ("z", "w"): 1.0}
    assert elo(wins).keys() == {"w", "x", "y", "z"}


def counted(battles: list[Battle]) -> dict[tuple[str, str], float]:
    wins: dict[tuple[str, str], float] = {}
    for b in battles:
        wins[b.first, b.second] = wins.get((b.first, b.second), 0.0) + b.won
        wins[b.second, b.first] = wins.get((b.second, b.first), 0.0) + 1 - b.won
    return wins


def widths(battles: list[Battle], *, alone: bool = False) -> list[float]:
    found = elo(counted(battles), () if alone else battles)
    return [high - low for _, (low, high) in found.values()]


def share(battles: list[Battle]) -> tuple[float, float, float]:
    """Of the first models' wins."""
    return share_of(np.array([b.won for b in battles]), clusters(battles))


def test_two_ways_by_hand():
    """Four answers of two raters to two prompts: over prompts, and over raters, less each alone. Mutations caught: one
    way alone, the intersection added, or subtracted where one way is all there is; blocks that overlap."""
    battles = [Battle("a", "b", 1, p, r) for p in "xy" for r in "st"]
    score = np.array([1.0, 2.0, 4.0, 8.0])
    models = np.zeros(4, int), np.ones(4, int)
    scores = [(models[0], score), (models[1], -score)]
    expected = 2 * (3**2 + 12**2) + 2 * (5**2 + 10**2) - 4 / 3 * (1 + 4 + 16 + 64)
    signs = np.array([[1, -1], [-1, 1]])
    assert two_way(clusters(battles), scores, 2) == pytest.approx(expected * signs)
    one = [b._replace(rater="s") for b in battles]
    assert two_way(clusters(one), scores, 2) == pytest.approx(2 * (3**2 + 12**2) * signs)
    many = [Battle("a", "b", 1, k // 2, "s") for k in range(50_000)]
    each = [(np.zeros(50_000, int), np.arange(50_000.0)), (np.ones(50_000, int), np.zeros(50_000))]
    sums = np.arange(50_000.0).reshape(-1, 2).sum(1)
    found = two_way(clusters(many), each, 2)[0, 0] * 24_999 / 25_000
    assert found == pytest.approx((sums**2).sum())


def test_the_same_answer_again_tells_nothing_new():
    """Each answer nine times over: a third of the width as if they were independent, and the width that it had with
    what is known of them. Mutations caught: intervals of counts, a design effect that is divided by, one below 1."""
    rng = np.random.default_rng(0)
    once = [Battle("a", "b", float(rng.random() < 0.6), k, k) for k in range(400)]
    nine = [b for b in once for _ in range(9)]
    single, apart, known = widths(once)[0], widths(nine, alone=True)[0], widths(nine)[0]
    assert apart == pytest.approx(single / 3, rel=0.01)
    assert known == pytest.approx(single, rel=0.02)
    (low, high), (bottom, top) = share(once)[1:], share(nine)[1:]
    assert (bottom, top) == pytest.approx((low, high), abs=0.002)
    sure = [b._replace(won=1.0) for b in nine]
    assert share(sure) == (1.0, *wilson(400, 400))


def test_intervals_have_the_truth_where_raters_and_prompts_differ():
    """40 raters, each with a taste of their own, about 40 prompts, of which each suits one model better: the intervals
    have the difference in nine of ten studies or more, and those of independent answers in fewer than two of three.
    Mutations caught: either way left out."""
    rng, hits = np.random.default_rng(1), np.zeros(2)
    for _ in range(60):
        taste, suits = rng.normal(0, 1, 40), rng.normal(0, 1, 40)
        chance = 1 / (1 + np.exp(-(taste[:, None] + suits[None])))  # on average none is better
        battles = [
            Battle("a", "b", float(rng.random() < chance[r, p]), p, r)
            for r in range(40)
            for p in rng.choice(40, 20, replace=False).tolist()
        ]
        for k, alone in enumerate((False, True)):
            low, high = elo(counted(battles), () if alone else battles)["a"][1]
            hits[k] += low <= 1000 <= high
    assert hits[0] >= 54 and hits[1] < 40


@pytest.mark.parametrize("raters", [2, 3])
def test_two_or_three_raters_are_few(raters: int):
    """Each with a taste of their own, the same 40 prompts: ratings and shares have the truth in nine of ten studies or
    more; 1.96 standard errors in place of Student's t would have it in fewer than five of six. Mutations caught: the
    normal's quantile, degrees of freedom of the prompts or of the answers, either interval left as it was."""
    rng, hits = np.random.default_rng(raters), np.zeros(3)
    for _ in range(60):
        chance = 1 / (1 + np.exp(-rng.normal(0, 1, raters)))
        battles = [
            Battle("a", "b", float(rng.random() < chance[r]), p, r)
            for r in range(raters)
            for p in range(40)
        ]
        low, high = elo(counted(battles), battles)["a"][1]
        half = (high - low) / 2 * NORMAL / student(raters - 1)
        rating = (high + low) / 2
        _, bottom, top = share(battles)
        hits += [low <= 1000 <= high, bottom <= 0.5 <= top, abs(rating - 1000) <= half]
    assert hits[0] >= 54 and hits[1] >= 54 and hits[2] < 50


def test_raters_who_say_the_same_are_no_small_sample():
    """Two raters whose shares are alike to the answer: the interval is that of independent answers, not t's six times
    that. Mutation caught: t on the width that curvature gives."""
    battles = [Battle("a", "b", float(p % 2), (r, p), r) for r in range(2) for p in range(40)]
    assert share(battles) == (0.5, *wilson(40, 80))
    assert widths(battles) == pytest.approx(widths(battles, alone=True))
