"""Groups of people by what they want, whom one reward for all overrides, and by how much.

Everything is said of answers that were not used to know who gave them: each user's questions are halved, and either
half is predicted with the z that the other half tells.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from heedful.evals.statistics import bootstrap_ci
from heedful.models.personal import PersonalHeads

MOST = 6  # groups that are tried
RESTARTS = 10


@dataclass(frozen=True)
class Answers:
    """N ordered pairs: whose `[N]`, which half of that user's questions `[N]`, d = h(better) − h(worse) `[N, d]`, and
    how much each counts `[N]` (a ranking of K counts K − 1)."""

    user: Tensor
    half: Tensor
    difference: Tensor
    weight: Tensor
    users: int


@dataclass(frozen=True)
class Groups:
    """Of K groups: `of` `[U]` which group each user is in, `centre` `[K, D]` in z; and the margins `[N]` by which each
    answer's better response leads: with one reward, with the user's group's, with the user's own."""

    of: Tensor
    centre: Tensor
    single: Tensor
    grouped: Tensor
    personal: Tensor
    tried: dict[int, float]


@torch.no_grad()
def grouped(
    answers: Answers, heads: PersonalHeads, head: nn.Linear, single: Tensor | None, number: int = 0
) -> Groups:
    """`single` `[N]`: the margins of the reward for all; None: of z = 0. `number` of groups; 0: the fewest whose
    likelihood of the predicted answers is within a standard error of the best."""
    plain = (answers.difference @ head.weight[0].float()).cpu()
    z = heads.posterior(answers.difference, answers.user, answers.users, answers.weight).mean
    known = [
        heads.posterior(
            answers.difference,
            answers.user,
            answers.users,
            answers.weight * (answers.half == 1 - k),
        ).mean
        for k in (0, 1)
    ]  # z for what is in half k

    def margins(zs: Sequence[Tensor]) -> Tensor:
        both = [(heads.direction(x)[answers.user] * answers.difference).sum(1) for x in zs]
        return plain + torch.where(answers.half == 0, *both).cpu()

    found: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
    for k in [number] if number else range(1, min(MOST, answers.users) + 1):
        centre, of = k_means(z, k)
        nearest = [centre[torch.cdist(x, centre).argmin(1)] for x in known]
        found[k] = (centre, of, margins(nearest))
    likelihood = {k: logsigmoid(m) * answers.weight for k, (_, _, m) in found.items()}
    tried = {k: float(x.sum() / answers.weight.sum()) for k, x in likelihood.items()}
    best = max(tried, key=lambda k: tried[k])
    chosen = next(
        k for k in sorted(tried) if _not_worse(likelihood[k] - likelihood[best], answers.user)
    )
    centre, of, by_group = found[chosen]
    return Groups(of, centre, plain if single is None else single, by_group, margins(known), tried)


def _not_worse(difference: Tensor, user: Tensor) -> bool:
    """Whether the mean over users of what is lost is within its standard error of nothing."""
    users = int(user.max()) + 1
    total = torch.zeros(users).index_add(0, user, difference.float())
    count = torch.bincount(user, minlength=users).clamp(min=1)
    mean = total / count
    return bool(mean.mean() >= -mean.std(correction=0) / math.sqrt(users))


def k_means(x: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Centres `[K, D]`, the largest group first, and the group `[U]` of each row of x `[U, D]`: Lloyd's, the best of
    several starts by k-means++ (Arthur and Vassilvitskii 2007)."""
    draw = torch.Generator().manual_seed(number)
    best: tuple[float, Tensor, Tensor] | None = None
    for _ in range(RESTARTS):
        centre = x[torch.randint(len(x), (1,), generator=draw)]
        while len(centre) < number:
            distance = torch.cdist(x, centre).min(1).values.square() + 1e-12
            centre = torch.cat([centre, x[torch.multinomial(distance, 1, generator=draw)]])
        for _ in range(50):
            of = torch.cdist(x, centre).argmin(1)
            counts = torch.bincount(of, minlength=number)
            moved = torch.zeros_like(centre).index_add(0, of, x) / counts.clamp(min=1)[:, None]
            moved = torch.where(counts[:, None] > 0, moved, centre)
            if torch.equal(moved, centre):
                break
            centre = moved
        of = torch.cdist(x, centre).argmin(1)
        cost = float((x - centre[of]).square().sum())
        if best is None or cost < best[0] - 1e-9:
            best = cost, centre, of
    assert best is not None
    _, centre, of = best
    order = torch.bincount(of, minlength=number).argsort(descending=True, stable=True)
    return centre[order], order.argsort()[of]


