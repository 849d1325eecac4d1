"""Calibration against tables by hand, brute force and models whose calibration is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from heedful.evals import calibration as cal


def test_ece_by_hand():
    """Four answers, two bins. Mutation caught: bins of equal width, unweighted bins, squared differences."""
    c, r = np.array([0.1, 0.9, 0.2, 0.6]), np.array([0.0, 1.0, 1.0, 1.0])
    assert [b["n"] for b in cal.bins(c, r, 2)] == [2, 2]
    assert cal.ece(c, r, 2) == pytest.approx(0.5 * abs(0.15 - 0.5) + 0.5 * abs(0.75 - 1.0))
    assert cal.ece(c, r, 1) == pytest.approx(abs(0.45 - 0.75))


@pytest.mark.parametrize(
    "gap, answers, of_each", [(0.0, 150, 1), (0.1, 150, 1), (0.1, 1200, 1), (0.0, 150, 4)]
)
def test_the_interval_of_ece_has_the_truth(gap, answers, of_each):
    """Confidences that are right, and such as are too high by .1, many answers and few, alone and in fours that are
    right together. Mutation caught: percentiles of drawn answers, which never have the truth where all is
    calibrated and lie above the estimate; groups that are taken for as many witnesses."""
    rng, hits = np.random.default_rng(3), 0
    for seed in range(40):
        confidence = rng.choice([0.55, 0.65, 0.75, 0.85, 0.95], answers)
        right = (rng.random(answers) < confidence - gap).astype(float)
        c, r = np.repeat(confidence, of_each), np.repeat(right, of_each)
        of = np.repeat(np.arange(answers), of_each).tolist()
        value, (low, high) = cal.ece_with_interval(c, r, of, seed=seed)
        assert value == pytest.approx(cal.ece(c, r)) and low <= value <= high < value + 0.2
        hits += low <= gap <= high
    assert hits >= 34  # of 300: 284, 264, 277, 288


def test_equal_confidences_stay_together():
    """Mutation caught: a bin's edge in the middle of a tie, which makes ECE depend on the order of the answers."""
    c = np.array([0.5] * 30 + [0.9] * 3)
    r = np.array([1.0, 0.0] * 15 + [1.0] * 3)
    for order in (np.arange(33), np.argsort(r, kind="stable"), np.argsort(-r, kind="stable")):
        assert [b["n"] for b in cal.bins(c[order], r[order])] == [30, 3]
        assert cal.ece(c[order], r[order]) == pytest.approx(3 / 33 * 0.1)
    assert sum(b["n"] for b in cal.bins(np.linspace(0, 1, 100), np.ones(100))) == 100


def test_auroc_is_the_share_of_pairs():
    """Brute force, with ties. Mutation caught: ties as a win, ranks from 0."""
    rng = np.random.default_rng(0)
    c, r = rng.integers(0, 6, 60) / 5, (rng.random(60) < 0.4).astype(float)
    pairs = [(a > b) + 0.5 * (a == b) for a in c[r == 1] for b in c[r == 0]]
    assert cal.auroc(c, r) == pytest.approx(np.mean(pairs))
    assert math.isnan(cal.auroc(c, np.ones(60)))


def test_risk_and_coverage():
    """Mutation caught: the least confident first, coverage that parts a tie."""
    c, r = np.array([0.9, 0.2, 0.9, 0.5]), np.array([1.0, 0.0, 0.0, 1.0])
    assert cal.risk_coverage(c, r) == [(0.5, 0.5), (0.75, pytest.approx(1 / 3)), (1.0, 0.5)]


def test_temperature_finds_what_was_done_and_repairs_it():
    """A calibrated model whose log-odds were tripled. Mutation caught: 1/T for T, a repair judged on what it was fitted
    on, confidence 1 that makes everything infinite."""
    rng = np.random.default_rng(0)
    p = rng.uniform(0.02, 0.98, 6000)
    r = (rng.random(6000) < p).astype(float)
    sure = cal.tempered(p, 1 / 3)
    assert cal.temperature(sure, r) == pytest.approx(3, rel=0.06)
    assert cal.temperature(p, r) == pytest.approx(1, rel=0.06)
    assert cal.tempered(cal.tempered(p, 0.5), 2) == pytest.approx(p)
    assert cal.brier(p, r) < cal.brier(sure, r)
    told = cal.summary(sure[:1200].tolist(), (r[:1200] > 0).tolist())
    repair = told["repair"]
    assert repair["ece_after_ci"][1] < repair["ece_before_ci"][0]
    assert told["ece_ci"][0] <= told["ece"] <= told["ece_ci"][1]
    json.dumps(told, allow_nan=False)
    assert cal.temperature(np.array([1.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0])) == pytest.approx(
        1000
    )
    json.dumps(cal.summary([1.0, 0.0], [True, True]), allow_nan=False)


def test_slope_and_offset_repair_what_no_temperature_can():
    """Confidences between .55 and .95 of answers that are right less often than that: the two numbers are found, and
    ECE is what noise alone gives; a temperature leaves it. Where confidence parts right from wrong completely, both are
    finite. Mutation caught: an offset of the probabilities, 1/a for a, outcomes that are not drawn towards one half."""
    rng = np.random.default_rng(1)
    sure = rng.uniform(0.55, 0.95, 8000)
    r = (rng.random(8000) < cal.with_offset(sure, 2.0, -3.0)).astype(float)
    assert cal.platt(sure, r) == pytest.approx((2.0, -3.0), abs=0.15)
    repair = cal.summary(sure[:1200].tolist(), (r[:1200] > 0).tolist())["repair"]
    assert repair["ece_offset"] < 0.06 < 0.25 < repair["ece_after"]
    assert repair["ece_offset_ci"][1] < repair["ece_after_ci"][0]
    apart = cal.platt(np.array([0.6, 0.7, 0.8, 0.9]), np.array([0.0, 0.0, 1.0, 1.0]))
    assert 0 < apart[0] < 20 and cal.platt(np.full(9, 0.8), np.ones(9)) != (0, 0)
    equal = cal.with_offset(
        np.full(9, 0.8), *cal.platt(np.full(9, 0.8), np.array([1.0] * 4 + [0.0] * 5))
    )
    assert equal == pytest.approx(np.full(9, (4 * 5 / 6 + 5 / 7) / 9), abs=1e-6)


def test_doubts():
    told = cal.doubts(
        ["I think Lima.", "Lima.", "I don’t know.", "Paris."], [True, True, False, False]
    )
    assert told == {"doubting": 0.5, "abstained": 0.25, "right_with": 0.5, "right_without": 0.5}
