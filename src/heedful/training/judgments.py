"""Judged responses → batches, and batches → what a loss reads: pairs, liked-or-not rows, whole rankings.

A judgment is a few samples of one prompt and a number for each, and one group of rows of a batch. The samples
may come from a file or straight from an engine: nothing here knows text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import Any, Literal

import torch
from torch import Tensor

from heedful.data.collate import collate, shuffled
from heedful.errors import UserError
from heedful.learner.local import LocalLearner, Loss
from heedful.losses.reward import accuracy, best_and_last
from heedful.training.kept import Chosen, Judgment, Numbered, Samples, Singles
from heedful.training.objective import Objective
from heedful.training.reference_sums import Sums
from heedful.training.trust import ALIKE, Trust
from heedful.types import (
    Batch,
    Labelled,
    LabelledLogps,
    Outputs,
    Paired,
    PairLogps,
    RankedLogps,
    RankedWithReference,
    Sample,
    places,
)

Which = Literal["all", "best_worst"]


def pairs(
    samples: Sequence[Sample], ranking: Sequence[int | None], p: float = 1.0, which: Which = "all"
) -> list[Judgment]:
    """The ordered pairs of a ranking, the better first. Two that tie teach p = ½; other ties nothing new."""
    place = places(ranking)
    order = sorted(range(len(samples)), key=lambda k: place[k])
    if len(order) > 2 and which == "best_worst":
        order = [order[0], order[-1]]
    return [
        Judgment((samples[i], samples[j]), (p if place[i] < place[j] else 0.5,) * 2)
        for i, j in combinations(order, 2)
        if place[i] < place[j] or len(order) == 2
    ]


def thumbs(samples: Sequence[Sample], ranking: Sequence[int | None]) -> list[Judgment]:
    """The best are liked, the worst are not, what is between says nothing."""
    place = places(ranking)
    best, worst = min(place), max(place)
    return [
        Judgment((s,), (float(at == best),))
        for s, at in zip(samples, place, strict=True)
        if best < worst and at in (best, worst)
    ]


def judgments(
    reads: str, samples: Sequence[Sample], ranking: Sequence[int | None], p: float, which: Which
) -> list[Judgment]:
    """A ranking as what the losses read; responses of the same tokens count once, with their best rank."""
    first: dict[tuple[int, ...], tuple[int | None, Sample]] = {}
    ordered = sorted(zip(places(ranking), range(len(samples)), strict=True))
    for _, i in ordered:
        first.setdefault(samples[i].tokens, (ranking[i], samples[i]))
    ranking, samples = [r for r, _ in first.values()], [s for _, s in first.values()]
    if len(samples) < 2:
        return []
    if reads == "PairLogps":
        return pairs(samples, ranking, p, which)
    if reads == "LabelledLogps":
        return thumbs(samples, ranking)
    return [
        Judgment(tuple(samples), tuple(-1.0 if rank is None else float(rank) for rank in ranking))
    ]


def as_batch(reads: str, judged: Sequence[Judgment], sums: Sums, trust: Trust = ALIKE) -> Batch:
    """One batch, each judgment a group of neighbouring rows; the reference is 0 where `sums` has nothing."""
    flat = [s for j in judged for s in j.samples]
    rows = [replace(s, group=i) for i, j in enumerate(judged) for s in j.samples]
    base = collate(rows)
    given: dict[str, Any] = {f.name: getattr(base, f.name) for f in fields(base)}
    given["ref_sum"] = torch.tensor([sums.get(s, 0.0) for s in flat])
    given["weight"] = trust.of_rows(judged)
    label = torch.tensor([number for j in judged for number in j.labels])
    if reads == "PairLogps":
        return Paired(**given, p=label)
    zero = torch.zeros_like(label)
    if reads == "LabelledLogps":
        return Labelled(**given, desirable=label > 0, kl=zero, delta=zero, share=zero + 1)
    return RankedWithReference(**given, rank=label.long(), strength=zero)


def pair_logps(logp: Tensor, batch: Paired) -> PairLogps:
    """Sums over response tokens (not means: β would lose its meaning), rows 2i against 2i+1."""
    sums, lengths = logp.sum(1), batch.mask.sum(1)
    return PairLogps(
        chosen=sums[0::2],
        rejected=sums[1::2],
        ref_chosen=batch.ref_sum[0::2],
        ref_rejected=batch.ref_sum[1::2],
        chosen_lengths=lengths[0::2],
        rejected_lengths=lengths[1::2],
    )


def labelled_logps(logp: Tensor, batch: Labelled) -> LabelledLogps:
    """Sums over response tokens, one row each."""
    return LabelledLogps(logp.sum(1), batch.ref_sum, batch.mask.sum(1), batch.desirable)


def firsts(batch: Batch) -> Tensor:
    """The first row of each group."""
    _, counts = batch.group.unique_consecutive(return_counts=True)
    return counts.cumsum(0) - counts


def ranked_logps(logp: Tensor, batch: RankedWithReference) -> RankedLogps:
    """Sums over response tokens as a table of prompts and responses, 0 where a prompt has fewer."""
    _, group, counts = batch.group.unique_consecutive(return_inverse=True, return_counts=True)
    column = torch.cat([torch.arange(int(c), device=logp.device) for c in counts])

    def table(values: Tensor) -> Tensor:
        empty = values.new_zeros(len(counts), int(counts.max()))
        return empty.index_put((group, column), values)

    return RankedLogps(*map(table, (logp.sum(1), batch.ref_sum, batch.mask.sum(1), batch.rank)))


VIEWS: dict[str, Callable[[Tensor, Any], Any]] = {
    "PairLogps": pair_logps,
    "LabelledLogps": labelled_logps,
    "RankedLogps": ranked_logps,
}


def metrics_of(x: Any, batch: Batch, objective: Objective) -> dict[str, Tensor]:
    """Implicit rewards and the absolute log-probs beside them, of the shape of the loss.

    A margin can grow while both log-probs fall. The reward is β·(log π − log π_ref); it is a mean over tokens
    where the loss compares means, and without the reference where the loss has none.
    """
    beta, mean = objective.beta, objective.length_normalised

    def reward(logp: Tensor, ref: Tensor, lengths: Tensor) -> Tensor:
        return (beta * (logp - ref) / (lengths.clamp(min=1) if mean else 1)).detach()

    if isinstance(x, PairLogps):
        chosen = reward(x.chosen, x.ref_chosen, x.chosen_lengths)
        rejected = reward(x.rejected, x.ref_rejected, x.rejected_lengths)
        right = (chosen > rejected).float() + 0.5 * (chosen == rejected).float()
        logps = x.chosen, x.rejected
    elif isinstance(x, RankedLogps):
        rewards, rank = reward(x.logp, x.ref_logp, x.lengths), x.rank
        best, worst = best_and_last(rank)
        chosen, rejected = (rewards.gather(1, k).squeeze(1) for k in (best, worst))
        ordered, strict = accuracy(rewards, rank)
        right = torch.where(strict > 0, ordered / strict.clamp(min=1), 0.5)
        logps = tuple(x.logp.gather(1, k).squeeze(1) for k in (best, worst))
    else:
        assert isinstance(batch, Labelled)
        # A mean over all rows of what is 0 for the other label, and larger by 1/share for this one, is a mean
        # over the rows with this label.
        liked = x.desirable / batch.share
        disliked = (~x.desirable) / batch.share
        rewards = reward(x.logp, x.ref_logp, x.lengths)
        above = rewards - beta * batch.kl - batch.delta
        chosen, rejected = rewards * liked, rewards * disliked
        right = ((above > 0) == x.desirable).float().masked_fill(above == 0, 0.5)
        logps = x.logp * liked, x.logp * disliked
    moved = {}
    if objective.needs_reference:
        moved["logps/chosen_change"] = _since_reference(x, batch)
    return moved | {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/margins": chosen - rejected,
        "rewards/accuracies": right,
        "logps/chosen": logps[0].detach(),
        "logps/rejected": logps[1].detach(),
    }


def _since_reference(x: Any, batch: Batch) -> Tensor:
    """log π − log π_ref of what metrics call chosen: how it changed on the same responses, whichever batch has come."""
    if isinstance(x, PairLogps):
        return (x.chosen - x.ref_chosen).detach()
    change = (x.logp - x.ref_logp).detach()
    if isinstance(x, RankedLogps):
        return change.gather(1, best_and_last(x.rank)[0]).squeeze(1)
    assert isinstance(batch, Labelled)
    return change * x.desirable / batch.share


class Mismatched(Numbered[Sample]):
    """The prompt of each row with the response of another prompt in the pool: what KTO estimates its KL on.

    Which one depends on the seed alone, so that the reference need not stay in memory; over the rows of a random
    batch they are random.
    """

    def __init__(self, rows: Sequence[Sample], pool: Sequence[Sample], limit: int, seed: int):
        self.rows, self.pool, self.limit = rows, pool, limit
        self.order = shuffled(len(pool), seed, 0)
        first = _parts(pool[0])[0]
        alone = all(_parts(s)[0] == first for s in pool)
        if alone and any(_parts(s)[0] == first for s in rows):
            raise UserError(
                "KTO estimates its KL on responses to other prompts, and there is one prompt only"
            )

    def __len__(self) -> int:
        return len(self.rows)

    def item(self, number: int) -> Sample:
        place = number
        prompt, _ = _parts(self.rows[place])
        while (other := _parts(self.pool[self.order[place % len(self.order)]]))[0] == prompt:
            place += 1
        tokens = (*prompt, *other[1])[: self.limit]
        written = len(tokens) - len(prompt)
        return Sample(
            tokens=tokens,
            mask=(False,) * len(prompt) + (True,) * written,
            logprobs=(0.0,) * len(tokens),
        )


def _parts(sample: Sample) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(prompt, response) of a sample with one turn."""
    start = sample.mask.index(True)
    return sample.tokens[:start], sample.tokens[start:]


