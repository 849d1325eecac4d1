"""Intervals beside numbers by hand, and as often right as they promise."""

from __future__ import annotations

import random

import pytest

from heedful.raters.watch import agreements, fall, halves, typical


def test_the_median_between_two_values():
    """Of 8 values P(none below) + P(none above) = 2/256 < 1 %, so that the smallest and the largest bound it; of 7 it
    is 2/128, too much. Of 20 it is 4 from each end: 2·(1+20+190+1140)/2^20 = 0.26 %, with one more 1.2 %.
    Mutations caught: an interval of too few, one place too far in."""
    assert typical([1.0] * 7) is None
    found = typical([3, 1, 2, 4, 5, 6, 7, 8])
    assert found and (found.value, found.low, found.high, found.n) == (4.5, 1, 8, 8)
    found = typical(list(range(1, 21)))
    assert found and (found.low, found.high) == (4, 17)


def test_a_fall_by_hand():
    """Ten ones, then ten noughts, each with a 0 and a 1 besides: 11/12 − 1/12 = 5/6; s² = 12·(11/12)(1/12)/11 = 1/12
    each, so the error is √(2/144) = 0.11785. Mutation caught: a population's variance for a sample's."""
    found = fall([1.0] * 10, [0.0] * 10)
    assert found and found.value == pytest.approx(5 / 6)
    assert found.high - found.value == pytest.approx(2.5758 * 0.117851, abs=1e-4)
    assert fall([1.0] * 9, [0.0] * 10) is None
    assert halves([1.0] * 10 + [0.0] * 10) == found


def test_agreements_by_hand():
    """Two units of one task, three raters; who is alone is left out."""
    found = agreements([1, 1, 1, 2, 2, 3], list("abcabc"), list("xxyzyz"), ["t"] * 5 + ["u"])
    assert found == {
        ("t", "a"): pytest.approx(0.25),
        ("t", "b"): pytest.approx(0.25),
        ("t", "c"): 0.0,
    }


def test_as_often_right_as_promised():
    """Of 1,000 draws at 90 %. The median's is exact, so at least as often; a fall's is normal, so nearly.
    Mutation caught: one tail for two."""
    rng, inside, close = random.Random(0), 0, 0
    for _ in range(1000):
        found = typical([rng.lognormvariate(0, 1) for _ in range(30)], level=0.9)
        inside += found is not None and found.low <= 1 <= found.high
        before, after = ([float(rng.random() < p) for _ in range(60)] for p in (0.8, 0.7))
        found = fall(before, after, level=0.9)
        close += found is not None and found.low <= 0.1 <= found.high
    assert 900 <= inside < 990 and 870 <= close <= 940
