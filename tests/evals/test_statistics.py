"""Win rates, intervals and best-of-n under ties."""

import itertools
import math

import numpy as np
import pytest

from heedful.evals.statistics import (
    best_of_n_kl,
    best_of_n_kl_bound,
    best_of_n_mean,
    bootstrap_ci,
    win_rate,
    wins,
)


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


def test_best_of_n_kl_without_ties_tends_to_the_formula():
    assert best_of_n_kl_bound(16) == pytest.approx(1.835, abs=1e-3)
    assert best_of_n_kl(list(range(100_000)), 16) == pytest.approx(best_of_n_kl_bound(16), abs=1e-3)


def test_best_of_n_kl_with_ties_is_smaller_and_exact():
    """Four equally likely levels, n = 3, by enumerating all 64 draws. Mutation caught: the formula for no ties."""
    law = [0.0] * 4
    for draw in itertools.product(range(4), repeat=3):
        law[max(draw)] += 1 / 64
    exact = sum(q * math.log(q / 0.25) for q in law)
    assert best_of_n_kl([0.0, 1.0, 2.0, 3.0] * 5, 3) == pytest.approx(exact)
    assert exact < best_of_n_kl_bound(3)
    assert best_of_n_kl([1.0] * 16, 16) == 0.0


def test_best_of_n_mean_by_enumeration():
    rewards, scores = [0.0, 1.0, 1.0, 2.0], [5.0, 1.0, 3.0, -1.0]
    exact = 0.0
    for a, b in itertools.product(range(4), repeat=2):
        top = max(rewards[a], rewards[b])
        tied = [s for r, s in zip(rewards, scores, strict=True) if r == top]
        exact += sum(tied) / len(tied) / 16
    assert best_of_n_mean(rewards, scores, 2) == pytest.approx(exact)
