"""The rules of alarms, place by place."""

from __future__ import annotations

import math

import numpy as np
import pytest

from heedful.evals.falls import Stretch, first_fall, has_fallen, margin, pooled, sure_fall
from heedful.evals.watch import windows


@pytest.mark.parametrize(
    "means, where",
    [
        ([0, 2, 1, 1, 1], 4),
        ([0, 2, 1, 1, 1.8, 1, 1, 1], 7),  # 0.2 is less than 0.3
        ([2, 1, 1, 1], 3),  # from the beginning on
        ([0, 1, 2, 3], None),
        ([2, 1, 1], None),  # two are no three
    ],
)
def test_three_in_a_row_by_more_than_a_margin(means: list[float], where: int | None):
    """Mutation caught: ≥ in the place of >, two in a row, a gap that is forgiven."""
    assert first_fall(means, lambda best, place: 0.3) == where
    assert first_fall([0, 2, 1, 1, 1], lambda best, place: 1.0) is None  # no more than it
    assert has_fallen([0, 2, 1, 1, 1, 3], lambda best, place: 0.3, 5) is False


def test_windows_end_with_the_last_round():
    """Mutation caught: the last rounds left out in the place of the first; a round's variance for that of a mean."""
    rows = [[k, float(k), 4.0, 2.0 * k] for k in range(1, 39)]
    of = windows(rows)  # of three rounds; the first two are left out
    assert (len(of), of[0].step, of[0].watched) == (12, 5, 4)
    assert of[-1] == (38, 37, 4 / 3, 74, ())
    assert [w.step for w in windows(rows[:4])] == [1, 2, 3, 4]
    of = windows([[*row, row[0], 0.0] for row in rows] + [[39.0, 39.0, 4.0, 78.0, 39.0, 0.0]])
    assert of[-1].members == (38, 0)  # of an ensemble, each member's mean


def test_the_margin_of_a_fall():
    """Mutation caught: the spread of one member for the interval of their mean, one interval for any number of them, a
    single one as if it never erred twice; responses and members added up."""
    assert margin(0.1, []) == margin(0.1, [7.0]) == pytest.approx(0.3)
    # Student's t at 97.5 %: 12.71 with one degree of freedom, 2.776 with four; variances 2 and 2.5
    assert margin(0.0, [1.0, 3.0]) == pytest.approx(12.706, rel=1e-3)
    assert margin(0.0, [1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(1.9634, rel=1e-3)
    assert margin(1.0, [1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(math.hypot(3, 1.9634), rel=1e-3)


def rounds(watched, error: float = 0.0, *members: float) -> list[Stretch]:
    """The reward rises by one a round; of an ensemble, each member sees its share of what is watched."""
    of = enumerate(map(float, watched))
    return [Stretch(k, w, error**2, k, tuple(m * w for m in members)) for k, w in of]


def test_all_rounds_since_the_fall_count_together():
    """Mutation caught: less than three after the fall, one of the last three that is not below, a reward that did not
    rise, four standard errors of a round in the place of those of the means."""
    found = sure_fall(rounds([0, 2, 2, 2, 1, 1, 1], 0.1))
    assert found is not None and (found[0].step, found[0].watched) == (3, 2)
    assert (found[1].step, found[1].watched) == (6, 1)
    assert sure_fall(rounds([0, 2, 2, 1, 1], 0.1)) is None
    assert sure_fall(rounds([0, 2, 2, 2, 1, 0, 3], 0.1)) is None
    assert sure_fall([w._replace(reward=0.0) for w in rounds([0, 2, 2, 2, 1, 1, 1])]) is None
    # Three before and three after: a standard error of √(2/3) of a round's
    assert sure_fall(rounds([0, 2, 2, 2, 1, 1, 1], 0.3)) is not None
    assert sure_fall(rounds([0, 2, 2, 2, 1, 1, 1], 0.31)) is None


def test_what_some_members_say_is_not_believed():
    """Mutation caught: members left aside where rounds are pooled."""
    watched = [0, 2, 2, 2, 1, 1, 1]
    assert sure_fall(rounds(watched, 0.01, 0.9, 1.0, 1.1)) is not None
    assert sure_fall(rounds(watched, 0.01, 3.4, -0.2, -0.2)) is None


def test_pooled_stretches():
    """Mutation caught: the variance of one for that of a mean; the first step for the last."""
    assert pooled([Stretch(1, 2, 4, 0, (1, 5)), Stretch(2, 4, 2, 1, (3, 9))]) == (
        2, 3, 1.5, 0.5, (2, 7),
    )  # fmt: skip


def test_falls_that_the_best_round_alone_does_not_show():
    """Sixty runs of forty rounds: it rises, stays, and falls by 1.5 standard errors of a round; and sixty without a
    trend. Each alone against the best, by three standard errors, tells 29 % of such falls.

    Mutation caught: a rule that tells less, or tells where nothing falls."""
    rng, t = np.random.default_rng(0), np.arange(40)
    falls = 1.5 * np.clip(np.minimum(t / 10, 1 - (t - 20) / 8), 0, 1)

    def told(mean) -> float:
        def rings(series) -> bool:
            rows = [[k, x, 1.0, float(k)] for k, x in enumerate(series)]
            return any(sure_fall(windows(rows[:n])) is not None for n in range(4, 41, 2))

        return sum(rings(mean + rng.normal(size=40)) for _ in range(60)) / 60

    assert told(falls) >= 0.5 and told(0 * falls) <= 0.05
