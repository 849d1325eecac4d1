"""Absolute against pairwise judgments of the same responses: does what is rated higher win, and which agree more?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from heedful.data.columns import prompt_text
from heedful.evals.ratings import clusters_of, share_of
from heedful.evals.statistics import Interval
from heedful.types import Comparison, Rated

Pair = tuple[str, str, str]  # prompt, and two responses in the alphabet's order
Signs = dict[
    Pair, dict[Hashable, int]
]  # whose, and 1 where the first is better, −1 where the second


@dataclass(frozen=True)
class Counted:
    """A share of n with a 95 % interval that allows for answers about one prompt hanging together; None of nothing."""

    n: int
    value: float | None
    ci: Interval | None


@dataclass(frozen=True)
class RatedAlike:
    """Of one axis, over pairs of responses that were compared and rated. `wins`: of comparisons how often the response
    of the higher mean rating was preferred; `equal`: the share whose mean ratings are alike, which tell nothing.
    `compared` and `rated`: how often two raters order a pair alike, by their comparisons and by their own ratings."""

    axis: str
    wins: Counted
    equal: Counted
    compared: Counted
    rated: Counted


def rated_alike(comparisons: Iterable[Comparison], rated: Iterable[Rated]) -> list[RatedAlike]:
    """An axis each, in alphabetical order, of those that have been rated where somebody has compared; of what a rater
    says twice the last counts."""
    votes: Signs = defaultdict(dict)
    for number, c in enumerate(comparisons):
        who: Hashable = number if c.rater is None else c.rater
        for i, j in combinations(range(len(c.responses)), 2):
            if (better := c.places[j] - c.places[i]) and c.responses[i] != c.responses[j]:
                pair, turned = _pair(prompt_text(c.prompt), c.responses[i], c.responses[j])
                votes[pair][who] = turned * (1 if better > 0 else -1)
    values: dict[str, dict[tuple[str, str], dict[Hashable, float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for number, r in enumerate(rated):
        for axis, value in r.values.items():
            key = prompt_text(r.prompt), r.response
            values[axis][key][number if r.rater is None else r.rater] = value
    each = (_of_axis(axis, votes, values[axis]) for axis in sorted(values))
    return [one for one in each if one.wins.n or one.equal.n]


def _of_axis(
    axis: str, votes: Signs, values: dict[tuple[str, str], dict[Hashable, float]]
) -> RatedAlike:
    wins: list[tuple[float, Hashable, Hashable]] = []
    equal: list[tuple[float, Hashable, Hashable]] = []
    shared: Signs = {}
    ratings: Signs = {}
    for pair, said in votes.items():
        prompt, *responses = pair
        one, other = (values.get((prompt, response), {}) for response in responses)
        if not one or not other:
            continue
        lead = sum(one.values()) / len(one) - sum(other.values()) / len(other)
        equal += [(float(lead == 0), prompt, who) for who in said]
        wins += [(float(lead * sign > 0), prompt, who) for who, sign in said.items() if lead]
        shared[pair] = said
        ratings[pair] = {who: int(np.sign(one[who] - other[who])) for who in one if who in other}
    return RatedAlike(
        axis, _counted(wins), _counted(equal), _counted(_alike(shared)), _counted(_alike(ratings))
    )


def _alike(signs: Signs) -> list[tuple[float, Hashable, Hashable]]:
    """Of every two raters who order a pair whether they order it alike; a tie orders nothing."""
    return [
        (float(one == other), pair[0], "everybody")
        for pair, said in signs.items()
        for one, other in combinations([sign for sign in said.values() if sign], 2)
    ]


def _counted(told: Sequence[tuple[float, Hashable, Hashable]]) -> Counted:
    if not told:
        return Counted(0, None, None)
    values, prompts, raters = zip(*told, strict=True)
    value, low, high = share_of(np.array(values), clusters_of(prompts, raters))
    return Counted(len(told), value, (low, high))


def _pair(prompt: str, one: str, other: str) -> tuple[Pair, int]:
    """The pair in the alphabet's order, and −1 where that turns it round."""
    return ((prompt, one, other), 1) if one < other else ((prompt, other, one), -1)
