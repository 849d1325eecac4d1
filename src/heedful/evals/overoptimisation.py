"""How far to trust a reward: best-of-n for every n from one pool of samples, and the laws fitted to it.

For each prompt N samples are drawn once, each with the proxy reward and another score of the same response: gold, or a
reward that was held out. The expected score of the best of n by the proxy follows from order statistics, without bias
(Nakano et al. 2021, app. I), and so does the KL. With d = √KL the gold score follows d (α − β d) for best-of-n, and
d (α − β log d) for RL (Gao et al. 2023, eq. 1 and 2): it rises, peaks, and falls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from heedful.evals.best_of_n import TIE_TOLERANCE, bound
from heedful.evals.falls import first_fall, margin
from heedful.evals.statistics import Interval

Floats = NDArray[np.float64]


def sizes(most: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, … and `most`: evenly spread in log n."""
    steps = {m << k for m in (2, 3) for k in range(most.bit_length())}
    return sorted({1, *(n for n in steps if n < most), most})


def levels(proxy: Floats) -> list[tuple[int, int]]:
    """Runs of ascending sorted rewards that count as equal, as (how many lie below, how many there are)."""
    return [(a, b - a) for a, b in pairwise(_ends(proxy).tolist())]


def _ends(proxy: Floats) -> NDArray[np.intp]:
    """0, and how many lie below the end of each run of equal ones."""
    ordered = np.sort(proxy)
    tolerance = TIE_TOLERANCE * max(1.0, float(np.abs(ordered).max()))
    return np.r_[0, np.flatnonzero(np.diff(ordered) > tolerance) + 1, len(ordered)]


def best_scores(proxy: Floats, score: Floats, ns: Sequence[int]) -> Floats:
    """E[score of the best of n by proxy], `[len(ns)]`, of one prompt's N samples: unbiased for every n ≤ N.

    Of all C(N, n) subsets, C(b + c, n) − C(b, n) have their best in a level of c samples above b others; among the
    samples of a level each is as likely as any other.
    """
    if max(ns) > len(proxy):
        raise ValueError(f"the best of {max(ns)} needs as many samples, not {len(proxy)}")
    ordered = np.asarray(score, dtype=float)[np.argsort(proxy, kind="stable")]
    ends = _ends(np.asarray(proxy, dtype=float))
    means = np.add.reduceat(ordered, ends[:-1]) / np.diff(ends)
    below = np.stack([_share_below(len(proxy), n) for n in ns])[:, ends]
    return np.diff(below, axis=1) @ means


@cache
def _share_below(total: int, n: int) -> Floats:
    """C(m, n) / C(total, n) for m = 0 … total: how often all of n lie among the lowest m."""
    share = np.zeros(total + 1)
    m = np.arange(n, total + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])  # log k!
    share[n:] = np.exp(logs[m] - logs[m - n] - logs[total] + logs[total - n])
    return share


def best_kl(proxy: Floats, n: int) -> float:
    """KL(best-of-n ‖ π) in nats of one prompt: log n − (n−1)/n, less what ties take away.

    Within a level of the reward nothing is chosen. A level that spans [u, v] of the distribution function would give
    ∫ n F^(n−1) log(n F^(n−1)) dF if its samples differed, and gives q log(q / (v − u)) with q = vⁿ − uⁿ.
    """
    kl, total = bound(n), len(proxy)
    for below, count in levels(np.asarray(proxy, dtype=float)):
        if count == 1:
            continue
        u, v = below / total, (below + count) / total
        q = v**n - u**n
        if q > 0:
            apart = q * math.log(n) + (n - 1) / n * (_entropy_term(v**n) - _entropy_term(u**n))
            kl -= apart - q * math.log(q / (v - u))
    return max(0.0, kl)


def _entropy_term(x: float) -> float:
    """x log x − x, the integral of log x."""
    return x * math.log(x) - x if x > 0 else 0.0


@dataclass(frozen=True)
class Fit:
    """R(d) = d (α − β d) for best-of-n, or d (α − β log d) for RL, fitted by least squares; R² of the fit."""

    alpha: float
    beta: float
    r2: float

    @property
    def peak(self) -> float | None:
        """The d = α / 2β at which best-of-n's law is highest; None where it never falls."""
        return self.alpha / (2 * self.beta) if self.beta > 0 and self.alpha > 0 else None


def fit_best_of_n(d: Sequence[float], gain: Sequence[float]) -> Fit:
    """d (α − β d): gain over the policy itself at d = √KL."""
    x = np.asarray(d, dtype=float)
    return _fitted(np.stack([x, -x * x], 1), np.asarray(gain, dtype=float))


def fit_rl(d: Sequence[float], gain: Sequence[float]) -> Fit:
    """d (α − β log d), 0 at d = 0."""
    x = np.asarray(d, dtype=float)
    return _fitted(
        np.stack([x, -x * np.log(np.maximum(x, 1e-12))], 1), np.asarray(gain, dtype=float)
    )


def _fitted(columns: Floats, y: Floats) -> Fit:
    (alpha, beta), *_ = np.linalg.lstsq(columns, y, rcond=None)
    left = float(((y - columns @ [alpha, beta]) ** 2).sum())
    spread = float(((y - y.mean()) ** 2).sum())
    return Fit(float(alpha), float(beta), 1 - left / spread if spread > 0 else math.nan)


@dataclass(frozen=True)
class Curve:
    """A score of best-of-n against n: means over prompts with 95 % intervals, its peak, and what is lost after it."""

    mean: list[float]
    ci: list[Interval]
    peak: int
    """Place of the highest mean among the ns."""
    lost: float
    """Share of the gain at the peak over n = 1 that is gone at the last n; 0 where the last is the peak."""
    fall_ci: Interval
    """Interval of peak − last, prompts drawn anew and the peak where it is: above 0, the fall is no chance."""


def curve(scores: Floats, *, draws: int = 2000, seed: int = 0) -> Curve:
    """`scores` `[P, len(ns)]` of P prompts → the curve; prompts are drawn with replacement for the intervals."""
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(scores), np.full(len(scores), 1 / len(scores)), size=draws)
    boots = weights @ scores / len(scores)  # [draws, len(ns)]
    low, high = np.quantile(boots, [0.025, 0.975], axis=0)
    mean = scores.mean(0)
    peak = int(mean.argmax())
    gain, fall = float(mean[peak] - mean[0]), float(mean[peak] - mean[-1])
    ends = np.quantile(boots[:, peak] - boots[:, -1], [0.025, 0.975])
    return Curve(
        mean.tolist(),
        list(zip(low.tolist(), high.tolist(), strict=True)),
        peak,
        fall / gain if gain > 0 else 0.0,
        (float(ends[0]), float(ends[1])),
    )


def alarm(watched: Floats) -> int | None:
    """The place among the ns (or checkpoints) at which a watched reward, `[P, places]`, is known to fall by the rule of
    `evals.falls`; differences are those of the same P prompts. Of an ensemble, `[members, P, places]`, the mean is
    watched, and the interval of the members' falls is part of the margin."""
    members = watched if watched.ndim == 3 else watched[None]
    prompts = members.shape[1]

    def needed(best: int, place: int) -> float:
        if prompts < 2:
            return math.inf
        apart = members[:, :, best] - members[:, :, place]
        over_prompts = math.sqrt(float(apart.mean(0).var(ddof=1)) / prompts)
        return margin(over_prompts, apart.mean(1).tolist())

    return first_fall(members.mean((0, 1)).tolist(), needed)
