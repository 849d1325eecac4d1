"""What is true, and who says it, from labels (thumbs, verdicts on rules, ratings) on which several raters disagree.

Two models, both fitted by expectation–maximisation to the most likely parameters, everything vectorised:

- Dawid and Skene (1979): rater r says l of an item whose truth is c with probability π_r[c, l]; truths have shares.
- MACE (Hovy et al. 2013): rater r knows with probability θ_r, and then says the truth; else they say l with
  probability ξ_r[l], whatever the item. Fewer parameters, so it needs fewer labels of each; it knows no systematic
  mistakes.

Pseudo-counts keep who has said little near "mostly right". Items whose truth is known (gold) are not inferred.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from heedful.errors import UserError

Model = Literal["dawid_skene", "mace"]
STEPS, ENOUGH = 500, 1e-7  # of EM; it ends where log posterior gains less, relatively
RIGHT, WRONG = (
    2.0,
    0.5,
)  # Dawid–Skene: pseudo-answers of each rater to each truth, right, and wrong in all
KNOWS, GUESSES = 2.0, 1.0  # MACE: pseudo-answers that a rater knew, and guessed
EVEN = 1.0  # pseudo-counts, one of each class in all: of truths, of what guessers say


@dataclass(frozen=True, slots=True)
class Labels:
    """N labels as numbers that count from 0; -1 in `gold` where nobody knows."""

    item: Tensor  # [N]
    rater: Tensor  # [N]
    label: Tensor  # [N]
    gold: Tensor  # [I]
    items: list[Hashable]
    people: list[str]
    classes: list[float]


@dataclass(frozen=True, slots=True)
class Fitted:
    """P(truth) of each item `[I, C]`; the shares of the truths `[C]`; P(says l | truth c) of each rater `[R, C, C]`;
    the log posterior, up to a constant, after each step."""

    truth: Tensor
    shares: Tensor
    says: Tensor
    climbed: list[float]

    @property
    def weights(self) -> Tensor:
        """`[R]`: how much more often a rater says a class where it is the truth than where it is not, on average: 1
        never wrong, 0 for guessing whatever the shares (Youden's J for two classes), and not below."""
        classes = self.shares.shape[0]
        right = self.says.diagonal(dim1=1, dim2=2).sum(1)
        return ((right - 1) / (classes - 1)).clamp(min=0)


def labels_of(
    items: Sequence[Hashable], raters: Sequence[str], values: Sequence[float], gold: dict[Hashable, float]
) -> Labels:  # fmt: skip
    """Of N labels. UserError where all say the same, since nothing can be told from that."""
    classes = sorted({*values, *gold.values()})
    if len(classes) < 2:
        raise UserError("everybody always says the same, so nobody can be told from another")
    of_item = {item: n for n, item in enumerate(dict.fromkeys(items))}
    of_rater = {rater: n for n, rater in enumerate(dict.fromkeys(raters))}
    number = {value: n for n, value in enumerate(classes)}
    known = [number[gold[item]] if item in gold else -1 for item in of_item]
    return Labels(
        item=torch.tensor([of_item[item] for item in items]),
        rater=torch.tensor([of_rater[rater] for rater in raters]),
        label=torch.tensor([number[value] for value in values]),
        gold=torch.tensor(known),
        items=list(of_item),
        people=list(of_rater),
        classes=classes,
    )


def fit(labels: Labels, model: Model = "dawid_skene") -> Fitted:
    """The most likely parameters from a start at what most say, and the truths that follow from them."""
    return _dawid_skene(labels) if model == "dawid_skene" else _mace(labels)


def _dawid_skene(labels: Labels) -> Fitted:
    people, classes = len(labels.people), len(labels.classes)
    prior = torch.full((classes, classes), WRONG / (classes - 1), dtype=torch.float64)
    prior.fill_diagonal_(RIGHT)
    truth, climbed = _majority(labels), list[float]()
    while True:
        shares = _normalised(truth.sum(0) + EVEN / classes)
        counts = torch.zeros(people, classes, classes, dtype=torch.float64)
        # `counts[r, l]` collects P(truth) of the items of which r has said l; [r, c, l] is wanted.
        counts.index_put_((labels.rater, labels.label), truth[labels.item], accumulate=True)
        says = _normalised(counts.transpose(1, 2) + prior)
        log_item = shares.log() + _sum(labels, says.log()[labels.rater, :, labels.label])
        evidence, truth = _expected(labels, log_item)
        priors = (prior * says.log()).sum() + EVEN / classes * shares.log().sum()
        climbed.append(float(evidence + priors))
        if _over(climbed):
            return Fitted(truth, shares, says, climbed)


def _mace(labels: Labels) -> Fitted:
    people, classes = len(labels.people), len(labels.classes)
    truth, climbed = _majority(labels), list[float]()
    knows = torch.full((people,), KNOWS / (KNOWS + GUESSES), dtype=torch.float64)
    spam = torch.full((people, classes), 1 / classes, dtype=torch.float64)
    while True:
        # Given the truth, whether who said it knew it: θ / (θ + (1 − θ)·ξ) where it is what they said, else not.
        lucky = (1 - knows)[labels.rater] * spam[labels.rater, labels.label]
        said = truth[labels.item, labels.label]
        knew = said * knows[labels.rater] / (knows[labels.rater] + lucky)
        sure = torch.zeros(people, dtype=torch.float64).index_add_(0, labels.rater, knew)
        guessed = torch.zeros(people, classes, dtype=torch.float64)
        guessed.index_put_((labels.rater, labels.label), 1 - knew, accumulate=True)
        shares = _normalised(truth.sum(0) + EVEN / classes)
        knows = (sure + KNOWS) / (sure + guessed.sum(1) + KNOWS + GUESSES)
        spam = _normalised(guessed + EVEN / classes)
        says = (1 - knows)[:, None, None] * spam[:, None, :].expand(-1, classes, -1)
        says = says + knows[:, None, None] * torch.eye(classes, dtype=torch.float64)
        log_item = shares.log() + _sum(labels, says.log()[labels.rater, :, labels.label])
        evidence, truth = _expected(labels, log_item)
        priors = (KNOWS * knows.log() + GUESSES * (1 - knows).log()).sum()
        priors = priors + EVEN / classes * (spam.log().sum() + shares.log().sum())
        climbed.append(float(evidence + priors))
        if _over(climbed):
            return Fitted(truth, shares, says, climbed)


def _majority(labels: Labels) -> Tensor:
    """The share of an item's labels that each class has `[I, C]`; of known items the truth."""
    votes = torch.zeros(len(labels.items), len(labels.classes), dtype=torch.float64)
    one = torch.ones(len(labels.item), dtype=torch.float64)
    votes.index_put_((labels.item, labels.label), one, accumulate=True)
    return _with_gold(labels, _normalised(votes))


def _sum(labels: Labels, log: Tensor) -> Tensor:
    """Over each item's labels, of `[N, C]`."""
    zero = torch.zeros(len(labels.items), log.shape[1], dtype=torch.float64)
    return zero.index_add_(0, labels.item, log)


def _expected(labels: Labels, log_item: Tensor) -> tuple[Tensor, Tensor]:
    """log P(labels), and P(truth | labels) of each item; known items are what they are."""
    known = labels.gold >= 0
    given = log_item.gather(1, labels.gold.clamp(min=0)[:, None])[:, 0]
    evidence = torch.where(known, given, log_item.logsumexp(1)).sum()
    return evidence, _with_gold(labels, log_item.softmax(1))


def _with_gold(labels: Labels, truth: Tensor) -> Tensor:
    known = torch.nn.functional.one_hot(labels.gold.clamp(min=0), truth.shape[1]).double()
    return torch.where((labels.gold >= 0)[:, None], known, truth)


def _normalised(counts: Tensor) -> Tensor:
    return counts / counts.sum(-1, keepdim=True)


def _over(climbed: Sequence[float]) -> bool:
    if len(climbed) < 2:
        return False
    gain = climbed[-1] - climbed[-2]
    return gain < ENOUGH * (1 + abs(climbed[-1])) or len(climbed) >= STEPS
