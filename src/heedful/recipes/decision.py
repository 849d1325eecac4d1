"""Return-conditioned behaviour cloning: the decision transformer (Chen et al. 2021) in words.

What the policy hears before each of its turns ends in a line `Return: -6`, what that episode earned from there on. One
who plays for more (`--target-return`) is told the target, less what came since. Nothing else is learned than in SFT.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, quantiles

from heedful.configs.decision import Config
from heedful.data.collate import collate
from heedful.data.logged import Logged, conditioned, stream_logged
from heedful.doctor import preflight
from heedful.learner import load_learner
from heedful.ranks import ALONE, Ranks
from heedful.training.forwards import policy_forward
from heedful.training.replay import episodes_of
from heedful.training.rows import read
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
from heedful.training.trainable import loaded
from heedful.types import Batch, Metrics


def run(config: Config, ranks: Ranks = ALONE) -> Path:
    """Returns the run's folder, which then holds the model. Says what the episodes earned, to choose a target from."""
    config = begun(config, "demonstrations", ranks)
    data = read(config, stream_logged)
    tokenizer, model, limit = loaded(config)
    earned: list[float] = []

    def told(episode: Logged) -> Logged:
        earned.append(episode.returns[0])
        return conditioned(episode)

    rows = episodes_of(config, data, tokenizer, limit, told)
    preflight(tokenizer, model, rows.some, max_length=limit)
    ranks.on_first(print, returns_of(earned))
    steps = step_count(config, len(rows.train))
    learner = load_learner(
        model,
        policy_forward(),
        optim(config, steps),
        micro_batch_tokens=config.micro_batch_tokens,
        ranks=ranks,
    )

    def evaluate() -> Metrics:
        batches = map(collate, evaluated(rows.held))
        return {"eval/loss": token_mean(learner, batches, lambda out: -out.logp)}

    def stream(start: int) -> Iterator[Batch]:
        return (rows.take(numbers) for numbers in epochs(config, len(rows.train), steps, start))

    return fit(
        config, learner, stream, cross_entropy, tokenizer, steps=steps, evaluate=evaluate, notes=rows.notes
    )  # fmt: skip


def returns_of(earned: Sequence[float]) -> str:
    """A line about the data's returns."""
    if len(earned) < 2:
        return f"one episode, return {earned[0]:g}"
    tenths = quantiles(earned, n=10, method="inclusive")
    return (
        f"{len(earned)} episodes, mean return {fmean(earned):.3g}, the best tenth {tenths[-1]:.3g} or more, the best "
        f"{max(earned):.3g}: --target-return of sample and evaluate is best chosen among what was seen"
    )
