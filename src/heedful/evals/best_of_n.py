"""Best-of-n as a policy: its distribution, its KL to the policy it samples from, its score, with ties.

Of n responses the one with the highest reward is kept, of several the first. With F the distribution
function of the reward under π, a level r of the reward is kept with probability q(r) = F(r)ⁿ − F(r⁻)ⁿ, and among
the responses of a level nothing changes. So KL(best-of-n ‖ π) = Σ_r q(r) log(q(r)/p(r)) over *levels*: for
a continuous reward that is log n − (n−1)/n (Stiennon et al. 2020, app. G.3), and in general no more than
that (Beirami et al. 2024). A reward with few values lies far below the formula.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from heedful.evals.statistics import Interval, bootstrap_ci

# Rewards closer than this count as equal: the same text scores a little differently in another batch.
TIE_TOLERANCE = 2e-6


def bound(n: int) -> float:
    """log n − (n−1)/n, nats: the KL of best-of-n where no two responses tie, and the most it can be."""
    return math.log(n) - (n - 1) / n


def log_policy(logp: Tensor, rewards: Tensor, n: int) -> Tensor:
    """log q(y) of best-of-n for *all* responses y, float64 `[N]`, from log π(y) and r(y), both `[N]`; exact."""
    logp, rewards = logp.double(), rewards.double()
    _, level = rewards.unique(return_inverse=True)  # ascending
    p = torch.zeros(int(level.max()) + 1, dtype=torch.float64).index_add(0, level, logp.exp())
    cumulative = p.cumsum(0)
    # log(Fⁿ − F⁻ⁿ) = n log F + log(1 − (F⁻/F)ⁿ), which keeps its digits where p is small.
    log_q = n * cumulative.log() + torch.log(-torch.expm1(n * torch.log1p(-(p / cumulative))))
    return logp + (log_q - p.log())[level]


def exact_kl(logp: Tensor, rewards: Tensor, n: int) -> float:
    """KL(best-of-n ‖ π) in nats by summing over all responses, whose log π(y) and r(y) are given, both `[N]`."""
    log_q = log_policy(logp, rewards, n)
    return float((log_q.exp() * (log_q - logp.double())).sum())


def estimated_kl(rewards: Sequence[float], n: int) -> float:
    """KL(best-of-n ‖ π) in nats for one prompt, from the rewards of N ≥ n samples of π (N may also be n itself).

    The empirical distribution in place of π gives a value that is mostly too small, as a level that was not
    drawn cannot be kept; the jackknife (Quenouille 1956) removes the part of this bias that falls
    as 1/N. Single values scatter, also above `bound`: average over prompts, as `mean_kl` does.
    """
    counts, total = _levels(rewards)[1], len(rewards)
    if total < 2:
        return 0.0
    without = math.fsum(
        c * _kl_of([*counts[:i], c - 1, *counts[i + 1 :]], n) for i, c in enumerate(counts)
    )
    return total * _kl_of(counts, n) - (total - 1) * without / total


def mean_kl(rewards: Sequence[Sequence[float]], n: int) -> tuple[float, Interval]:
    """The mean of `estimated_kl` over prompts and its 95 % bootstrap interval, all within 0 and `bound`."""
    kls = [estimated_kl(r, n) for r in rewards]
    low, high = bootstrap_ci(kls)
    mean, low, high = (min(bound(n), max(0.0, x)) for x in (math.fsum(kls) / len(kls), low, high))
    return mean, (low, high)


def mean_score(rewards: Sequence[float], scores: Sequence[float], n: int) -> float:
    """Expected score of the best of n by reward, from N ≥ n samples with rewards and scores of one prompt."""
    levels, counts = _levels(rewards)
    probabilities, below = [], 0
    for count in counts:
        probabilities.append(_probability(below, count, len(rewards), n))
        below += count
    by_level = [
        [s for s, k in zip(scores, levels, strict=True) if k == i] for i in range(len(counts))
    ]
    return math.fsum(q * float(np.mean(s)) for q, s in zip(probabilities, by_level, strict=True))


def _levels(rewards: Sequence[float]) -> tuple[list[int], list[int]]:
    """The level of each reward, 0 for the lowest, and how many rewards each level has."""
    tolerance = TIE_TOLERANCE * max(1.0, *(abs(r) for r in rewards))
    levels, counts = [0] * len(rewards), [0]
    order = sorted(range(len(rewards)), key=rewards.__getitem__)
    for previous, i in zip([None, *order], order, strict=False):
        if previous is not None and rewards[i] - rewards[previous] > tolerance:
            counts.append(0)
        levels[i] = len(counts) - 1
        counts[-1] += 1
    return levels, counts


def _kl_of(counts: Sequence[int], n: int) -> float:
    """Σ q log(q/p) with p the shares of the counts, lowest level first."""
    total, below, kl = sum(counts), 0, 0.0
    for count in counts:
        q = _probability(below, count, total, n)
        kl += q * math.log(q * total / count) if q > 0 else 0.0
        below += count
    return kl


def _probability(below: int, count: int, total: int, n: int) -> float:
    return ((below + count) / total) ** n - (below / total) ** n
