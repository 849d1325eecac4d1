"""Reward models from comparisons: Bradley–Terry, Plackett–Luce and others over the K responses to a prompt.

The body of a language model under a new scalar head (that of a reward model is kept), read at the last token of
prompt + response. One prompt, with all its responses, is one element of a batch. The weights are saved as they were
trained, so eval/loss is theirs; beside them, in config.json, stand the mean and standard deviation of the compared
responses' scores. heedful's rewards are (score − mean) / std: a comparison says nothing about either, and β of the
later optimisation should mean the same for every reward model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heedful.configs.reward_model import Config
from heedful.data.files import write_json
from heedful.data.sources import stream_comparisons
from heedful.doctor import preflight
from heedful.evals.statistics import bootstrap_ci
from heedful.learner.local import Loss
from heedful.losses import reward as losses
from heedful.models.limits import context_length
from heedful.models.load import load_tokenizer, new_reward_model
from heedful.ranks import ALONE, Ranks
from heedful.rewards.heads import heads_forward, logits_of, record
from heedful.rewards.model import FITTED_ON, SCALE, SHIFT, score_forward
from heedful.training.ensemble import begin_heads, bootstrap, heads_for, loss_of_heads, with_draws
from heedful.training.judgments import firsts
from heedful.training.language import language_forward, language_loss
from heedful.training.rankings import (
    MEASURED,
    as_table,
    likelihood,
    rank_batch,
    ranked,
    refuse_strengths,
)
from heedful.training.rows import parts_of, read
from heedful.training.supervised import (
    begun,
    epochs,
    evaluated,
    fit,
    optim,
    step_count,
)
from heedful.training.trainable import learner_of, loads_on, placed, prepare
from heedful.training.trust import Raters
from heedful.types import Batch, Metrics, Outputs, Ranked


def run(config: Config, ranks: Ranks = ALONE) -> Path:
    """Returns the run's folder, which then holds a one-label sequence-classification model."""
    if config.personal:
        from heedful.recipes import personal_reward

        return personal_reward.run(config, ranks)
    raters = Raters(config.weights)
    config = begun(config, "rankings", ranks)
    data = read(config, stream_comparisons)
    tokenizer = load_tokenizer(config.model)
    heads = heads_for(config)
    model = new_reward_model(
        config.model,
        seed=config.seed,
        outputs=heads.outputs if heads else 1,
        dtype=config.dtype,
        device=loads_on(config),
        nf4=config.lora.nf4,
    )
    if heads:
        begin_heads(model, heads)
    model = placed(prepare(model, config), config, ranks)
    limit = min(config.max_length or 1 << 30, context_length(model))
    rows = parts_of(config, data, stream_comparisons, tokenizer, limit, ranked, raters)
    refuse_strengths(config, rows)
    trust = raters.settled(config.out, ranks)
    preflight(tokenizer, model, rows.some, max_length=limit)
    steps = step_count(config, len(rows.train))
    forward = heads_forward if heads else score_forward
    if config.lm_coef:
        forward = language_forward(config.model, model)
    learner = learner_of(model, forward, optim(config, steps), config, ranks)
    loss_of, form = likelihood(config, rows.train, trust)
    draws = bootstrap(len(rows.train), config.heads, config.seed) if config.heads > 1 else None

    def centre(out: Outputs) -> Tensor:
        return heads.parts(logits_of(out))[0] if heads else out.score

    def loss_fn(out: Outputs, batch: Batch) -> Loss:
        assert isinstance(batch, Ranked)
        table, rank, strength = as_table(centre(out), batch)
        right, pairs = losses.accuracy(table, rank)
        value = (
            loss_of(table, rank, strength)
            if heads is None
            else loss_of_heads(heads, out, batch, loss_of)
        )
        measured = {"accuracy": right / pairs.clamp(min=1), "margin": _spread(table, rank)}
        if config.lm_coef:
            measured["lm_loss"] = language_loss(out, batch)
            value = value + config.lm_coef * measured["lm_loss"]
        return Loss(batch.weight[firsts(batch)] * value, measured)

    def evaluate() -> Metrics:
        tables, values = [], []
        for part in evaluated(rows.held):
            batch = rank_batch(part, trust)
            out = learner.outputs(batch)
            tables.append(as_table(centre(out), batch))
            values.append(loss_fn(out, batch).value)
        result = {**of_pairs(tables), "loss": float(torch.cat(values).mean())}
        ranks.on_first(write_json, config.out / "evaluation.json", result)
        return {"eval/accuracy": result["accuracy"], "eval/loss": result["loss"]}

    def record_scale() -> None:
        batch = rank_batch(rows.train[:MEASURED], trust)
        setattr(model.config, FITTED_ON, rows.train.samples)
        if heads:
            record(model, heads.fitted(logits_of(learner.outputs(batch))))
            return
        scores = learner.outputs(batch).score
        setattr(model.config, SHIFT, float(scores.mean()))
        setattr(model.config, SCALE, float(scores.std(correction=0).clamp(min=1e-6)))

    def stream(start: int) -> Iterator[Batch]:
        for batch in epochs(config, len(rows.train), steps, start):
            drawn = rank_batch([rows.train[i] for i in batch], trust)
            yield drawn if draws is None else with_draws(drawn, draws[batch])

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
        notes=[*rows.notes, *trust.notes, *form],
        beside=trust.files,
        rows=rows,
    )


def _spread(table: Tensor, rank: Tensor) -> Tensor:
    """Score of the first minus score of the last, per prompt."""
    first, last = losses.best_and_last(rank)
    return (table.gather(1, first) - table.gather(1, last)).squeeze(1)


def of_pairs(tables: Sequence[tuple[Tensor, Tensor, Tensor]]) -> dict[str, Any]:
    """The share of held-out pairs that are ordered right, with an interval over prompts; of `as_table`'s tables."""
    counted = [losses.accuracy(table, rank) for table, rank, _ in tables]
    right, pairs = (torch.cat(column) for column in zip(*counted, strict=True))
    share = (right / pairs.clamp(min=1)).tolist()
    return {
        "accuracy": float(right.sum() / pairs.sum().clamp(min=1)),
        "accuracy_ci": bootstrap_ci(share, pairs.tolist()),
        "pairs": int(pairs.sum()),
        "prompts": len(pairs),
    }
