"""How well chances that people prefer something are met by what they preferred: accuracy, log-loss and calibration of
several predictors of the same comparisons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heedful.evals import calibration
from heedful.evals.statistics import bootstrap_ci
from heedful.types import Comparison

Floats = NDArray[np.float64]
SMALLEST = 1e-12  # a chance of 0 for what happened costs 28 nats, not infinitely many


def ordered(c: Comparison) -> list[tuple[int, int]]:
    """The pairs of responses of which the first is better."""
    k, place = range(len(c.responses)), c.places
    return [(i, j) for i in k for j in k if place[i] < place[j]]


def ties(c: Comparison) -> bool:
    """Whether somebody said of two responses that they are equally good; without a rank they are in no order."""
    told = [rank for rank in c.ranking if rank is not None]
    return len({*told}) < len(told)


def summary(
    comparisons: Sequence[Comparison], said: Mapping[str, Sequence[Sequence[float]]]
) -> dict[str, Any]:
    """Of each predictor, whose P(i ≻ j) of the `ordered` pairs are given: accuracy (a chance of ½ is half right),
    log-loss, ECE, Brier's score and a reliability diagram of how sure it is of the one that it prefers; and how much
    more accurate than the first predictor it is. Intervals are over prompts, whose
    pairs are no independent witnesses."""
    prompts: dict[str, int] = {}
    of = [prompts.setdefault(repr(c.prompt), len(prompts)) for c in comparisons for _ in ordered(c)]
    pairs = np.bincount(of, minlength=len(prompts)).astype(float)
    told: dict[str, Any] = {}
    first: Floats | None = None
    for name, chances in said.items():
        p = np.array([x for per in chances for x in per])
        right = (p > 0.5) + 0.5 * (p == 0.5)
        share = _per_prompt(right, of, pairs)
        cost = -np.log(np.maximum(p, SMALLEST))
        told[name] = {
            "accuracy": float(right.mean()),
            "accuracy_ci": bootstrap_ci(share.tolist(), pairs.tolist()),
            "log_loss": float(cost.mean()),
            "log_loss_ci": bootstrap_ci(_per_prompt(cost, of, pairs).tolist(), pairs.tolist()),
            "pairs": len(p),
            "prompts": int((pairs > 0).sum()),
            **_calibration(p, right, of),
        }
        if first is None:
            first = share
        else:
            more = (share - first).tolist()
            told[name]["more_accurate"] = float(np.average(more, weights=pairs))
            told[name]["more_accurate_ci"] = bootstrap_ci(more, pairs.tolist())
    return told


def _per_prompt(values: Floats, of: Sequence[int], pairs: Floats) -> Floats:
    """The mean over the pairs of each prompt; 0, with no weight, of one that has none."""
    return np.bincount(of, values, len(pairs)) / np.maximum(pairs, 1)


def _calibration(p: Floats, right: Floats, of: Sequence[int]) -> dict[str, Any]:
    sure = np.maximum(p, 1 - p)
    ece, ece_ci = calibration.ece_with_interval(sure, right, of)
    return {
        "confidence": float(sure.mean()),
        "ece": ece,
        "ece_ci": ece_ci,
        "brier": calibration.brier(sure, right),
        "bins": calibration.bins(sure, right, min(calibration.BINS, max(1, math.isqrt(len(p))))),
    }
