"""What a lead should know of each rater, in numbers and in plain words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import torch

from heedful.raters.agreement import Share, share
from heedful.raters.reliability import Collected, Estimate, Fit, Pairs, fit

LEAST = (
    20  # pairs of a rater before anything is said against them; a ranking of four counts as three
)
SOUND = 0.75  # reliability of somebody who is of use; 0.5 is guessing
QUICK = 2.0  # seconds of a median answer below which nobody has read
DRIFTED = 3.0  # standard errors between the earlier and the later half


@dataclass(frozen=True)
class About:
    """One rater. `agreement` is how often they said what the fit says, `before` and `after` the same of the earlier and
    the later half of their answers; `seconds` the median of an answer."""

    rater: str
    comparisons: int
    reliability: Estimate
    place: Estimate
    length: Estimate
    agreement: Share
    before: Share
    after: Share
    seconds: float | None
    weight: float
    gold: Share  # of pairs whose right order is known
    advice: list[str]


def about(collected: Collected) -> list[About]:
    """Everybody who has compared something, the least reliable first."""
    pairs = collected.pairs()
    fitted = fit(pairs)
    people = [_one(k, collected, pairs, fitted) for k in range(len(pairs.people))]
    return sorted(people, key=lambda a: (a.reliability.value, a.rater))


def _one(k: int, collected: Collected, pairs: Pairs, fitted: Fit) -> About:
    mine = (pairs.rater == k).nonzero().flatten()
    rows = pairs.row[mine].tolist()
    numbers = sorted(set(rows), key=lambda n: (collected.when[n], n))
    later = set(numbers[(len(numbers) + 1) // 2 :])
    late = torch.tensor([n in later for n in rows], dtype=torch.bool)
    right = fitted.difference[mine] > 0
    seconds = [s for n in numbers if not math.isnan(s := collected.seconds[n])]
    numbers_of = {
        "reliability": fitted.reliability[k],
        "place": fitted.place[k],
        "length": fitted.length[k],
    }
    before, after = _share(right[~late]), _share(right[late])
    pace = median(seconds) if seconds else None
    own = round(pairs.weight[mine].sum().item())
    said = list(_advice(own, **numbers_of, before=before, after=after, seconds=pace))
    return About(
        rater=pairs.people[k],
        comparisons=len(numbers),
        **numbers_of,
        agreement=_share(right),
        before=before,
        after=after,
        seconds=pace,
        weight=fitted.weights[k],
        gold=_share(_right(pairs, mine)),
        advice=said,
    )


def _right(pairs: Pairs, mine: torch.Tensor) -> torch.Tensor:
    """Of a rater's pairs those that have a gold answer: whether they said what it says."""
    known = torch.zeros(0) if pairs.gold is None else pairs.gold[mine]
    return known[known != 0] > 0


def _share(right: torch.Tensor) -> Share:
    return share(int(right.sum()), len(right))


def _advice(
    pairs: int,
    *,
    reliability: Estimate,
    place: Estimate,
    length: Estimate,
    before: Share,
    after: Share,
    seconds: float | None,
) -> Iterator[str]:
    if pairs < LEAST:
        yield f"{pairs} pairs are too few to tell; {LEAST} would be some ground"
        return
    if reliability.high < 0.5:
        yield (
            "says the reverse of the others: ask whether they read the scale the wrong way round, and look at their "
            "answers before you use them"
        )
    elif reliability.low < 0.5 and reliability.high < SOUND:
        yield "cannot be told from guessing: pause them, and go through some answers together"
    elif reliability.low < 0.5:
        yield f"{pairs} pairs do not tell yet whether they guess: more answers would, gold questions soonest"
    for habit, low, high in (
        (place, "what stands last", "what stands first"),
        (length, "short responses", "long responses"),
    ):
        if habit.low > 0.5 or habit.high < -0.5:
            liked = high if habit.value > 0 else low
            yield f"prefers {liked} more than others do, whatever it says: tell them so"
    if seconds is not None and seconds < QUICK:
        yield f"takes {seconds:.1f} s an answer: too fast to have read it"
    if drifted(before, after):
        yield (
            f"agrees less than before ({before.value:.0%} of the earlier half of the answers, {after.value:.0%} of the "
            "later): a pause or another look at the guidelines may help"
        )


def drifted(before: Share, after: Share) -> bool:
    """Whether the later share is lower by more than chance makes it."""
    if before.value is None or after.value is None:
        return False
    pooled = (before.count + after.count) / (before.n + after.n)
    error = (pooled * (1 - pooled) * (1 / before.n + 1 / after.n)) ** 0.5
    return before.value - after.value > DRIFTED * error > 0
