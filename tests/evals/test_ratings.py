"""Ratings of models against what follows by hand."""

from __future__ import annotations

import math

import pytest

from heedful.evals.ratings import elo

TEN = 400 / math.log(10)


def test_two_models_by_hand():
    """Seven wins of ten: log-odds of 7.5 to 3.5, variance 1/7.5 + 1/3.5, half of it each. Mutations caught: another
    scale, the loser first, an interval of the difference for that of a rating."""
    found = elo({("a", "b"): 7, ("b", "a"): 3})
    half, wide = TEN * math.log(7.5 / 3.5) / 2, 1.96 * TEN * math.sqrt(1 / 7.5 + 1 / 3.5) / 2
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
