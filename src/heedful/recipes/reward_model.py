"""Reward models from comparisons: Bradley–Terry or Plackett–Luce over the K responses to a prompt.

The body of a language model under a new scalar head (that of a reward model is kept), read at the last token of
prompt + response. One prompt, with all its responses, is one element of a batch. The weights are saved as they were
trained, so eval/loss is theirs; beside them, in config.json, stand the mean and standard deviation of the compared
responses' scores. heedful's rewards are (score − mean) / std: a comparison says nothing about either, and β of the
later optimisation should mean the same for every reward model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heedful.configs.reward_model import Config
from heedful.data.collate import collate
from heedful.data.files import write_json
from heedful.data.reading import named
from heedful.data.sources import read_comparisons
from heedful.doctor import preflight
from heedful.errors import UserError
from heedful.evals.statistics import bootstrap_ci
from heedful.learner import load_learner
from heedful.learner.local import Loss
from heedful.losses import reward as losses
from heedful.models.limits import context_length
from heedful.models.load import load_tokenizer, new_reward_model
from heedful.ranks import ALONE, Ranks
from heedful.rewards.model import FITTED_ON, SCALE, SHIFT, score_forward
from heedful.training.rows import parts_of, read
from heedful.training.supervised import (
    begun,
    epochs,
    fit,
    optim,
    step_count,
)
from heedful.training.trainable import prepare
from heedful.types import Batch, Metrics, Outputs, Ranked, Sample

MEASURED = 512  # comparisons by which scores get mean 0 and std 1: a sample is enough for a scale


def run(config: Config, ranks: Ranks = ALONE) -> Path:
    """Returns the run's folder, which then holds a one-label sequence-classification model."""
    config = begun(config, "rankings", ranks)
    data = read(config, read_comparisons)
    if config.margin and all(c.strength is None for c in data.items):
        raise UserError(
            f"--margin needs comparisons with a strength; {named(config.data)} has none"
        )
    tokenizer = load_tokenizer(config.model)
    model = new_reward_model(
        config.model, seed=config.seed, dtype=config.dtype, device=config.device
    )
    prepare(model, config)
    limit = min(config.max_length or 1 << 30, context_length(model))
    train, held, notes = parts_of(config, data, read_comparisons, tokenizer, limit)
    preflight(tokenizer, model, [c for c, _ in train], max_length=limit)
    training, evaluation = ([(samples, c.ranking) for c, samples in part] for part in (train, held))
    strengths, eval_strengths = ([c.strength or 0.0 for c, _ in part] for part in (train, held))
    steps = step_count(config, len(training))
    learner = load_learner(
        model,
        score_forward,
        optim(config, steps),
        micro_batch_tokens=config.micro_batch_tokens,
        ranks=ranks,
    )
    loss_of = getattr(losses, config.loss)

    def loss_fn(out: Outputs, batch: Batch) -> Loss:
        assert isinstance(batch, Ranked)
        table, rank, strength = as_table(out.score, batch)
        right, pairs = losses.accuracy(table, rank)
        return Loss(
            loss_of(table, rank, config.margin * strength),
            {"accuracy": right / pairs.clamp(min=1), "margin": _spread(table, rank)},
        )

    def evaluate() -> Metrics:
        batch = rank_batch(evaluation, eval_strengths)
        table, rank, strength = as_table(learner.outputs(batch).score, batch)
        loss = float(loss_of(table, rank, config.margin * strength).mean())
        result = {**of_pairs(table, rank), "loss": loss}
        ranks.on_first(write_json, config.out / "evaluation.json", result)
        return {"eval/accuracy": result["accuracy"], "eval/loss": loss}

    def record_scale() -> None:
        batch = rank_batch(training[:MEASURED], strengths[:MEASURED])
        scores = learner.outputs(batch).score
        setattr(model.config, SHIFT, float(scores.mean()))
        setattr(model.config, SCALE, float(scores.std(correction=0).clamp(min=1e-6)))
        setattr(model.config, FITTED_ON, sum(len(samples) for samples, _ in training))

    def stream(start: int) -> Iterator[Batch]:
        for rows in epochs(config, len(training), steps, start):
            yield rank_batch([training[i] for i in rows], [strengths[i] for i in rows])

    return fit(
        config,
        learner,
        stream,
        loss_fn,
        tokenizer,
        steps=steps,
        per="group",
        evaluate=evaluate,
        show=("loss", "accuracy", "eval/accuracy"),
        before_save=record_scale,
        notes=notes,
    )


Encoded = tuple[list[Sample], tuple[int | None, ...]]


def rank_batch(items: Sequence[Encoded], strengths: Sequence[float]) -> Ranked:
    """Comparisons as one batch: the responses of each are a group of rows."""
    rows = [replace(s, group=g) for g, (samples, _) in enumerate(items) for s in samples]
    base = collate(rows)
    return Ranked(
        **{f.name: getattr(base, f.name) for f in fields(base)},
        rank=torch.tensor([-1 if r is None else r for _, ranking in items for r in ranking]),
        strength=torch.tensor(
            [s for s, (samples, _) in zip(strengths, items, strict=True) for _ in samples]
        ),
    )


def as_table(scores: Tensor, batch: Ranked) -> tuple[Tensor, Tensor, Tensor]:
    """Rows back into groups: scores and rank `[G, K]` (rank 0 where a prompt has fewer), strength `[G]`."""
    _, group, counts = batch.group.unique_consecutive(return_inverse=True, return_counts=True)
    column = torch.cat([torch.arange(int(c), device=scores.device) for c in counts])
    shape = (len(counts), int(counts.max()))
    table = scores.new_zeros(shape).index_put((group, column), scores)
    rank = batch.rank.new_zeros(shape).index_put((group, column), batch.rank)
    return table, rank, batch.strength[counts.cumsum(0) - 1]


def _spread(table: Tensor, rank: Tensor) -> Tensor:
    """Score of the first minus score of the last, per prompt."""
    first, last = losses.best_and_last(rank)
    return (table.gather(1, first) - table.gather(1, last)).squeeze(1)


def of_pairs(table: Tensor, rank: Tensor) -> dict[str, Any]:
    """The share of held-out pairs that are ordered right, with an interval over prompts."""
    right, pairs = losses.accuracy(table, rank)
    share = (right / pairs.clamp(min=1)).tolist()
    return {
        "accuracy": float(right.sum() / pairs.sum().clamp(min=1)),
        "accuracy_ci": bootstrap_ci(share, pairs.tolist()),
        "pairs": int(pairs.sum()),
        "prompts": len(pairs),
    }