@dataclass
class RunningMean:
    """The mean of what was added, BCO's δ over the steps."""

    value: float = 0.0
    count: int = 0

    def add(self, x: float) -> float:
        """Returns the mean with x."""
        self.count += 1
        self.value += (x - self.value) / self.count
        return self.value

    def state_dict(self) -> dict[str, float]:
        return {"value": self.value, "count": self.count}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        self.value, self.count = state["value"], int(state["count"])


@dataclass(frozen=True)
class Prepared:
    """Judgments with the reference's log-probs; sample i of `others` is what KTO reads beside judgment i."""

    judged: Sequence[Judgment]
    others: Sequence[Sample]
    sums: Sums
    trust: Trust = ALIKE

    def take(
        self,
        groups: Sequence[int],
        objective: Objective,
        learner: LocalLearner,
        running: RunningMean,
    ) -> Batch:
        """The batch of some judgments, with what the losses read of the whole of it."""
        batch = as_batch(objective.reads, [self.judged[g] for g in groups], self.sums, self.trust)
        if not isinstance(batch, Labelled):
            return batch
        others = batch
        if len(self.others):
            beside = [Judgment((self.others[g],), (0.0,)) for g in groups]
            others = as_batch(objective.reads, beside, self.sums)
        assert isinstance(others, Labelled)
        return with_whole_batch(objective, learner, batch, others, running)


