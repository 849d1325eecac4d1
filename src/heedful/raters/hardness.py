"""Which prompts are hard or dated, told for those of which nobody has been asked, too.

Where raters disagree about the same responses a prompt is hard for people; where a reward orders them otherwise than
people it is hard for the reward; where answers that lie far apart in time disagree it is dated. Each is a chance, and
by a prompt's words logistic regression predicts it, with Laplace's belief about the weights for the interval.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations

import torch
from torch import Tensor

from heedful.data.columns import prompt_text
from heedful.evals.statistics import Interval, bootstrap_ci
from heedful.raters.choosing import belief, most_likely
from heedful.raters.reliability import hashed
from heedful.types import Comparison

DAY = 86400.0
FOLDS, DRAWS, LEAST = 5, 400, 20  # LEAST prompts with something to learn from
RIDGES = (0.3, 1.0, 3.0, 10.0, 30.0)  # of which cross-validation takes one
CONSTANT = 10.0  # a large feature has a large weight for next to nothing: the mean is not shrunk


@dataclass
class Trials:
    """Of a prompt in how many of its trials it happened; sums of weights, so no whole numbers."""

    happened: float = 0.0
    of: float = 0.0

    def add(self, happened: float, weight: float) -> None:
        self.happened += weight * happened
        self.of += weight


Told = Mapping[str, Trials]  # by prompt


def disagreements(comparisons: Sequence[Comparison], days: float) -> tuple[Told, Told]:
    """Between two answers about the same two responses: less than so many days apart, and more.

    Of n answers each is in n − 1 of the pairs, so a pair weighs 2/n: n answers are n − 1 trials. Ties say neither.
    """
    answers: dict[tuple[str, tuple[str, str]], list[tuple[float | None, int]]] = defaultdict(list)
    for c in comparisons:
        at = _seconds(c.created_at)
        for (a, one), (b, other) in combinations(zip(c.responses, c.places, strict=True), 2):
            if one != other and a != b:
                said = 1 if (one < other) == (a < b) else -1
                answers[prompt_text(c.prompt), (min(a, b), max(a, b))].append((at, said))
    hard: dict[str, Trials] = defaultdict(Trials)
    dated: dict[str, Trials] = defaultdict(Trials)
    for (prompt, _), of in answers.items():
        for (then, said), (later, again) in combinations(of, 2):
            apart = None not in (then, later) and abs((later or 0) - (then or 0)) >= days * DAY
            (dated if apart else hard)[prompt].add(said != again, 2 / len(of))
    return hard, dated


def _seconds(date: str | None) -> float | None:
    """Since 1970; None where it is unknown, or no date of ISO 8601."""
    try:
        return datetime.fromisoformat(date).timestamp() if date else None
    except ValueError:
        return None


def errors(comparisons: Sequence[Comparison], scores: Sequence[Sequence[float | None]]) -> Told:
    """How often a reward, whose scores of the responses these are, orders two of them otherwise than people; each
    comparison weighs one."""
    found: dict[str, Trials] = defaultdict(Trials)
    for c, values in zip(comparisons, scores, strict=True):
        wrong = [
            0.5 if one == other else float((one > other) != (i < j))
            for (i, one), (j, other) in combinations(zip(c.places, values, strict=True), 2)
            if i != j and one is not None and other is not None
        ]
        for w in wrong:
            found[prompt_text(c.prompt)].add(w, 1 / len(wrong))
    return found


@dataclass(frozen=True)
class Predicted:
    """How well it is predicted for prompts that were kept out, and what is predicted of others."""

    prompts: int  # learned from
    mean: float
    hardest: float  # the mean of the fifth that was predicted to be the hardest
    others: float
    difference: Interval  # of hardest − others, by bootstrap over prompts
    chances: list[tuple[float, Interval]]  # of each prompt that was asked about

    @property
    def predicts(self) -> bool:
        """Whether the hardest are harder than the others beyond chance."""
        return self.difference[0] > 0


def predict(told: Told, prompts: Sequence[str], *, seed: int = 0) -> Predicted | None:
    """None where too little has happened to learn from: fewer than 20 prompts, or always or never the same."""
    known = {text: t for text, t in told.items() if t.of > 0}
    happened = torch.tensor([t.happened for t in known.values()], dtype=torch.float64)
    of = torch.tensor([t.of for t in known.values()], dtype=torch.float64)
    if len(known) < LEAST or not 0 < float(happened.sum()) < float(of.sum()):
        return None
    x = features(list(known))
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(seed)) % FOLDS
    held = {ridge: _held_out(x, happened, of, order, ridge) for ridge in RIDGES}
    ridge = min(RIDGES, key=lambda r: _loss(held[r], happened, of))
    top = held[ridge].argsort(descending=True)[: max(1, len(known) // 5)].tolist()
    rest = sorted({*range(len(known))} - {*top})
    hardest, others = (float(happened[rows].sum() / of[rows].sum()) for rows in (top, rest))
    between = _difference((happened / of).tolist(), of.tolist(), top, rest, seed)
    rows, weight = _outcomes(x, happened, of)
    weights = belief(rows, ridge=ridge, draws=DRAWS, seed=seed, weight=weight)
    chances = (features(prompts) @ weights.T).sigmoid()
    ends = chances.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64), dim=1)
    told_of = [
        (m, (low, high))
        for m, low, high in zip(chances.mean(1).tolist(), *ends.tolist(), strict=True)
    ]
    mean = float(happened.sum() / of.sum())
    return Predicted(len(known), mean, hardest, others, between, told_of)


def features(prompts: Sequence[str]) -> Tensor:
    """`[N, FEATURES + 2]`: hashed words, the logarithm of the length, and a constant."""
    lengths = torch.tensor([[math.log1p(len(p)) - 4.0] for p in prompts], dtype=torch.float64)
    constant = torch.full((len(prompts), 1), CONSTANT, dtype=torch.float64)
    return torch.cat([hashed(prompts).double(), lengths, constant], 1)


def _outcomes(x: Tensor, happened: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and weights of a regression that knows successes only: a failure is a success of −x."""
    return torch.cat([x, -x]), torch.cat([happened, of - happened])


def _held_out(x: Tensor, happened: Tensor, of: Tensor, fold: Tensor, ridge: float) -> Tensor:
    """The chance of each prompt by the others' folds."""
    chances = torch.zeros(len(x), dtype=torch.float64)
    for k in range(FOLDS):
        out = fold == k
        rows, weight = _outcomes(x[~out], happened[~out], of[~out])
        chances[out] = (x[out] @ most_likely(rows, ridge, weight)[0]).sigmoid()
    return chances


def _loss(chances: Tensor, happened: Tensor, of: Tensor) -> float:
    """Nats of what happened."""
    return -float((happened * chances.log() + (of - happened) * (1 - chances).log()).sum())


def _difference(
    rates: Sequence[float], of: Sequence[float], top: Sequence[int], rest: Sequence[int], seed: int
) -> Interval:
    """The interval of the difference of two weighted means of different prompts, from those of each (Newcombe 1998's
    square-and-add, MOVER)."""
    ends = []
    for rows, draw in ((top, seed), (rest, seed + 1)):
        weights = [of[k] for k in rows]
        mean = sum(rates[k] * of[k] for k in rows) / sum(weights)
        ends.append((mean, *bootstrap_ci([rates[k] for k in rows], weights, seed=draw)))
    (one, low, high), (other, below, above) = ends
    middle = one - other
    return (
        middle - math.hypot(one - low, above - other),
        middle + math.hypot(high - one, other - below),
    )
