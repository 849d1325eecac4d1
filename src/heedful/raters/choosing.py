"""What to ask next: which pairs, and whom, tell most about what people want.

A belief about a reward that is linear in features (a reward model's last hidden states, say) is Gaussian around the
most likely weights (Laplace): its draws are an ensemble that nobody had to train. How often pairs win under each draw
says how much an answer would tell. A part of the questions is drawn uniformly all the same, and with which probability
each came to be asked is kept: only so can agreement and accuracy be estimated without bias from what was asked.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from heedful.errors import UserError

DRAWS, STEPS = 256, 50
AMONG = 20  # times as many questions as are asked: the most telling alone, which those asked in turn come from
UNIFORM = 0.15  # of the questions


def most_likely(
    difference: Tensor, ridge: float, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The weights `[F]` of answered pairs' differences `[N, F]` (better − worse) by logistic regression with the prior
    N(0, 1/ridge), and the precision `[F, F]` of the belief around them: ridge + Σ p(1 − p)·d dᵀ. Newton, float64."""
    d = difference.double()
    count = torch.ones(len(d), dtype=torch.float64) if weight is None else weight.double()
    w, prior = d.new_zeros(d.shape[1]), ridge * torch.eye(d.shape[1], dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        return 0.5 * ridge * x @ x - (count * logsigmoid(d @ x)).sum()

    def precision(x: Tensor) -> Tensor:
        p = (d @ x).sigmoid()
        return prior + (d * (count * p * (1 - p))[:, None]).T @ d

    for _ in range(STEPS):
        gradient = ridge * w - d.T @ (count * (-(d @ w)).sigmoid())
        step, size = torch.linalg.solve(precision(w), gradient), 1.0
        while loss(w - size * step) > loss(w) and size > 1e-6:
            size /= 2
        w = w - size * step
        if float(step.abs().max()) < 1e-8:
            break
    return w, precision(w)


def belief(
    difference: Tensor, *, ridge: float = 1.0, draws: int = DRAWS, seed: int = 0, weight: Tensor | None = None
) -> Tensor:  # fmt: skip
    """Draws `[M, F]` of the weights, in pairs around the most likely ones."""
    w, precision = most_likely(difference, ridge, weight)
    noise = torch.randn(
        w.shape[0], draws // 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    factor = torch.linalg.cholesky(precision)
    around = torch.linalg.solve_triangular(factor.T, noise, upper=True).T
    return torch.cat([w + around, w - around])


def entropy(p: Tensor) -> Tensor:
    """Of an answer that is yes with p, in nats."""
    return -(torch.special.xlogy(p, p) + torch.special.xlogy(1 - p, 1 - p))


def disagreement(margin: Tensor) -> Tensor:
    """The standard deviation over draws of P(first is better), `[N]` of margins `[M, N]` (Christiano et al. 2017)."""
    return margin.sigmoid().std(0, correction=0)


def bald(margin: Tensor) -> Tensor:
    """H(E p) − E H(p): what the answer would tell of the weights, in nats `[N]` (Houlsby et al. 2011)."""
    p = margin.sigmoid()
    return entropy(p.mean(0)) - entropy(p).mean(0)


def pair_and_rater(margin: Tensor, reliability: Tensor, curiosity: float = 1.0) -> Tensor:
    """What the answer of each rater to each pair would tell, `[N, R]`, of margins `[M, N]` and draws of each rater's
    reliability η `[M', R]`: about what is better, and `curiosity` times about the rater (Crowd-BT's rule, Chen et al.
    2013, section 5; expected KLs are exact mutual informations here). P(first) = η·p + (1 − η)·(1 − p)."""
    p, mean_eta = margin.sigmoid(), reliability.mean(0)
    mean_p = p.mean(0)

    def said(p: Tensor, eta: Tensor) -> Tensor:
        return eta * p + (1 - eta) * (1 - p)

    total = entropy(said(mean_p[:, None], mean_eta[None, :]))
    of_pair = total - entropy(said(p[:, :, None], mean_eta[None, None, :])).mean(0)
    of_rater = total - entropy(said(mean_p[None, :, None], reliability[:, None, :])).mean(0)
    return of_pair + curiosity * of_rater


def double_thompson(scores: Tensor, rng: random.Random, attempts: int = 30) -> tuple[int, int]:
    """Two of K responses, of scores `[M, K]`: the best of one draw, and the best of the first other draw for which it
    is another; by chance where there is none (Dwaracherla et al. 2024)."""
    first = int(scores[rng.randrange(len(scores))].argmax())
    for _ in range(attempts):
        second = int(scores[rng.randrange(len(scores))].argmax())
        if second != first:
            return first, second
    return first, rng.choice([k for k in range(scores.shape[1]) if k != first])


# How telling a pair is by itself; of double Thompson sampling, which chooses pairs, how often draws disagree about one.
STRATEGIES: dict[str, Callable[[Tensor], Tensor]] = {
    "disagreement": disagreement, "bald": bald, "double_thompson": disagreement,
}  # fmt: skip


def in_turn(margin: Tensor, number: int, tells: Callable[[Tensor], Tensor]) -> Tensor:
    """What each of N questions tells, `[N]` of margins `[M, N]`, `number` of them one after another: each of these as
    if those before it had been answered, and the rest as if all of them had. The most telling questions alone are
    often one question many times over.

    An answer with p(1 − p) of information leaves a Gaussian belief smaller, whatever it says (as in BatchBALD, Kirsch
    et al. 2019, which sums over answers; here they stay Gaussian). Only the `AMONG · number` most telling alone are
    weighed so.
    """
    alone = tells(margin)
    among = alone.argsort(descending=True, stable=True)[: AMONG * number]
    some = margin[:, among]
    mean = some.mean(0)
    away, information = some - mean, (some.sigmoid() * (1 - some.sigmoid())).mean(0)
    value, least, taken = alone[among], math.inf, dict[int, float]()
    for _ in range(min(number, len(among))):
        left = value.clone()
        left[list(taken)] = -math.inf
        best = int(left.argmax())
        least = taken[best] = min(least, float(left[best]))
        away = answered(away, best, float(information[best]))
        value = tells(mean + away)
    told = alone.clamp(max=least)
    told[among] = value.clamp(max=least)
    for k, worth in taken.items():
        told[among[k]] = worth
    return told


def answered(away: Tensor, k: int, information: float) -> Tensor:
    """Margins `[M, N]`, their means taken off, once question k has been answered: a square-root Kalman step, after
    which variances and covariances are those of the Gaussian posterior."""
    mine = away[:, k]
    variance = float(mine.square().mean())
    if variance == 0:
        return away
    shrink = 1 - 1 / math.sqrt(1 + information * variance)
    return away - shrink * mine[:, None] * (mine @ away) / (variance * len(mine))


@dataclass(frozen=True)
class Asked:
    """A question: which one, the probability with which it was to be asked, and whether chance chose it."""

    number: int
    propensity: float
    by_chance: bool


def chosen(
    values: Sequence[float], number: int, *, uniform: float = UNIFORM, seed: int = 0
) -> list[Asked]:
    """`number` of the questions: a share drawn uniformly, then those of the highest value among the others.

    UserError for a share that is none, or more questions than there are.
    """
    if not 0 <= uniform <= 1:
        raise UserError(f"the share of questions by chance is from 0 to 1, not {uniform}")
    if not 0 <= number <= len(values):
        raise UserError(f"{number} of {len(values)} questions cannot be asked")
    rng, count = random.Random(f"questions/{seed}"), round(uniform * number)
    by_chance = set(rng.sample(range(len(values)), count))
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    rank = {i: r for r, i in enumerate(order)}
    best = [i for i in order if i not in by_chance][: number - count]
    return [
        Asked(i, propensity(len(values), number, count, rank[i]), i in by_chance)
        for i in sorted((*by_chance, *best), key=lambda i: rank[i])
    ]


@dataclass(frozen=True)
class Question:
    """Two responses of a group that are to be compared: which, by which strategy, what it tells, P(asked)."""

    group: int
    pair: tuple[int, int]
    strategy: str
    score: float | None
    propensity: float


Telling = tuple[tuple[int, int], float]  # a pair of a group's responses, and what it tells


def best_pair(strategy: str, scores: Tensor, rng: random.Random) -> tuple[tuple[int, int], Tensor]:
    """The most telling pair of K responses, of draws of their scores `[M, K]`, by double Thompson sampling two that may
    be the best; and its margins `[M]`."""
    pairs = list(combinations(range(scores.shape[1]), 2))
    margin = torch.stack([scores[:, i] - scores[:, j] for i, j in pairs], 1)
    if strategy == "double_thompson":
        one, other = sorted(double_thompson(scores, rng))
        place = pairs.index((one, other))
    else:
        place = int(STRATEGIES[strategy](margin).argmax())
    return pairs[place], margin[:, place]


def questions(
    best: Sequence[Telling] | None,
    sizes: Sequence[int],
    number: int,
    *,
    strategy: str,
    uniform: float = UNIFORM,
    seed: int = 0,
) -> list[Question]:
    """A pair of each of `number` of the groups, of so many responses; the most telling first. Where chance has chosen
    the group it chooses the pair, too, and the propensity is the pair's. `best` None: all by chance."""
    rng, share = random.Random(f"pairs/{seed}"), 1.0 if best is None else uniform
    values = [0.0] * len(sizes) if best is None else [value for _, value in best]
    by_chance = round(share * number) / max(1, len(sizes))
    asked = []
    for a in chosen(values, number, uniform=share, seed=seed):
        pairs = list(combinations(range(sizes[a.number]), 2))
        mine, value = (None, None) if best is None else best[a.number]
        pair = rng.choice(pairs) if a.by_chance or mine is None else mine
        p = by_chance / len(pairs) + (a.propensity - by_chance) * (pair == mine)
        name = "random" if a.by_chance else strategy
        asked.append(
            Question(a.number, pair, name, None if value is None else round(value, 6), round(p, 6))
        )
    return asked


def propensity(questions: int, number: int, by_chance: int, rank: int) -> float:
    """P(asked) of the question with so many better ones: it is drawn, or enough of the better ones are that it is among
    the best of the rest (hypergeometric)."""
    total = _log_choose(questions, by_chance)
    least = max(0, rank - (number - by_chance) + 1)
    found = by_chance / questions
    for k in range(least, min(rank, by_chance) + 1):
        if number > by_chance and by_chance - k <= questions - 1 - rank:
            ways = _log_choose(rank, k) + _log_choose(questions - 1 - rank, by_chance - k)
            found += math.exp(ways - total)
    return min(1.0, found)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
