"""Best-of-n for every n from one pool, against all subsets; KL under ties against sums; the laws' fits."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from heedful.evals import overoptimisation as over
from heedful.evals.best_of_n import bound, exact_kl


@pytest.mark.parametrize("ties", [False, True])
def test_best_scores_are_the_mean_over_all_subsets(ties: bool):
    """Brute force. Mutation caught: with replacement (Fⁿ), the first of a tie, scores sorted by themselves."""
    rng = np.random.default_rng(0)
    proxy = rng.integers(0, 4, 9).astype(float) if ties else rng.normal(size=9)
    score = rng.normal(size=9)
    ns = list(range(1, 10))
    wanted = []
    for n in ns:
        bests = []
        for subset in itertools.combinations(range(9), n):
            top = max(proxy[i] for i in subset)
            bests.append(np.mean([score[i] for i in subset if proxy[i] == top]))
        wanted.append(np.mean(bests))
    assert over.best_scores(proxy, score, ns) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.long
def test_best_scores_of_large_pools():
    """E[max of n] of uniform numbers is n/(n+1); nothing overflows. Mutation caught: C(N, n) as a float."""
    rng = np.random.default_rng(0)
    pool = rng.random((400, 2048))
    means = np.mean([over.best_scores(p, p, [1, 16, 1000]) for p in pool], axis=0)
    assert means == pytest.approx([1 / 2, 16 / 17, 1000 / 1001], abs=2e-3)
    with pytest.raises(ValueError, match="as many samples"):
        over.best_scores(pool[0], pool[0], [4096])


def test_kl_without_ties_is_the_formula_and_with_ties_the_sum():
    """Mutation caught: the formula where rewards tie; ties that take too little away."""
    pool = np.random.default_rng(0).normal(size=500)
    assert over.best_kl(pool, 64) == pytest.approx(bound(64), abs=1e-12)
    p = np.array([0.5, 0.25, 0.15, 0.1])
    tied = np.repeat([0.0, 1.0, 2.0, 3.0], (1000 * p).astype(int))
    for n in (1, 2, 7, 100):
        exact = exact_kl(torch.tensor(np.log(p)), torch.arange(4.0), n)
        assert over.best_kl(tied, n) == pytest.approx(exact, abs=1e-9)
    assert over.best_kl(np.zeros(10), 5) == pytest.approx(0, abs=1e-12)


def test_fits_find_their_own_laws():
    """Mutation caught: the sign of β, log base 10, KL in place of its root."""
    d = [math.sqrt(bound(n)) for n in over.sizes(512)]
    bon = over.fit_best_of_n(d, [x * (1.5 - 0.4 * x) for x in d])
    assert (bon.alpha, bon.beta, bon.r2) == pytest.approx((1.5, 0.4, 1))
    assert bon.peak == pytest.approx(1.5 / 0.8)
    rl = over.fit_rl(d, [x * (1.5 - 0.4 * math.log(x)) if x else 0 for x in d])
    assert (rl.alpha, rl.beta, rl.r2) == pytest.approx((1.5, 0.4, 1))
    assert over.fit_best_of_n(d, d).peak is None


def test_a_curve_that_falls_and_one_that_does_not():
    """Mutation caught: the loss as a share of the peak itself; the interval of the peak's height."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(200, 1))
    falls = over.curve(np.array([[1.0, 2.0, 3.0, 2.5]]) + noise)
    assert (falls.peak, falls.lost) == (2, pytest.approx(0.25))
    assert falls.fall_ci == pytest.approx((0.5, 0.5))  # what prompts share cancels
    rises = over.curve(np.array([[1.0, 2.0, 3.0]]) + noise)
    assert (rises.peak, rises.lost, rises.fall_ci) == (2, 0, (0, 0))


def test_sizes():
    assert over.sizes(20) == [1, 2, 3, 4, 6, 8, 12, 16, 20]
    assert over.sizes(1) == [1] and over.sizes(2) == [1, 2]


def test_the_alarm_waits_for_three_and_for_more_than_noise():
    """Mutation caught: one fall is enough; falls that are not in a row; an interval of the level, not of the fall."""
    rng = np.random.default_rng(0)
    prompts = rng.normal(size=(100, 1))
    assert over.alarm(prompts + np.array([[0, 1, 2, 1.5, 1.4, 1.3, 1.2]])) == 5
    assert over.alarm(prompts + np.array([[0, 1, 2, 1.5, 1.4, 2.1, 1.5, 1.4]])) is None
    assert over.alarm(prompts + np.array([[0, 1, 2, 3, 4.0]])) is None
    noisy = rng.normal(size=(100, 12)) + np.array([0.001 * k for k in range(12)])
    assert over.alarm(noisy) is None


def test_what_one_of_several_rewards_says_is_not_believed():
    """Three that watch: all fall, and the alarm comes; one falls three times as far and the others rise a little, and
    it does not, though their mean is the same. Mutation caught: the spread over prompts alone, the spread of a mean."""
    prompts = np.random.default_rng(0).normal(size=(100, 1))
    rise, fall = np.array([0, 1, 2, 2, 2, 2, 2.0]), np.array([0, 0, 0, 0.5, 0.6, 0.7, 0.8])
    agreed = np.stack([prompts + rise - part * fall for part in (0.9, 1.0, 1.1)])
    parted = np.stack([prompts + rise - part * fall for part in (3.5, -0.2, -0.3)])
    assert agreed.mean(0) == pytest.approx(parted.mean(0))
    assert over.alarm(agreed) == 5 == over.alarm(parted.mean(0)) and over.alarm(parted) is None
