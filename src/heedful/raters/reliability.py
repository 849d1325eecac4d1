"""Who can be relied on: a model of raters fitted to their comparisons, without gold answers or with some.

Crowd-BT (Chen et al. 2013) with two habits beside it. For the pair (i, j) and rater k,

    P(i ≻ j | k) = η_k·σ(z) + (1 − η_k)·σ(−z),   z = s_i − s_j + (b + b_k)·place + (c + c_k)·length,

where s is what a response is worth, η_k how often rater k says what they see (½: chance, below: the reverse), place is
1 if i was shown before j, −1 if behind and 0 if nobody knows, and length is log(words_i) − log(words_j) in standard
deviations. s_i = u_i + w·φ_i: φ_i are hashed words, so that raters who never met the same response can be compared,
too. Everything has a normal prior; L-BFGS finds the most likely values, all raters at once.
"""

from __future__ import annotations

import math
import re
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heedful.data.sources import prompt_text
from heedful.errors import UserError
from heedful.types import Comparison

FEATURES = 256  # hashed words; φ has length 1
WORDS = 100  # of a response that are hashed
AT_ONCE = 10_000  # responses that are hashed at once
PRIOR_LOGIT, PRIOR_STD = 2.0, 1.5  # of log η/(1 − η): 0.88, and 95 % of people above 0.3
# Of the other priors, around 0; the scale's is around 1.
STD = {"worth": 0.5, "words": 2.0, "place": 0.5, "length": 0.5, "shared": 1.0, "scale": 1.0}
WORTH = ("worth", "words", "place", "length", "shared")
RATERS = ("logit", "place", "length", "shared", "scale")
FOLDS, STEPS = 5, 100
ENOUGH = 1e-7  # a step that betters log P of a pair by less on average is the last
TINY = 1e-300
Theta = dict[str, Tensor]  # parameters by name
Z = 1.959964  # 95 %
CLEAR = 4.0  # log-odds with which somebody reliable sees what a gold answer says


@dataclass(frozen=True, slots=True)
class Pairs:
    """N pairs of responses that somebody has put in an order, as numbers that count from 0."""

    better: Tensor  # [N] which response
    worse: Tensor  # [N]
    rater: Tensor  # [N]
    place: Tensor  # [N] 1: the better one was shown first, -1: the worse one, 0: unknown
    length: Tensor  # [N] log(words of the better) − log(words of the worse), in standard deviations
    weight: Tensor  # [N] a ranking of K is C(K, 2) pairs, which count as K − 1
    row: Tensor  # [N] the comparison that a pair comes from
    words: Tensor  # [responses, FEATURES] φ, or any other features
    people: list[str]
    gold: Tensor | None = (
        None  # [N] 1: a gold answer says so, too; -1: it says the reverse; 0: nobody knows
    )


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval, from the curvature of the rater's own part of the likelihood."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Fit:
    """What a fit gives for each rater, in the order of `Pairs.people`, and for each pair."""

    reliability: list[Estimate]  # η
    place: list[Estimate]  # log-odds for what was shown first
    length: list[Estimate]  # log-odds for a standard deviation more of length
    difference: Tensor  # [N] s of the better less that of the worse, as the fit has it without this comparison
    habit: Tensor  # [N] what place and length add to z, as the same fits of worth have it; to log-odds of what is said
    # it adds 2η − 1 times that

    @property
    def weights(self) -> list[float]:
        """2η − 1, and 0 below chance: with answers that are wrong with chance 1 − η, the gradient of a rater's pairs is
        that many times the true one, and so they are to be weighed."""
        return [max(0.0, 2 * e.value - 1) for e in self.reliability]


