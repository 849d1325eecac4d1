"""Win rates and intervals."""

import math

import numpy as np
import pytest

from heedful.evals.statistics import (
    bootstrap_ci,
    crossed_ci,
    student,
    wilson,
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


def test_crossed_intervals_by_hand():
    """[[0, 1], [2, 7]]: runs and prompts are each drawn in 4 equally likely ways, which gives 16 means.

    Sorted: 0, ½ ×2, 1 ×3, 2, 2½ ×4, 4 ×2, 4½ ×2, 7; quantiles inside of such a step are exact. Mutation caught:
    cells drawn one by one, or prompts anew for each run, which give other means.
    """
    x = [[0.0, 1.0], [2.0, 7.0]]
    for level, exact in {
        0.9: (0.0, 7.0),
        0.7: (0.5, 4.5),
        0.5: (1.0, 4.0),
        0.2: (2.0, 2.5),
    }.items():
        assert crossed_ci(x, level=level, draws=20000) == pytest.approx(exact)


def test_crossed_intervals_at_their_edges():
    """One run: prompts alone. Runs that differ, prompts that do not: runs alone. A single value has no width."""
    values = np.random.default_rng(1).normal(size=40).tolist()
    assert crossed_ci([values], draws=20000) == pytest.approx(
        bootstrap_ci(values, draws=20000), abs=0.02
    )
    assert crossed_ci([[v, v, v] for v in values], draws=20000) == pytest.approx(
        bootstrap_ci(values, draws=20000), abs=0.02
    )
    assert crossed_ci([[0.0], [1.0]]) == (0.0, 1.0)
    assert crossed_ci([[0.25]]) == (0.25, 0.25)
    with pytest.raises(ValueError, match="the same number"):
        crossed_ci([[], []])


def test_crossed_intervals_see_both_spreads():
    """5 runs × 50 prompts with known spreads: about as wide as the two together, wider than either alone.

    The variance of the mean is σ²_run·(S-1)/S/S + σ²_prompt/P. Mutation caught: bootstrapping the mean over runs.
    """
    runs = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])  # population variance 2
    prompts = np.linspace(-5.0, 5.0, 50)
    x = runs[:, None] + prompts[None, :]
    low, high = crossed_ci(x.tolist(), draws=20000)
    sigma = math.sqrt(runs.var() / 5 + prompts.var() / 50)
    assert (high - low) / 2 == pytest.approx(1.96 * sigma, rel=0.04)


def test_wilson_against_worked_values():
    """Newcombe 1998, table I, method 3; another critical value in place of the normal's."""
    for (count, n), wanted in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        assert wilson(count, n) == pytest.approx(wanted, abs=5e-5)
    assert wilson(1, 4, critical=2.0) == pytest.approx(((3 - 7**0.5) / 8, (3 + 7**0.5) / 8))


def test_students_t_against_tables():
    """Mutations caught: the series for odd degrees taken for even ones, one tail for two, the normal's for few."""
    table = {
        1: 12.7062,
        2: 4.3027,
        3: 3.1824,
        4: 2.7764,
        5: 2.5706,
        10: 2.2281,
        29: 2.0452,
        30: 2.0423,
        120: 1.9799,
    }
    for freedom, wanted in (table | {1000: 1.9623, 1001: 1.9623, 10**6: 1.96}).items():
        assert student(freedom) == pytest.approx(wanted, abs=1e-4)
    assert student(7, 0.99) == pytest.approx(3.4995, abs=1e-4)
