"""Direct optimisation on judgments: DPO and its kin, on pairs, on liked-or-not responses and on whole rankings.

The reference's log-probs are computed once, before the first step; the reference is then dropped, so only one
model is in memory. Losses without a reference never load one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from heedful.configs.common import refuse_unread
from heedful.configs.preference import Config, Direct, refuse_nonsense
from heedful.data.reading import named
from heedful.data.sources import read_comparisons, read_unpaired
from heedful.doctor import preflight
from heedful.errors import UserError
from heedful.learner import load_learner
from heedful.models.limits import context_length
from heedful.models.load import load_policy, load_tokenizer
from heedful.ranks import ALONE, Ranks
from heedful.training.forwards import policy_forward
from heedful.training.judgments import (
    Judgment,
    RunningMean,
    judgments,
    loss_of,
    pair_logps,
    reference_sums,
    with_reference,
)
from heedful.training.objective import Objective, find_objective
from heedful.training.rows import parts_of, read
from heedful.training.supervised import (
    begun,
    epochs,
    fit,
    optim,
    step_count,
)
from heedful.training.trainable import prepare
from heedful.types import Batch, Comparison, LabelledResponse, Metrics, Sample

__all__ = ["Config", "judged", "objective_of", "pair_logps", "run"]


def refuse_what_cannot_be(config: Config) -> None:
    """Numbers and combinations that no run can have."""
    refuse_nonsense(config)
    objective_of(config)


def run(config: Config, ranks: Ranks = ALONE) -> Path:
    """Returns the run's folder, which then holds the model."""
    refuse_what_cannot_be(config)
    objective = objective_of(config)
    single = objective.reads == "LabelledLogps"
    config = begun(config, "unpaired" if single else "rankings", ranks)
    reader: Any = read_unpaired if single else read_comparisons
    data = read(config, reader)
    tokenizer = load_tokenizer(config.model)
    model = prepare(load_policy(config.model, dtype=config.dtype, device=config.device), config)
    limit = min(config.max_length or 1 << 30, context_length(model))
    rows, held_rows, notes = parts_of(config, data, reader, tokenizer, limit)
    preflight(tokenizer, model, [item for item, _ in rows], max_length=limit)
    train, held = (
        [j for item, samples in part for j in judged(item, samples, objective, config)]
        for part in (rows, held_rows)
    )
    train, held = train or held, held or train
    if not train:
        raise UserError(f"{named(config.data)} gives no pair of a better and a worse response")
    reference = (
        load_policy(config.reference, dtype=config.dtype, device=config.device)
        if config.reference
        else model
    )
    sums_of = partial(
        reference_sums,
        reference,
        policy_forward(),
        max_tokens=config.micro_batch_tokens,
        keep=True,
        ranks=ranks,
    )
    pool = [s for j in train for s in j.samples]
    training, evaluation = (
        with_reference(objective, sums_of, part, pool, limit, config.seed) for part in (train, held)
    )
    del reference, sums_of
    steps = step_count(config, len(train))
    learner = load_learner(
        model,
        policy_forward(),
        optim(config, steps),
        micro_batch_tokens=config.micro_batch_tokens,
        ranks=ranks,
    )
    delta, loss_fn = RunningMean(), loss_of(objective)

    def evaluate() -> Metrics:
        batch = evaluation.take(range(len(held)), objective, learner, RunningMean())
        loss = loss_fn(learner.outputs(batch), batch)
        values = {"loss": loss.value, **loss.metrics}
        return {f"eval/{name}": float(value.mean()) for name, value in values.items()}

    # Lazily: what a loss reads of a whole batch is computed with the weights of that step.
    def stream(start: int) -> Iterator[Batch]:
        for groups in epochs(config, len(train), steps, start):
            yield training.take(groups, objective, learner, delta)

    return fit(
        config,
        learner,
        stream,
        loss_fn,
        tokenizer,
        steps=steps,
        per="group",
        evaluate=evaluate,
        show=("loss", "rewards/accuracies", "rewards/margins"),
        stateful={"delta": delta},
        notes=notes,
    )


def objective_of(config: Direct) -> Objective:
    """The losses of a config, once everything that belongs to them fits."""
    objective = find_objective(config.loss, config.loss_options, config.beta)
    if ":" in config.loss and not objective.reads_beta:
        refuse_unread(config, {}, {"beta": f"--loss {config.loss} has no β"})
    if objective.reads != "PairLogps" and (config.label_smoothing or config.pairs != "all"):
        raise UserError(f"--label-smoothing and --pairs are for losses on pairs, not {config.loss}")
    if config.reference and not objective.needs_reference:
        raise UserError(f"--loss {config.loss} reads no reference; leave --reference out")
    return objective


def judged(
    item: Comparison | LabelledResponse,
    samples: list[Sample],
    objective: Objective,
    config: Config,
) -> list[Judgment]:
    """A row of the data as what the losses read."""
    if isinstance(item, LabelledResponse):
        return [Judgment((samples[0],), (float(item.desirable),))]
    p = 1 - config.label_smoothing
    return judgments(objective.reads, samples, item.ranking, p, config.pairs)
