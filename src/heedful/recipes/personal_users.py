"""Comparisons by whom they are from → batches in which some answers of a user tell who they are and others are to be
predicted; and how well that works for users who were not trained on.

A question is a prompt with its responses. All of a user's answers to it are on the same side, so that what is to be
predicted is never told: the same pair shown twice, or turned round, would otherwise be.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.configs.reward_model import Config
from heedful.data.collate import take, to_device
from heedful.data.columns import prompt_text
from heedful.data.reading import named
from heedful.data.sources import is_held_out, stream_comparisons
from heedful.errors import UserError
from heedful.evals.statistics import bootstrap_ci
from heedful.losses.kl import to_standard_normal
from heedful.losses.reward import accuracy
from heedful.models.forward import scalar_head
from heedful.models.personal import all_states, heads_of, posterior, scores, told, user_of
from heedful.training.kept import Judgment, Kept
from heedful.training.rankings import as_table, rank_batch, ranked
from heedful.training.rows import SOME, Spread, read, sequences
from heedful.types import Comparison, Ranked
from heedful.types.tensors import RankedOfUsers

MOST_TARGETS = 8  # of a user in a step
COUNTS = (0, 1, 2, 4, 8, 16)  # answers after which users are looked at
AT_ONCE = 64  # users


@dataclass(frozen=True)
class Turn:
    """What is done with one user in a step: comparisons by their numbers, and the seed of the noise."""

    context: Sequence[int]
    targets: Sequence[int]
    seed: int = 0


@dataclass
class Users:
    """Judgments, and of each user (by name) those of each question by their numbers."""

    kept: Kept
    questions: dict[str, dict[int, list[int]]] = field(default_factory=dict)

    def add(self, user: str, judgment: Judgment) -> None:
        """One more."""
        question = hash(frozenset(s.tokens for s in judgment.samples))
        self.questions.setdefault(user, {}).setdefault(question, []).append(len(self.kept))
        self.kept.append(judgment)

    def answers(self, user: int) -> list[list[int]]:
        """The questions of user 0, 1, …, each as the numbers of its judgments."""
        return list([*self.questions.values()][user].values())

    def units(self) -> list[tuple[int, int, int]]:
        """(user, from, to): which of a user's questions are predicted at once, at most half of them, each once an
        epoch."""
        found = []
        for user, questions in enumerate(self.questions.values()):
            size = min(MOST_TARGETS, -(-len(questions) // 2))
            found += [(user, i, i + size) for i in range(0, len(questions), size)]
        return found

    def turn(self, unit: tuple[int, int, int], most: int, seed: str) -> Turn:
        """The context is a random number of the user's other questions, from none to `most`."""
        user, start, stop = unit
        rng, questions = random.Random(seed), self.answers(user)
        others = questions[:start] + questions[stop:]
        context = rng.sample(others, rng.randint(0, min(most, len(others))))
        return Turn(flat(context), flat(questions[start:stop]), rng.getrandbits(62))

    def batch(self, turns: Sequence[Turn]) -> RankedOfUsers:
        """Each turn is a group of rows, its context before its targets."""
        items = [self.kept[i] for turn in turns for i in (*turn.context, *turn.targets)]
        marks = [
            (user, i < len(turn.context), turn.seed)
            for user, turn in enumerate(turns)
            for i in range(len(turn.context) + len(turn.targets))
        ]
        return of_users(items, marks)


@dataclass(frozen=True)
class Parts:
    """Users to learn from, and others; a few comparisons; what to record."""

    train: Users
    held: Users
    some: list[Comparison]
    notes: list[dict[str, Any]]


def flat(questions: Iterable[Sequence[int]]) -> list[int]:
    return [i for numbers in questions for i in numbers]


def of_users(items: Sequence[Judgment], marks: Sequence[tuple[int, bool, int]]) -> RankedOfUsers:
    """Comparisons with the user, whether it is context, and the seed of each."""
    base = rank_batch(items)
    mark = torch.tensor(
        [mark for item, mark in zip(items, marks, strict=True) for _ in item.samples]
    )
    given: dict[str, Any] = {f.name: getattr(base, f.name) for f in fields(Ranked)}
    user, context, seed = mark.unbind(1)
    given |= {"group": user, "comparison": base.group, "context": context.bool(), "seed": seed}
    return RankedOfUsers(**given)


def parts_of(config: Config, tokenizer: PreTrainedTokenizerBase, limit: int) -> Parts:
    """As `--eval-data` has it, or a share of the *users* by their hash. Where one part has nobody the other is both."""
    make, some = sequences(tokenizer, limit), Spread[Comparison](SOME)
    train, held = Users(Kept(config.out.parent)), Users(Kept(config.out.parent))
    notes = []
    for source in (config.data, config.eval_data):
        if source is None:
            continue
        data = read(config, stream_comparisons, source)
        for item, samples in data.fit(make):
            if item.rater is None:
                raise UserError(
                    f"{named(source)}: --personal needs to know whose each comparison is, and one to "
                    f"{prompt_text(item.prompt)[:40]!r} has no rater"
                )
            some.add(item)
            apart = source is config.eval_data
            apart |= config.eval_data is None and is_held_out(item.rater, config.held_out)
            for judgment in ranked(item, samples):
                (held if apart else train).add(item.rater, judgment)
        notes.append(data.note)
    parts = Parts(train, held, some.items, [note for note in notes if note])
    if len(parts.train.questions) < 2:
        raise UserError(
            f"{named(config.data)}: --personal needs comparisons of two raters at least to learn from"
        )
    return parts if len(held.kept) else Parts(train, train, parts.some, parts.notes)


