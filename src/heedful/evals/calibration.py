"""Does a model know what it knows? Confidence of answers against whether they are right.

ECE in bins of equal mass (Nguyen and O'Connor 2015; Guo et al. 2017 for the error itself), Brier's score, AUROC, risk
against coverage (El-Yaniv and Wiener 2010), and what repairs it without another training and leaves the order of
confidences: a temperature of log-odds, which moves all towards or away from one half (Guo et al. 2017), or a slope and
an offset, for confidences that are all too high or too low (Platt 1999).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heedful.evals.statistics import Interval

Floats = NDArray[np.float64]
BINS = 15
SMALLEST = 1e-12  # confidences are kept this far from 0 and 1 where their log-odds are taken
DRAWS = 500
LEAST = 2 * BINS  # answers; half of them fit the temperature


def bins(confidence: Floats, right: Floats, count: int = BINS) -> list[dict[str, float]]:
    """Reliability diagram: `count` bins of equal mass, the least confident first; {confidence, right, n} of each.

    Equal confidences stay together, so that a bin's content does not depend on the order of the answers.
    """
    order = np.argsort(confidence, kind="stable")
    c, r = confidence[order], right[order]
    return [
        {"confidence": float(c[a:b].mean()), "right": float(r[a:b].mean()), "n": b - a}
        for a, b in pairwise(_edges(c, count))
    ]


def _edges(c: Floats, count: int) -> list[int]:
    """Where bins begin and end in sorted confidences."""
    last = c[np.linspace(0, len(c), min(count, len(c)) + 1).astype(int)[1:] - 1]
    return [0, *dict.fromkeys(int(e) for e in np.searchsorted(c, last, side="right"))]


def ece(confidence: Floats, right: Floats, count: int = BINS) -> float:
    """Expected calibration error: Σ n_b/n |mean confidence − share right| over the bins."""
    of = bins(confidence, right, count)
    return math.fsum(b["n"] * abs(b["confidence"] - b["right"]) for b in of) / len(confidence)


def ece_with_interval(
    confidence: Floats, right: Floats, of: Sequence[int] | None = None, *, seed: int = 0
) -> tuple[float, Interval]:
    """ECE and a 95 % interval of what it would be of infinitely many answers in the same bins; `of` says whose answers
    are no independent witnesses of each other.

    Noise makes gaps larger and never smaller, so ECE is biased upwards; drawing answers with replacement adds the same
    noise again, and percentiles can lie above the estimate. Instead every λ is kept for which gaps of λ times those
    seen, with noise, would give an ECE such as this one more often than in the outer 5 % (a grid bootstrap, Hansen
    1999). With λ = 0, which says that all is calibrated, that is the resampling of Bröcker and Smith (2007).
    """
    order = np.argsort(confidence, kind="stable")
    c, r = confidence[order], right[order]
    groups = np.arange(len(c)) if of is None else np.asarray(of)[order]
    parts = [slice(a, b) for a, b in pairwise(_edges(c, BINS))]
    n = np.array([p.stop - p.start for p in parts])
    sure, gaps = (np.array([x[p].mean() for p in parts]) for x in (c, c - r))
    more = np.array([_design_effect((c - r)[p], groups[p]) for p in parts])
    share = n / len(c)
    value, noise = (
        float(share @ abs(gaps)),
        np.random.default_rng(seed).normal(size=(DRAWS, len(n))),
    )

    def errors(scale: float) -> Floats:
        rate = (np.clip(sure - scale * gaps, 0, 1) * n + 1) / (n + 2)  # not 0 where all are right
        return np.sqrt(more * rate * (1 - rate) / n)

    def below(scale: float) -> float:
        return float((abs(scale * gaps + errors(scale) * noise) @ share < value).mean())

    scales = np.linspace(0, 1 + 8 * float(share @ errors(1)) / max(value, SMALLEST), 321)
    kept = [s * value for s in scales if 0.025 <= below(s) <= 0.975] or [value]
    return value, (min(kept[0], value), max(kept[-1], value))


def _design_effect(gap: Floats, of: NDArray[np.int64]) -> float:
    """How many times the variance of a mean is that of independent answers, where groups are drawn as wholes."""
    apart = gap - gap.mean()
    sums = np.bincount(np.unique(of, return_inverse=True)[1], apart)
    return max(float(sums @ sums / max(apart @ apart, SMALLEST)), 1.0)


def brier(confidence: Floats, right: Floats) -> float:
    """Mean squared difference of confidence and outcome."""
    return float(((confidence - right) ** 2).mean())


def auroc(confidence: Floats, right: Floats) -> float:
    """How often a right answer is more confident than a wrong one, ties one half; NaN where all are right or wrong."""
    _, level, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[level]  # mean rank of ties, from 1
    positive = float(right.sum())
    negative = len(right) - positive
    if positive == 0 or negative == 0:
        return math.nan
    return float((ranks @ right - positive * (positive + 1) / 2) / (positive * negative))


def risk_coverage(confidence: Floats, right: Floats) -> list[tuple[float, float]]:
    """(share answered, share wrong of these) when only the most confident are answered; equal ones come together."""
    order = np.argsort(-confidence, kind="stable")
    c, wrong = confidence[order], 1 - right[order]
    last = np.flatnonzero(np.append(np.diff(c) != 0, True))
    return [((k + 1) / len(c), float(wrong[: k + 1].mean())) for k in last]


def log_odds(confidence: Floats) -> Floats:
    """log p/(1 − p), finite."""
    p = np.clip(confidence, SMALLEST, 1 - SMALLEST)
    return np.log(p) - np.log1p(-p)


def temperature(confidence: Floats, right: Floats) -> float:
    """The T for which σ(log-odds / T) has the least log-loss. Above 1 the model was too sure.

    The loss is convex in 1/T; where confidence says nothing, or the opposite, T is at its limit of 1,000.
    """
    z, low, high = log_odds(confidence), 1e-3, 1e3

    def slope(a: float) -> float:
        return float(((_sigmoid(a * z) - right) * z).mean())

    if slope(low) >= 0:
        return 1 / low
    for _ in range(200):
        a = math.sqrt(low * high)
        low, high = (a, high) if slope(a) < 0 else (low, a)
    return 1 / low


def platt(confidence: Floats, right: Floats) -> tuple[float, float]:
    """The slope a and the offset b for which σ(a · log-odds + b) has the least log-loss.

    Outcomes are drawn towards one half as if each kind had been seen once more, so that both are finite where
    confidence parts right from wrong completely (Platt 1999, section 2.2). Newton's method on a convex loss, with
    halved steps.
    """
    x = np.stack([log_odds(confidence), np.ones(len(confidence))], 1)
    positive = float(right.sum())
    negative = len(right) - positive
    target = np.where(right > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def loss(w: Floats) -> float:
        z = x @ w
        return float((np.logaddexp(0, z) - target * z).mean())

    w: Floats = np.array([0.0, float(log_odds(target.mean()[None])[0])])
    for _ in range(100):
        p = _sigmoid(x @ w)
        gradient = x.T @ (p - target) / len(x)
        curvature = x.T @ (x * (p * (1 - p))[:, None]) / len(x)
        # Least squares, since it is flat where all confidences are alike.
        step: Floats = np.asarray(np.linalg.lstsq(curvature, gradient, rcond=None)[0], dtype=float)
        while loss(w - step) > loss(w) and abs(step).max() > 1e-9:
            step = step / 2
        if abs(step).max() <= 1e-9:
            break
        w = w - step
    return float(w[0]), float(w[1])


def with_offset(confidence: Floats, slope: float, offset: float) -> Floats:
    """σ(slope · log-odds + offset)."""
    return _sigmoid(slope * log_odds(confidence) + offset)


def tempered(confidence: Floats, t: float) -> Floats:
    """σ(log-odds / t)."""
    return _sigmoid(log_odds(confidence) / t)


def _sigmoid(z: Floats) -> Floats:
    return np.exp(-np.logaddexp(0, -z))


def with_interval(
    measure: Callable[[Floats, Floats], float], confidence: Floats, right: Floats, *, seed: int = 0
) -> tuple[float, Interval]:
    """A measure that is a mean, or nearly one, and its 95 % percentile bootstrap interval over answers."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(right), (DRAWS, len(right)))
    values = [measure(confidence[rows], right[rows]) for rows in drawn]
    low, high = (
        np.nanquantile(values, [0.025, 0.975]) if not np.isnan(values).all() else (math.nan,) * 2
    )
    return measure(confidence, right), (float(low), float(high))


