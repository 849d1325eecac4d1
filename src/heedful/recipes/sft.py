"""Supervised fine-tuning: cross-entropy on the tokens of the responses, the end token included.

A batch is a number of demonstrations, and its loss the mean over *their tokens*, however they are cut
into micro-batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from heedful.configs.sft import Config
from heedful.data.collate import collate
from heedful.data.sources import read_demonstrations
from heedful.doctor import preflight
from heedful.learner import load_learner
from heedful.models.limits import context_length
from heedful.models.load import load_policy, load_tokenizer
from heedful.ranks import ALONE, Ranks
from heedful.training.forwards import policy_forward
from heedful.training.rows import parts_of, read
from heedful.training.supervised import (
    begun,
    cross_entropy,
    epochs,
    fit,
    optim,
    step_count,
)
from heedful.training.trainable import prepare
from heedful.types import Batch, Metrics


def run(config: Config, ranks: Ranks = ALONE) -> Path:
    """Returns the run's folder, which then holds the model."""
    config = begun(config, "demonstrations", ranks)
    data = read(config, read_demonstrations)
    tokenizer = load_tokenizer(config.model)
    model = prepare(load_policy(config.model, dtype=config.dtype, device=config.device), config)
    limit = min(config.max_length or 1 << 30, context_length(model))
    train, held, notes = parts_of(config, data, read_demonstrations, tokenizer, limit)
    preflight(tokenizer, model, [item for item, _ in train], max_length=limit)
    training, evaluation = ([s for _, samples in part for s in samples] for part in (train, held))
    steps = step_count(config, len(training))
    learner = load_learner(
        model,
        policy_forward(),
        optim(config, steps),
        micro_batch_tokens=config.micro_batch_tokens,
        ranks=ranks,
    )

    def evaluate() -> Metrics:
        batch = collate(evaluation)
        return {"eval/loss": float(-learner.outputs(batch).logp.sum() / batch.mask.sum())}

    def stream(start: int) -> Iterator[Batch]:
        numbers = epochs(config, len(training), steps, start)
        return (collate([training[i] for i in rows]) for rows in numbers)

    return fit(
        config,
        learner,
        stream,
        cross_entropy,
        tokenizer,
        steps=steps,
        evaluate=evaluate,
        notes=notes,
    )
