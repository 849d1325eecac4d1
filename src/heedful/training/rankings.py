"""Comparisons as batches of ranked responses, and the losses that read them: what reward models learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor

from heedful.configs.reward_model import WITH_MARGIN, WITH_TIES, Config
from heedful.data.collate import collate
from heedful.data.reading import named
from heedful.errors import UserError
from heedful.losses import reward as losses
from heedful.training.kept import Judgment, Kept
from heedful.training.rows import Parts
from heedful.training.trust import ALIKE, Trust
from heedful.types import Comparison, Ranked, Sample

LEAST_TIES = 1e-3  # the chance of a tie where the data have none, or nothing else
MEASURED = 512  # comparisons by which scores get mean 0 and std 1: a sample is enough for a scale


def refuse_strengths(config: Config, rows: Parts) -> None:
    """UserError where the loss reads strengths that the data have not."""
    told = rows.train.strengths + rows.held.strengths
    number = len(rows.train) + len(rows.held)
    if config.margin and not told:
        raise UserError(
            f"--margin needs comparisons with a strength; {named(config.data)} has none"
        )
    if config.loss == "soft_bradley_terry" and told < number:
        raise UserError(
            f"--loss soft_bradley_terry needs a strength of each comparison; of {number} in {named(config.data)} "
            f"{number - told} have none"
        )


def likelihood(
    config: Config, train: Kept, trust: Trust
) -> tuple[Callable[[Tensor, Tensor, Tensor], Tensor], list[dict[str, float]]]:
    """The loss as a function of scores, ranks and strengths; and its parameter of ties, for the record."""
    loss = getattr(losses, config.loss)
    if config.loss in WITH_MARGIN:
        return lambda scores, rank, strength: loss(scores, rank, config.margin * strength), []
    if config.loss not in WITH_TIES:
        return loss, []
    batch = rank_batch(train[:MEASURED], trust)
    share = losses.tie_share(as_table(torch.zeros(len(batch.rank)), batch)[1])
    ties = config.ties or min(max(share, LEAST_TIES), 1 - LEAST_TIES)
    return lambda scores, rank, _: loss(scores, rank, ties), [{"ties": round(ties, 6)}]


def ranked(item: Comparison, samples: list[Sample]) -> list[Judgment]:
    """A comparison in tokens, with its ranks as the losses read them."""
    ranks = tuple(-1.0 if rank is None else float(rank) for rank in item.ranking)
    return [Judgment(tuple(samples), ranks, item.strength)]


def rank_batch(items: Sequence[Judgment], trust: Trust = ALIKE) -> Ranked:
    """Comparisons as one batch: the responses of each are a group of rows."""
    rows = [replace(s, group=g) for g, item in enumerate(items) for s in item.samples]
    base = collate(rows)
    return Ranked(
        **{f.name: getattr(base, f.name) for f in fields(base)},
        rank=torch.tensor([int(rank) for item in items for rank in item.labels]),
        strength=torch.tensor([item.strength or 0.0 for item in items for _ in item.samples]),
        weight=trust.of_rows(items),
    )


def as_table(scores: Tensor, batch: Ranked) -> tuple[Tensor, Tensor, Tensor]:
    """Rows back into groups: scores and rank `[G, K]` (rank 0 where a prompt has fewer), strength `[G]`."""
    _, group, counts = batch.group.unique_consecutive(return_inverse=True, return_counts=True)
    column = torch.cat([torch.arange(int(c), device=scores.device) for c in counts])
    shape = (len(counts), int(counts.max()))
    table = scores.new_zeros(shape).index_put((group, column), scores)
    rank = batch.rank.new_zeros(shape).index_put((group, column), batch.rank)
    return table, rank, batch.strength[counts.cumsum(0) - 1]