def with_reference(
    objective: Objective,
    sums_of: Callable[[Iterable[Sample]], Sums],
    judged: Sequence[Judgment],
    pool: Sequence[Sample],
    limit: int,
    seed: int,
    used: Sequence[int] | None = None,
    trust: Trust = ALIKE,
) -> Prepared:
    """Judgments by number. `sums_of` asks the reference, if a loss reads it, about those that are `used` (None: all);
    `pool` has KTO's other responses."""
    others: Sequence[Sample] = ()
    if "kl" in objective.whole_batch:
        others = Mismatched(Singles(judged), pool, limit, seed)
    if not objective.needs_reference:
        return Prepared(judged, others, {}, trust)
    if used is None:
        return Prepared(judged, others, sums_of(Samples(judged, others)), trust)
    beside = Chosen(others, used) if others else ()
    return Prepared(judged, others, sums_of(Samples(Chosen(judged, used), beside)), trust)


def with_whole_batch(
    objective: Objective,
    learner: LocalLearner,
    batch: Labelled,
    others: Labelled,
    running: RunningMean,
) -> Labelled:
    """The batch with kl, delta and share, from all its rows and without gradient: micro-batches change nothing.

    kl is max(0, mean log π/π_ref over `others`), responses to other prompts (Ethayarajh et al. 2024, section
    4.1); delta the running mean of the middle between the mean rewards of liked and disliked rows.
    """
    liked = batch.desirable
    count = torch.where(liked, liked.sum(), (~liked).sum())
    changes = {"share": count / len(liked)}
    if "kl" in objective.whole_batch:
        kl = (learner.outputs(others).logp.sum(1) - others.ref_sum).mean().clamp(min=0)
        changes["kl"] = kl.expand(len(liked))
    if "delta" in objective.whole_batch:
        rewards = objective.beta * (learner.outputs(batch).logp.sum(1) - batch.ref_sum)
        middles = [float(rewards[part].mean()) for part in (liked, ~liked) if part.any()]
        changes["delta"] = torch.full((len(liked),), running.add(sum(middles) / len(middles)))
    return replace(batch, **changes)


def loss_of(objective: Objective) -> Callable[[Outputs, Batch], Loss]:
    """`learner.LossFn` of an objective on its kind of batch, each judgment by its weight; with metrics of all alike."""

    def loss_fn(out: Outputs, batch: Batch) -> Loss:
        assert isinstance(batch, Paired | Labelled | RankedWithReference)
        x = VIEWS[objective.reads](out.logp, batch)
        weight = batch.weight[0::2] if isinstance(batch, Paired) else batch.weight[firsts(batch)]
        return Loss(weight * objective(x, batch), metrics_of(x, batch, objective))

    return loss_fn
