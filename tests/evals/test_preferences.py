"""Predictions of comparisons, by hand."""

import math

import pytest

from heedful.evals.preferences import ordered, summary, ties
from heedful.types import Comparison

PAIR = Comparison("a", ("x", "y"), (1, 2))
SAME = Comparison("a", ("z", "y"), (2, 1))
THREE = Comparison("b", ("x", "y", "z"), (2, 1, 2))


def test_what_is_in_an_order():
    """Mutations caught: a tie taken for an order, responses without a rank for a tie."""
    assert ordered(THREE) == [(1, 0), (1, 2)] and ordered(SAME) == [(1, 0)]
    assert (
        ties(THREE)
        and not ties(PAIR)
        and not ties(Comparison("a", ("x", "y", "z"), (1, None, None)))
    )


def test_summary_by_hand():
    """Four pairs of two prompts. Mutations caught: a chance of ½ that is right or wrong, confidence in the better one
    for that in the preferred one, pairs of a prompt as if each were a prompt, a difference the other way round."""
    said = {"first": [[0.8], [0.4], [0.5, 0.9]], "second": [[0.8], [0.6], [0.5, 0.9]]}
    told = summary([PAIR, SAME, THREE], said)
    first, second = told["first"], told["second"]
    assert first["accuracy"] == pytest.approx(2.5 / 4) and second["accuracy"] == pytest.approx(
        3.5 / 4
    )
    assert first["log_loss"] == pytest.approx(-sum(map(math.log, (0.8, 0.4, 0.5, 0.9))) / 4)
    assert first["confidence"] == pytest.approx((0.8 + 0.6 + 0.5 + 0.9) / 4)
    assert first["brier"] == pytest.approx((0.2**2 + 0.6**2 + 0.0**2 + 0.1**2) / 4)
    assert (first["pairs"], first["prompts"]) == (4, 2)
    assert second["more_accurate"] == pytest.approx(1 / 4) and "more_accurate" not in first
    assert first["accuracy_ci"] == pytest.approx(
        (0.5, 0.75)
    )  # each prompt twice, at worst and at best