def targets(batch: RankedOfUsers, score: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What is to be predicted, as `as_table` has it, and the user `[G]` of each comparison."""
    apart = ~batch.context
    rows = take(batch, apart)
    table, rank, strength = as_table(score[apart], replace(rows, group=rows.comparison))
    first = rows.comparison.diff(prepend=rows.comparison[:1] - 1) != 0
    return table, rank, strength, user_of(batch)[apart][first]


def by_user(values: Tensor, user: Tensor, users: int) -> Tensor:
    """The sum of values `[G]` over each user's comparisons, `[U]`."""
    return values.new_zeros(users).index_add(0, user, values)


# ── users who were not trained on ────────────────────────────────────────────────────────────────


def usual_size(
    model: PreTrainedModel, items: Sequence[Judgment], micro_batch_tokens: int
) -> Tensor:
    """The root mean square of the differences between what is better and what is worse, a number."""
    batch = of_users(items, [(0, True, 0)] * len(items))
    better, worse, _ = told(batch, batch.context)
    h = all_states(model, batch, micro_batch_tokens)
    return (h[better] - h[worse]).square().mean().sqrt().clamp(min=1e-6)


@dataclass
class Measured:
    """By number of answers the share of pairs that are ordered right, of each user; the same with the answers of
    another user; KL `[D]` of each user after as many answers as there are."""

    right: dict[int, list[float]] = field(default_factory=dict)
    shuffled: list[float] = field(default_factory=list)
    kl: list[Tensor] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Means, with intervals over users."""
        after = {
            str(n): {"accuracy": sum(a) / len(a), "accuracy_ci": bootstrap_ci(a), "users": len(a)}
            for n, a in self.right.items()
        }
        kl = torch.stack(self.kl).mean(0).tolist() if self.kl else []
        shuffled = sum(self.shuffled) / len(self.shuffled) if self.shuffled else None
        return {"answers": after, "accuracy_of_others": shuffled, "kl": kl}


def measured(model: PreTrainedModel, users: Users, micro_batch_tokens: int, seed: int) -> Measured:
    """Up to half of each user's answers are told, the first n of them in random order; the others are predicted."""
    found, turns = Measured(), list(measuring(users, seed))
    for i in range(0, len(turns), AT_ONCE):
        batch = users.batch(turns[i : i + AT_ONCE])
        _measure(model, batch, all_states(model, batch, micro_batch_tokens), found)
    if not found.right:
        raise UserError("no user has answered two questions, so that one could tell of the other")
    return found


def measuring(users: Users, seed: int) -> Iterator[Turn]:
    """The same turns for the same seed. Who has answered one question only is left out."""
    for user, name in enumerate(users.questions):
        questions = users.answers(user)
        random.Random(f"{seed}/{name}").shuffle(questions)
        pool = min(max(COUNTS), len(questions) // 2)
        if pool:
            yield Turn(flat(questions[:pool]), flat(questions[pool:]))


def _measure(model: PreTrainedModel, batch: RankedOfUsers, h: Tensor, into: Measured) -> None:
    heads, head = heads_of(model), scalar_head(model)
    h, batch = h.to(heads.scale.device), to_device(batch, heads.scale.device)
    user = user_of(batch)
    users = int(user.max()) + 1
    before = torch.full((users,), len(user), device=user.device)
    before = before.scatter_reduce(0, user, batch.comparison, "amin")
    answer = batch.comparison - before[user]  # context comes first, so it is number 0, 1, … there
    there = torch.zeros_like(before).scatter_reduce(0, user, (answer + 1) * batch.context, "amax")

    def right(z: Tensor) -> Tensor:
        table, rank, _, whose = targets(batch, scores(head, heads, h, z, user))
        correct, pairs = (by_user(x, whose, users) for x in accuracy(table, rank))
        return correct / pairs  # nan of a user whose answers are all ties

    for n in COUNTS:
        q = posterior(heads, h, batch, batch.context & (answer < n))
        share = right(q.mean)
        if (counted := (there >= n) & ~share.isnan()).any():
            into.right.setdefault(n, []).extend(share[counted].tolist())
    q = posterior(heads, h, batch, batch.context)
    into.kl.extend(to_standard_normal(*q).cpu())
    if users > 1:
        other = right(q.mean.roll(1, 0))
        into.shuffled.extend(other[~other.isnan()].tolist())
