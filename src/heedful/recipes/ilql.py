"""Implicit language Q-learning (Snell et al. 2022): offline value learning from episodes of several turns.

One body bears the language model, which clones what was logged, and heads for Q, twice, and V. Nothing is sampled. What
the reference code has apart, a policy of its own beside the values and targets with bodies of their own, is one body
here: a token costs one pass, in training and when it is sampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from heedful.configs.ilql import Config
from heedful.data.collate import collate
from heedful.data.logged import stream_logged
from heedful.doctor import preflight
from heedful.learner import load_learner
from heedful.learner.local import Loss
from heedful.losses.values import TokenValues, ilql
from heedful.models.values import ValueHeads, add_value_heads, value_outputs
from heedful.ranks import ALONE, Ranks
from heedful.training.replay import episodes_of
from heedful.training.rows import read
from heedful.training.supervised import begun, epochs, evaluated, fit, optim, step_count
from heedful.training.trainable import loaded
from heedful.types import Batch, Metrics, Outputs


def run(config: Config, ranks: Ranks = ALONE) -> Path:
    """Returns the run's folder, which then holds the policy and, beside it, its values."""
    config = begun(config, "demonstrations", ranks)
    data = read(config, stream_logged)
    tokenizer, model, limit = loaded(config)
    rows = episodes_of(config, data, tokenizer, limit)
    preflight(tokenizer, model, rows.some, max_length=limit)
    heads = add_value_heads(model, config.seed, config.beta)
    steps = step_count(config, len(rows.train))
    learner = load_learner(
        model,
        lambda model, batch: value_outputs(model, batch.tokens, batch.mask),
        optim(config, steps),
        micro_batch_tokens=config.micro_batch_tokens,
        ranks=ranks,
    )

    def loss_fn(out: Outputs, batch: Batch) -> Loss:
        values = TokenValues(*(out[name] for name in TokenValues.__slots__))
        how = {"gamma": config.gamma, "tau": config.expectile}
        of = ilql(values, batch.step_rewards, batch.mask, batch.truncated, **how)
        total = config.q_weight * of.q + config.v_weight * of.v + config.cql_weight * of.cql
        parts = {"loss/bc": -out.logp, "loss/q": of.q, "loss/v": of.v, "loss/cql": of.cql}
        told = {
            "values/q": values.target,
            "values/v": values.v,
            "values/advantage": values.target - values.v,
        }
        return Loss(total - config.bc_weight * out.logp, {**parts, **told})

    def evaluate() -> Metrics:
        sums, count = dict[str, float](), 0.0
        for part in evaluated(rows.held):
            batch = collate(part)
            loss = loss_fn(learner.outputs(batch), batch)
            for name, value in {"loss": loss.value, **loss.metrics}.items():
                sums[name] = sums.get(name, 0.0) + float(value[batch.mask].sum())
            count += float(batch.mask.sum())
        return {f"eval/{name}": value / count for name, value in sums.items()}

    def stream(start: int) -> Iterator[Batch]:
        return (rows.take(numbers) for numbers in epochs(config, len(rows.train), steps, start))

    return fit(
        config,
        learner,
        stream,
        loss_fn,
        tokenizer,
        steps=steps,
        evaluate=evaluate,
        show=("loss", "loss/q", "values/v"),
        after_step=lambda: heads.follow(config.polyak),
        stateful={"targets": Targets(heads)},
        notes=rows.notes,
    )


class Targets:
    """`types.Stateful`: the target Qs, which no optimiser moves."""

    def __init__(self, heads: ValueHeads):
        self.heads = heads

    def state_dict(self) -> dict[str, Any]:
        return {k: x for k, x in self.heads.state_dict().items() if k.startswith("target")}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        weights = self.heads.state_dict()
        for name, value in state.items():
            weights[name].copy_(value)
