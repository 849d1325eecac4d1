"""Direct optimisation on judgments: DPO and its kin, on pairs, on liked-or-not responses and on whole rankings.

The reference's log-probs are computed once, before the first step; the reference is then dropped, so only one
model is in memory. Losses without a reference never load one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from heedful.configs.common import refuse_unread
from heedful.configs.preference import Config, Direct, refuse_nonsense
from heedful.data.reading import named
from heedful.data.sources import stream_comparisons, stream_unpaired
from heedful.doctor import preflight
from heedful.errors import UserError
from heedful.ranks import ALONE, Ranks
from heedful.training.forwards import policy_forward
from heedful.training.judgments import (
    RunningMean,
    judgments,
    loss_of,
    pair_logps,
    with_reference,
)
from heedful.training.kept import Judgment, Singles
from heedful.training.objective import Objective, find_objective
from heedful.training.reference_sums import reference_sums
from heedful.training.rows import parts_of, read
from heedful.training.supervised import (
    begun,
    drawn,
    epochs,
    evaluated,
    fit,
    optim,
    step_count,
)
from heedful.training.trainable import learner_of, loaded, named_reference, placed
from heedful.training.trust import Raters
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
    raters = Raters(config.weights, reads_comparisons=not single)
    config = begun(config, "unpaired" if single else "rankings", ranks)
    reader: Any = stream_unpaired if single else stream_comparisons
    data = read(config, reader)
    tokenizer, model, limit = loaded(config, ranks)
    what = partial(judged, objective=objective, config=config)
    rows = parts_of(config, data, reader, tokenizer, limit, what, raters)
    if not rows.train:
        raise UserError(f"{named(config.data)} gives no pair of a better and a worse response")
    trust = raters.settled(config.out, ranks)
    preflight(tokenizer, model, rows.some, max_length=limit)
    steps = step_count(config, len(rows.train))
    reference = model
    if config.reference:
        reference = placed(named_reference(config.reference, config).model, config, ranks)
    sums_of = partial(
        reference_sums,
        reference,
        policy_forward(),
        max_tokens=config.micro_batch_tokens,
        keep=True,
        ranks=ranks,
    )
    pool, used = Singles(rows.train), drawn(config, len(rows.train), steps)
    training = with_reference(objective, sums_of, rows.train, pool, limit, config.seed, used, trust)
    evaluation = with_reference(
        objective, sums_of, rows.held, pool, limit, config.seed, trust=trust
    )
    del reference, sums_of
    learner = learner_of(model, policy_forward(), optim(config, steps), config, ranks)
    delta, loss_fn = RunningMean(), loss_of(objective)

    def evaluate() -> Metrics:
        parts, mean = [], RunningMean()
        for groups in evaluated(range(len(rows.held))):
            batch = evaluation.take(groups, objective, learner, mean)
            loss = loss_fn(learner.outputs(batch), batch)
            parts.append({"loss": loss.value, **loss.metrics})
        return {f"eval/{n}": float(torch.cat([p[n] for p in parts]).mean()) for n in parts[0]}

    # Lazily: what a loss reads of a whole batch is computed with the weights of that step.
    def stream(start: int) -> Iterator[Batch]:
        for groups in epochs(config, len(rows.train), steps, start):
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
        notes=[*rows.notes, *trust.notes],
        beside=trust.files,
        rows=rows,
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
