"""Reward models that say how sure they are: heads on one body, each with a bootstrap of the comparisons, a mean and a
variance of each response, or the chances of its grades."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import torch
from torch import Tensor
from transformers import PreTrainedModel

from heedful.configs.reward_model import Config
from heedful.losses.reward import categorical, mean_variance
from heedful.models.forward import scalar_head
from heedful.rewards.heads import Cautious, record
from heedful.training.judgments import firsts
from heedful.training.rankings import as_table
from heedful.types import Outputs, Ranked
from heedful.types.tensors import Bootstrapped


def heads_for(config: Config) -> Cautious | None:
    """What the outputs are, where there are several."""
    if config.loss == "mean_variance":
        return Cautious("mean_variance", 2, config.caution)
    if config.loss == "categorical":
        return Cautious("categorical", config.grades, config.caution)
    return Cautious("ensemble", config.heads, config.caution) if config.heads > 1 else None


@torch.no_grad()
def begin_heads(model: PreTrainedModel, heads: Cautious) -> None:
    """Heads of an ensemble begin as they were drawn; a deviation begins at 1 for all responses, and all
    grades of all responses with the same chance."""
    record(model, heads)
    if heads.form == "categorical":
        scalar_head(model).weight.zero_()
    if heads.form == "mean_variance":
        scalar_head(model).weight[1].zero_()


def bootstrap(comparisons: int, heads: int, seed: int) -> Tensor:
    """`[N, K]`: how much each comparison counts for each head, exponential with mean 1 (Rubin's 1981 bootstrap)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.empty(comparisons, heads).exponential_(generator=generator)


def with_draws(batch: Ranked, draws: Tensor) -> Bootstrapped:
    """A batch of G comparisons with their draws `[G, K]`, beside each response."""
    _, counts = batch.group.unique_consecutive(return_counts=True)
    given = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return Bootstrapped(**given, draw=draws.repeat_interleave(counts, 0)[:, :, None])


def loss_of_heads(
    heads: Cautious,
    out: Outputs,
    batch: Ranked,
    loss_of: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """`[G]`: of a mean and a variance, or of grades, their likelihood; of an ensemble the mean of its heads'
    losses, each by its own draw of the comparisons."""
    tables = [as_table(out[str(k)], batch) for k in range(len(out))]
    if heads.form == "mean_variance":
        (mean, rank, _), (log_std, _, _) = tables
        return mean_variance(mean, log_std, rank)
    if heads.form == "categorical":
        return categorical(torch.stack([table for table, _, _ in tables], 2), tables[0][1])
    losses = torch.stack([loss_of(*table) for table in tables], 1)
    if isinstance(batch, Bootstrapped):
        losses = losses * batch.draw[firsts(batch), :, 0]
    return losses.mean(1)
