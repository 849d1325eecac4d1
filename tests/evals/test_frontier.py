"""The area under what a method offers at each budget of KL."""

from __future__ import annotations

import random

import pytest

from heedful.evals.frontier import hypervolume


def test_by_hand():
    """Mutation caught: trapezoids, the last score in place of the best, points beyond the budget, a negative area."""
    points = [(1.0, 0.5), (3.0, 0.25), (2.0, 1.0), (9.0, 7.0)]
    assert hypervolume(points, 4.0, 0.0) == pytest.approx(1 * 0.5 + 2 * 1.0)
    assert hypervolume(points, 4.0, 0.5) == pytest.approx(2 * 0.5)
    assert hypervolume([(1.0, -2.0)], 4.0, 0.0) == 0
    assert hypervolume([(-0.1, 1.0)], 2.0, 0.0) == pytest.approx(2)
    assert hypervolume([], 2.0, 0.0) == 0


def test_against_a_fine_sum():
    rng = random.Random(0)
    points = [(rng.uniform(0, 5), rng.gauss(0, 1)) for _ in range(12)]
    steps = 40_000
    total = 0.0
    for i in range(steps):
        budget = (i + 0.5) * 4 / steps
        total += max([0.0, *(y - -0.3 for kl, y in points if kl <= budget)]) * 4 / steps
    assert hypervolume(points, 4.0, -0.3) == pytest.approx(total, abs=1e-3)