def summary(confidence: Sequence[float], right: Sequence[bool]) -> dict[str, Any]:
    """All measures of answers, one a prompt, as JSON: NaN is None. Temperature, slope and offset are fitted on every
    second answer and judged, as the ECE before and after, on the others."""
    c, r = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    found: dict[str, Any] = {
        "answers": len(c),
        "right": float(r.mean()),
        "confidence": float(c.mean()),
    }
    brier_, auroc_ = (with_interval(measure, c, r) for measure in (brier, auroc))
    of = {"ece": ece_with_interval(c, r), "brier": brier_, "auroc": auroc_}
    for name, (value, ci) in of.items():
        found[name], found[f"{name}_ci"] = _told(value), [_told(x) for x in ci]
    t, (slope, offset) = temperature(c[::2], r[::2]), platt(c[::2], r[::2])
    others = {
        "before": c[1::2],
        "after": tempered(c[1::2], t),
        "offset": with_offset(c[1::2], slope, offset),
    }
    repair: dict[str, Any] = {"temperature": t, "slope": slope, "offset": offset}
    for name, p in others.items():
        repair[f"ece_{name}"], repair[f"ece_{name}_ci"] = ece_with_interval(p, r[1::2])
    return found | {
        "bins": bins(c, r),
        "risk_coverage": risk_coverage(c, r),
        "repair": repair,
    }


def _told(x: float) -> float | None:
    return x if math.isfinite(x) else None


DOUBTS = (
    "i think", "i believe", "i guess", "maybe", "perhaps", "probably", "possibly", "not sure", "not certain",
    "might be", "could be", "i don't know", "i do not know", "no idea", "hard to say",
)  # fmt: skip
NOT_TOLD = (
    "i don't know",
    "i do not know",
    "no idea",
    "cannot answer",
    "can't answer",
    "hard to say",
)


def doubts(texts: Sequence[str], right: Sequence[bool]) -> dict[str, Any]:
    """How often answers doubt in words, how often they tell nothing, and how often they are right with doubt and
    without. English phrases, so a lower bound."""
    lowered = [text.lower().replace("’", "'") for text in texts]
    doubting = [any(phrase in text for phrase in DOUBTS) for text in lowered]
    groups = {
        name: [ok for ok, d in zip(right, doubting, strict=True) if d is wanted]
        for name, wanted in (("right_with", True), ("right_without", False))
    }
    shares = {name: sum(of) / len(of) if of else None for name, of in groups.items()}
    silent = sum(any(phrase in text for phrase in NOT_TOLD) for text in lowered)
    return {"doubting": sum(doubting) / len(texts), "abstained": silent / len(texts), **shares}
