"""Win rates and intervals."""

import math

import numpy as np

from heedful.evals.statistics import bootstrap_ci, win_rate, wins


def test_ties_count_half_and_sides_can_be_swapped():
    ours, theirs = [1.0, 0.9, -1.0, 2.0], [0.0, 0.9, 1.0, 2.0]
    assert wins(ours, theirs) == [1.0, 0.5, 0.0, 0.5]
    assert win_rate(ours, theirs)[0] == 1 - win_rate(theirs, ours)[0] == 0.5


def test_bootstrap_intervals_cover():
    """About 95 % of 300 intervals hold the true mean (binomial: 5 standard errors)."""
    rng = np.random.default_rng(0)
    hits = 0
    for i in range(300):
        low, high = bootstrap_ci(rng.normal(2.0, 1.0, 60).tolist(), draws=500, seed=i)
        hits += low <= 2.0 <= high
    assert 0.95 - 5 * math.sqrt(0.95 * 0.05 / 300) < hits / 300 <= 1.0