class Collected:
    """Ordered pairs of comparisons that come one by one; ties and responses without a rank order nothing. Of each pair
    a few numbers are kept, of each comparison when it was made and in how many seconds (NaN: unknown), and each
    response's text once."""

    def __init__(self, gold: Iterable[Comparison] = ()) -> None:
        """`gold`: what is known to be right of some responses to some prompts."""
        self.gold = {
            (prompt_text(c.prompt), better, worse)
            for c in gold
            for better, i in zip(c.responses, c.places, strict=True)
            for worse, j in zip(c.responses, c.places, strict=True)
            if i < j
        }
        self.known = array("b")
        self.people: dict[str, int] = {}
        self.responses: dict[tuple[str, str], int] = {}
        self.columns = tuple(map(array, "qqqbddq"))  # as the first of `Pairs`
        self.when, self.seconds = list[str](), array("d")
        self.comparisons = 0

    def add(self, c: Comparison) -> None:
        """One more; one of nobody is counted alone."""
        number, self.comparisons = self.comparisons, self.comparisons + 1
        self.when.append(c.created_at or "")
        self.seconds.append(math.nan if c.seconds is None else c.seconds)
        if c.rater is None:
            return
        prompt, places = prompt_text(c.prompt), c.places
        rater = self.people.setdefault(c.rater, len(self.people))
        ids = [self.responses.setdefault((prompt, r), len(self.responses)) for r in c.responses]
        shown = dict(zip(c.order_shown or (), range(len(ids)), strict=False))
        ordered = [
            (i, j)
            for i in range(len(ids))
            for j in range(len(ids))
            if places[i] < places[j] and ids[i] != ids[j]
        ]
        for i, j in ordered:
            place = (shown[i] < shown[j]) - (shown[j] < shown[i]) if shown else 0
            length = _length(c.responses[i]) - _length(c.responses[j])
            weight = (len(ids) - 1) / len(ordered)
            pair = (ids[i], ids[j], rater, place, length, min(1.0, weight), number)
            for column, value in zip(self.columns, pair, strict=True):
                column.append(value)
            better, worse = c.responses[i], c.responses[j]
            self.known.append(
                ((prompt, better, worse) in self.gold) - ((prompt, worse, better) in self.gold)
            )

    def pairs(self) -> Pairs:
        """All of them. UserError where there is none."""
        if not self.known:
            raise UserError(
                "no comparison has both a rater and an order; a column rater says whose it is"
            )
        better, worse, rater, place, length, weight, row = (
            torch.tensor(np.array(column)) for column in self.columns
        )
        return Pairs(
            better=better,
            worse=worse,
            rater=rater,
            place=place.double(),
            length=length / length.square().mean().sqrt().clamp(min=1e-9),
            weight=weight,
            row=row,
            words=hashed([response for _, response in self.responses]),
            people=list(self.people),
            gold=torch.tensor(np.array(self.known)).long() if any(self.known) else None,
        )


def collected(comparisons: Iterable[Comparison], gold: Iterable[Comparison] = ()) -> Collected:
    """What is kept of all these comparisons."""
    kept = Collected(gold)
    for c in comparisons:
        kept.add(c)
    return kept


def hashed(texts: Sequence[str]) -> Tensor:
    """φ `[texts, FEATURES]`: the first words of each text, each with a sign and a place by its hash; length 1."""
    known: dict[str, tuple[int, float]] = {}
    counts = torch.zeros(len(texts), FEATURES)
    for begin in range(0, len(texts), AT_ONCE):
        part = counts[begin : begin + AT_ONCE]
        _count(part, texts[begin : begin + AT_ONCE], known)
        part /= part.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return counts


