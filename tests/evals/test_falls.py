"""The rule of alarms, place by place."""

from __future__ import annotations

import pytest

from heedful.evals.falls import first_fall, has_fallen, spread
from heedful.evals.watch import windows


@pytest.mark.parametrize(
    "means, where",
    [
        ([0, 2, 1, 1, 1], 4),
        ([0, 2, 1, 1, 1.8, 1, 1, 1], 7),  # 0.2 is less than three standard errors of 0.1
        ([2, 1, 1, 1], 3),  # from the beginning on
        ([0, 1, 2, 3], None),
        ([2, 1, 1], None),  # two are no three
    ],
)
def test_three_in_a_row_by_three_standard_errors(means: list[float], where: int | None):
    """Mutation caught: ≥ in the place of >, two in a row, a gap that is forgiven."""
    assert first_fall(means, lambda best, place: 0.1) == where
    assert first_fall([0, 2, 1, 1, 1], lambda best, place: 1 / 3) is None  # exactly three
    assert has_fallen([0, 2, 1, 1, 1, 3], lambda best, place: 0.1, 5) is False


def test_windows_end_with_the_last_round():
    """Mutation caught: the last rounds left out in the place of the first; a round's variance for that of a mean."""
    rows = [[k, float(k), 4.0, 2.0 * k] for k in range(1, 39)]
    of = windows(rows)  # of three rounds; the first two are left out
    assert (len(of), of[0].step, of[0].watched) == (12, 5, 4)
    assert of[-1] == (38, 37, 4 / 3, 74, ())
    assert [w.step for w in windows(rows[:4])] == [1, 2, 3, 4]
    of = windows([[*row, row[0], 0.0] for row in rows] + [[39.0, 39.0, 4.0, 78.0, 39.0, 0.0]])
    assert of[-1].members == (38, 0)  # of an ensemble, each member's mean


def test_the_spread_of_falls_is_that_of_one_measure():
    """Mutation caught: the error of a mean, which errors that are shared do not have."""
    assert spread([1.0, 3.0]) == 2.0 and spread([1.0]) == 0 == spread([])
