"""Supervised fine-tuning: cross-entropy on the tokens of the responses, the end token included.

A batch is a number of demonstrations, and its loss the mean over *their tokens*, however they are cut
into micro-batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from heedful.configs.sft import Config
from heedful.data.collate import collate
from heedful.data.sources import stream_demonstrations
from heedful.doctor import preflight
from heedful.ranks import ALONE, Ranks
from heedful.training.forwards import policy_forward
from heedful.training.kept import Judgment, Singles
from heedful.training.rows import parts_of, read
from heedful.training.supervised import (
    begun,
    cross_entropy,
    epochs,
    evaluated,
    fit,
    optim,
    step_count,
    token_mean,
)
from heedful.training.trainable import learner_of, loaded
from heedful.types import Batch, Demonstration, Metrics, Sample


def run(config: Config, ranks: Ranks = ALONE) -> Path:
    """Returns the run's folder, which then holds the model."""
    config = begun(config, "demonstrations", ranks)
    data = read(config, partial(stream_demonstrations, best=config.best))
    tokenizer, model, limit = loaded(config, ranks)
    rows = parts_of(config, data, stream_demonstrations, tokenizer, limit, unjudged)
    preflight(tokenizer, model, rows.some, max_length=limit)
    steps = step_count(config, len(rows.train))
    learner = learner_of(model, policy_forward(), optim(config, steps), config, ranks)

    def evaluate() -> Metrics:
        parts = evaluated(rows.held)
        batches = (collate([s for shown in part for s in shown.samples]) for part in parts)
        return {"eval/loss": token_mean(learner, batches, lambda out: -out.logp)}

    def stream(start: int) -> Iterator[Batch]:
        training = Singles(rows.train)
        numbers = epochs(config, len(training), steps, start)
        return (collate([training[i] for i in batch]) for batch in numbers)

    return fit(
        config,
        learner,
        stream,
        cross_entropy,
        tokenizer,
        steps=steps,
        evaluate=evaluate,
        notes=rows.notes,
        rows=rows,
    )


def unjudged(item: Demonstration, samples: list[Sample]) -> list[Judgment]:
    """A demonstration in tokens: nothing was compared."""
    return [Judgment(tuple(samples), ())]