def report(answers: Answers, groups: Groups) -> dict[str, Any]:
    """Accuracies of each group and of all, means over users with intervals; the worst group's beside the mean."""
    arms = {"single": groups.single, "grouped": groups.grouped, "personal": groups.personal}
    right = {name: _by_user(answers, (m > 0) + 0.5 * (m == 0)) for name, m in arms.items()}
    turned = _by_user(answers, ((groups.single < 0) & (groups.grouped > 0)) * 1.0)
    rows = []
    for k in range(len(groups.centre)):
        mine = groups.of == k
        row: dict[str, Any] = {"users": int(mine.sum()), "answers": int(mine[answers.user].sum())}
        row |= {name: _mean(values[mine]) for name, values in right.items()}
        row["overridden"] = _mean(turned[mine])
        lost = _mean((right["grouped"] - right["single"])[mine])
        row["lost"] = lost
        row["flag"] = lost["ci"][0] > 0 and row["single"]["ci"][1] < 0.5
        rows.append(row)
    every = {name: _mean(values) for name, values in right.items()}
    worst = {name: min(row[name]["mean"] for row in rows if row["users"]) for name in arms}
    return {"users": answers.users, "all": every, "worst_group": worst, "groups": rows,
            "tried": {str(k): v for k, v in groups.tried.items()}}  # fmt: skip


def _by_user(answers: Answers, values: Tensor) -> Tensor:
    """The weighted mean over each user's answers, `[U]`."""
    empty = torch.zeros(answers.users)
    total = empty.index_add(0, answers.user, answers.weight * values.float())
    return total / empty.index_add(0, answers.user, answers.weight)


def _mean(values: Tensor) -> dict[str, Any]:
    numbers = values.tolist()
    return {"mean": sum(numbers) / len(numbers), "ci": list(bootstrap_ci(numbers))}


def sentences(
    better: Sequence[str], worse: Sequence[str], group: Sequence[int], number: int
) -> list[str]:
    """What each group likes, in a sentence that a model can read: words that stand in its better responses and not in
    its worse ones, in its own answers (z of at least 2) and more than in the others' (of at least 2)."""
    counts = [Counter[tuple[str, bool]]() for _ in range(number)]
    for good, bad, k in zip(better, worse, group, strict=True):
        here, there = (set(re.findall(r"\w+", text.casefold())) for text in (good, bad))
        counts[k].update((w, True) for w in here - there)
        counts[k].update((w, False) for w in there - here)
    every = sum(counts, Counter())
    words = sorted({w for w, _ in every})

    def apart(k: int, word: str) -> float:
        """How sure it is that the group likes the word (above 2), or dislikes it (below −2), and others less so."""
        good, bad = counts[k][word, True], counts[k][word, False]
        mine, all_good = good + bad, every[word, True]
        others = all_good + every[word, False] - mine
        if not mine:
            return 0.0
        own = (good - bad) / math.sqrt(mine)
        if not others:
            return own
        share = all_good / (mine + others)
        spread = math.sqrt(max(share * (1 - share), 1e-9) * (1 / mine + 1 / others))
        than_others = (good / mine - (all_good - good) / others) / spread
        return math.copysign(min(abs(own), abs(than_others)), own) if own * than_others > 0 else 0.0

    found = []
    for k in range(number):
        surely = sorted(((apart(k, w), w) for w in words), key=lambda x: (-abs(x[0]), x[1]))
        liked = [w for z, w in surely if z > 2][:4]
        disliked = [w for z, w in surely if z < -2][:4]
        parts = [f"I like answers with: {', '.join(liked)}."] * bool(liked)
        parts += [f"I do not like answers with: {', '.join(disliked)}."] * bool(disliked)
        found.append(" ".join(parts) or f"I am one of group {k + 1}.")
    same = Counter(found)
    return [s if same[s] == 1 else f"{s} I am one of group {k + 1}." for k, s in enumerate(found)]