def _count(counts: Tensor, texts: Sequence[str], known: dict[str, tuple[int, float]]) -> None:
    """Add the words of each text to its row; `known` has those that were met before."""
    rows: list[int] = []
    places: list[int] = []
    signs: list[float] = []
    for row, text in enumerate(texts):
        for word in re.findall(r"\w+", text[: 12 * WORDS].casefold())[:WORDS]:
            if word not in known:
                digest = zlib.crc32(word.encode("utf-8", "surrogatepass"))
                known[word] = (digest // 2 % FEATURES, 1.0 if digest % 2 else -1.0)
            place, sign = known[word]
            rows.append(row)
            places.append(place)
            signs.append(sign)
    at = torch.tensor(rows, dtype=torch.long), torch.tensor(places, dtype=torch.long)
    counts.index_put_(at, torch.tensor(signs), accumulate=True)


def worth(theta: Theta, pairs: Pairs) -> Tensor:
    """s `[responses]`."""
    return theta["worth"] + pairs.words @ theta["words"].to(pairs.words.dtype)


def habits(theta: Theta, pairs: Pairs) -> Tensor:
    """What place and length add to z `[N]`."""
    place = (theta["shared"][0] + theta["place"]).index_select(0, pairs.rater)
    length = (theta["shared"][1] + theta["length"]).index_select(0, pairs.rater)
    return place * pairs.place + length * pairs.length


def log_likelihood(theta: Theta, pairs: Pairs, difference: Tensor | None = None) -> Tensor:
    """log P `[N]` of each pair, its better response first. `difference` `[N]` of its two responses' worth, times a
    scale, where it is not to come from theta; where a gold answer is known that is what is seen."""
    if difference is None:
        s = worth(theta, pairs)
        difference = s.index_select(0, pairs.better) - s.index_select(0, pairs.worse)
    else:
        difference = seen(pairs, theta["scale"] * difference)
    eta = theta["logit"].sigmoid().index_select(0, pairs.rater)
    return _LogMixture.apply(difference + habits(theta, pairs), eta)  # type: ignore[return-value]


class _LogMixture(torch.autograd.Function):
    """log(η·σ(z) + (1 − η)·σ(−z)) `[N]` of z and η; the gradient by hand, since this is where a fit's time goes."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, eta: Tensor) -> Tensor:  # type: ignore[override]
        up, bent = z.sigmoid(), 2 * eta - 1
        p = (1 - eta + bent * up).clamp_(min=TINY)
        ctx.save_for_backward(up, bent, p)
        return p.log()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        up, bent, p = ctx.saved_tensors
        share = gradient / p
        return share * bent * up * (1 - up), share * (2 * up - 1)


def seen(pairs: Pairs, difference: Tensor) -> Tensor:
    """The difference `[N]` that somebody reliable sees: what a gold answer says, else this one."""
    if pairs.gold is None:
        return difference
    return torch.where(pairs.gold == 0, difference, CLEAR * pairs.gold)


def objective(theta: Theta, pairs: Pairs, difference: Tensor | None = None) -> Tensor:
    """−log posterior, up to a constant."""
    prior = ((theta["logit"] - PRIOR_LOGIT) / PRIOR_STD).square().sum()
    for name, std in STD.items():
        prior = prior + ((theta[name] - float(name == "scale")) / std).square().sum()
    return 0.5 * prior - (pairs.weight * log_likelihood(theta, pairs, difference)).sum()


def start(pairs: Pairs) -> Theta:
    """The middle of the priors: everybody is rather reliable, nothing is worth more than anything else."""
    raters = len(pairs.people)
    sizes = {"worth": len(pairs.words), "words": pairs.words.shape[1]}
    sizes |= {"place": raters, "length": raters}
    theta = {name: torch.zeros(n, dtype=torch.float64) for name, n in sizes.items()}
    theta["logit"] = torch.full((raters,), PRIOR_LOGIT, dtype=torch.float64)
    theta["shared"] = torch.zeros(2, dtype=torch.float64)
    return theta | {"scale": torch.ones(1, dtype=torch.float64)}


def fit(pairs: Pairs, *, rounds: int = 3, seed: int = 0) -> Fit:
    """Worth and reliability in turn, so many times.

    What responses are worth is fitted with the raters' reliability as it stands; reliability and habits are then those
    that the *held-out* pairs ask for, each given a worth from four fifths of the comparisons without it. Fitted at
    once they would flatter everybody: with few answers a response, each rater's own explain themselves. With gold
    answers reliability begins as these have it, so that a majority which errs together is not taken for the truth.
    """
    generator = torch.Generator().manual_seed(seed)
    comparisons = int(pairs.row.max()) + 1
    fold = torch.randint(FOLDS, (comparisons,), generator=generator)[pairs.row]
    theta = start(pairs)
    folds = [dict(theta) for _ in range(FOLDS)]
    difference = habit = torch.zeros(len(pairs.row), dtype=torch.float64)
    if pairs.gold is not None:
        sure = replace(pairs, weight=pairs.weight * (pairs.gold != 0))
        theta |= maximised(start(pairs), sure, RATERS, difference)
    for _ in range(rounds):
        for k, values in enumerate(folds):
            rest = replace(pairs, weight=pairs.weight * (fold != k))
            values |= maximised(values | {"logit": theta["logit"]}, rest, WORTH)
            apart = worth(values, pairs)
            apart = apart[pairs.better] - apart[pairs.worse]
            difference = torch.where(fold == k, apart, difference)
            habit = torch.where(fold == k, habits(values, pairs), habit)
        theta |= maximised(start(pairs), pairs, RATERS, difference)
    return _of(theta, pairs, seen(pairs, theta["scale"] * difference), habit)


def maximised(
    theta: Theta, pairs: Pairs, free: Sequence[str], difference: Tensor | None = None
) -> Theta:
    """The most likely values of the named parameters, the others as they are; `difference` as in `logits`."""
    values = {name: value.detach().clone() for name, value in theta.items()}
    moved = [values[name].requires_grad_() for name in free]
    optimiser = torch.optim.LBFGS(
        moved,
        max_iter=STEPS,
        history_size=20,
        tolerance_grad=1e-7,
        tolerance_change=ENOUGH,
        line_search_fn="strong_wolfe",
    )
    count = pairs.weight.sum()

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = objective(values, pairs, difference) / count
        loss.backward()
        return loss

    optimiser.step(closure)
    return {name: value.detach() for name, value in values.items()}


def _of(theta: Theta, pairs: Pairs, difference: Tensor, habit: Tensor) -> Fit:
    """Values and intervals. A rater's three numbers have the information Σ g·gᵀ over their pairs, plus the prior's."""
    z, eta = habits(theta, pairs) + difference, torch.sigmoid(theta["logit"])
    up = torch.sigmoid(z)
    probability = eta[pairs.rater] * up + (1 - eta[pairs.rater]) * (1 - up)
    steep = (2 * eta[pairs.rater] - 1) * up * (1 - up)
    slope = (eta * (1 - eta))[pairs.rater] * (2 * up - 1)
    scores = torch.stack([slope, steep * pairs.place, steep * pairs.length], dim=1)
    scores = scores / probability[:, None]
    outer = pairs.weight[:, None, None] * scores[:, :, None] * scores[:, None, :]
    prior = torch.tensor([PRIOR_STD, STD["place"], STD["length"]], dtype=torch.float64).square()
    information = torch.diag(1 / prior).repeat(len(pairs.people), 1, 1)
    information = information.index_add(0, pairs.rater, outer)
    deviations = torch.linalg.inv(information).diagonal(dim1=1, dim2=2).sqrt()

    def estimates(values: Tensor, deviation: Tensor) -> list[Estimate]:
        around = zip(values.tolist(), deviation.tolist(), strict=True)
        return [Estimate(v, v - Z * d, v + Z * d) for v, d in around]

    def share(logit: float) -> float:
        return 1 / (1 + math.exp(-logit))

    reliability = estimates(theta["logit"], deviations[:, 0])
    return Fit(
        reliability=[Estimate(share(e.value), share(e.low), share(e.high)) for e in reliability],
        place=estimates(theta["shared"][0] + theta["place"], deviations[:, 1]),
        length=estimates(theta["shared"][1] + theta["length"], deviations[:, 2]),
        difference=difference,
        habit=habit,
    )


def _length(text: str) -> float:
    return math.log1p(len(text.split()))
