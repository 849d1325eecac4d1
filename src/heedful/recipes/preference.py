"""Direct optimisation on judgments: DPO and its kin, on pairs, on liked-or-not responses and on whole rankings.

The reference's log-probs are computed once, before the first step; the reference is then dropped, so only one
model is in memory. Losses without a reference never load one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from transformers import PreTrainedTokenizerBase

from heedful.data.sources import read_comparisons, read_verdicts
from heedful.data.tokens import encode_example, encode_group
from heedful.doctor import preflight
from heedful.errors import UserError
from heedful.learner.local import LocalLearner
from heedful.models.load import context_length, load_policy, load_tokenizer
from heedful.recipes.config import FromComparisons, Training, alias
from heedful.recipes.judgments import (
    Judgment,
    RunningMean,
    judgments,
    loss_of,
    pair_logps,
    reference_sums,
    with_reference,
)
from heedful.recipes.objective import Objective, find_objective
from heedful.recipes.sft import response_logps
from heedful.recipes.trainable import check, prepare
from heedful.recipes.training import (
    batches,
    check_epochs,
    fit,
    fitting,
    materialise,
    optim,
    split_by_prompt,
    step_count,
)
from heedful.run import check_out
from heedful.types import Batch, Comparison, Metrics, Verdict

__all__ = ["PRESETS", "Config", "encode", "objective_of", "pair_logps", "run"]

# `heedful train NAME` → the fields that it sets. β is what each paper or its code starts from; where nothing
# is said, the defaults of `Config` and of the loss hold.
PRESETS: dict[str, dict[str, Any]] = {
    "dpo": {"loss": "dpo", "beta": 0.1},
    "cdpo": {"loss": "dpo", "beta": 0.1, "label_smoothing": 0.1},
    "robust": {"loss": "robust", "beta": 0.1},
    "ipo": {"loss": "ipo", "beta": 0.1},
    "kto": {"loss": "kto", "beta": 0.1},
    "orpo": {"loss": "orpo", "learning_rate": 8e-6},
    "simpo": {"loss": "simpo", "beta": 2.0},
    "cpo": {"loss": "cpo", "beta": 0.1},
    "slic": {"loss": "slic", "beta": 1.0},
    "rso": {"loss": "rso", "beta": 0.05},
    "apo_zero": {"loss": "apo_zero", "beta": 0.1},
    "apo_down": {"loss": "apo_down", "beta": 0.1},
    "apo_zero_unpaired": {"loss": "apo_zero_unpaired", "beta": 0.1},
    "bco": {"loss": "bco", "beta": 0.1},
    "exo": {"loss": "exo", "beta": 0.1},
    "cpl": {"loss": "cpl", "beta": 0.1},
    "plackett_luce_dpo": {"loss": "plackett_luce_dpo", "beta": 0.1},
    "preferred_ft": {"loss": "preferred_ft"},
    "unlikelihood": {"loss": "unlikelihood"},
}


@dataclass(frozen=True, kw_only=True)
class Direct(Training):
    """The loss of direct optimisation and what belongs to it."""

    reference: Annotated[str | None, alias("--ref-model")] = None
    """The frozen reference; default: the policy as it starts."""
    loss: Annotated[str, alias("--loss-type")] = "dpo"
    """Pairs: dpo, robust, ipo, exo, rso, apo_zero, apo_down; without a reference simpo, orpo, cpo, slic, cpl,
    preferred_ft, unlikelihood. Single responses with a label: kto, bco, apo_zero_unpaired. Whole rankings:
    plackett_luce_dpo. A sum is dpo+0.2*preferred_ft; your own is package.module:function of (PairLogps, p, beta)."""
    loss_options: tuple[str, ...] = ()
    """Other parameters of the loss, as gamma=0.5."""
    beta: float = 0.1
    """Strength of the pull towards the reference; the scale of the log-probs where there is none."""
    pairs: Literal["all", "best_worst"] = "all"
    """Which pairs a ranking of more than two responses gives."""
    label_smoothing: float = 0.0
    """Probability that the label of a pair is wrong (cDPO): p = 1 - this."""
    learning_rate: Annotated[float, alias("--lr")] = 1e-6


@dataclass(frozen=True, kw_only=True)
class Config(FromComparisons, Direct):
    """Optimise a language model on comparisons directly."""

    data: Annotated[str, alias("--dataset-name")]
    """Comparisons (chosen and rejected, or responses and ranking), or rows with prompt, completion and label."""
    batch_size: Annotated[int, alias("--per-device-train-batch-size")] = 64
    """Pairs (single responses, rankings) in an optimiser step."""
    learning_rate: Annotated[float, alias("--lr")] = 1e-6


def unread(config: Direct) -> dict[str, str]:
    """Fields that nothing reads beside the others, and why."""
    objective = objective_of(config)
    return {} if objective.reads_beta else {"beta": f"--loss {config.loss} has no β"}


def refuse_what_cannot_be(config: Config) -> None:
    """Numbers and combinations that no run can have."""
    check(config)
    objective_of(config)
    check_epochs(config)


def run(config: Config) -> Path:
    """Returns the run's folder, which then holds the model."""
    refuse_what_cannot_be(config)
    objective = objective_of(config)
    single = objective.reads == "LabelledLogps"
    config = replace(config, data=materialise(config.data, "unpaired" if single else "rankings"))
    check_out(config)
    read = read_verdicts if single else read_comparisons
    items: Any = read(config.data, skip_bad=config.skip_bad)
    tokenizer = load_tokenizer(config.model)
    model = prepare(load_policy(config.model, dtype=config.dtype, device=config.device), config)
    limit = min(config.max_length or 1 << 30, context_length(model))
    if config.skip_bad:
        items = fitting(tokenizer, items, limit)
    preflight(tokenizer, model, items, max_length=limit)
    train, held = (
        [j for item in part for j in encode(tokenizer, item, objective, config, limit)]
        for part in split_by_prompt(items, lambda item: item.prompt, config.held_out)
    )
    train, held = train or held, held or train
    if not train:
        raise UserError(f"{config.data} gives no pair of a better and a worse response")
    reference = (
        load_policy(config.reference, dtype=config.dtype, device=config.device)
        if config.reference
        else model
    )
    sums_of = partial(
        reference_sums,
        reference,
        response_logps,
        max_tokens=config.micro_batch_tokens,
        keep=True,
    )
    pool = [s for j in train for s in j.samples]
    training, evaluation = (
        with_reference(objective, sums_of, part, pool, limit, config.seed) for part in (train, held)
    )
    del reference, sums_of
    steps = step_count(config, len(train))
    learner = LocalLearner(
        model, response_logps, optim(config, steps), micro_batch_tokens=config.micro_batch_tokens
    )
    delta, loss_fn = RunningMean(), loss_of(objective)

    def evaluate() -> Metrics:
        batch = evaluation.take(range(len(held)), objective, learner, RunningMean())
        loss = loss_fn(learner.logprobs(batch), batch)
        found = {"loss": loss.value, **loss.metrics}
        return {f"eval/{name}": float(value.mean()) for name, value in found.items()}

    # Lazily: what a loss reads of a whole batch is computed with the weights of that step.
    def stream(start: int) -> Iterator[Batch]:
        for groups in batches(len(train), config.batch_size, steps, config.seed, start):
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
        parts={"delta": delta},
    )


def objective_of(config: Direct) -> Objective:
    """The losses of a config, once everything that belongs to them fits."""
    objective = find_objective(config.loss, config.loss_options, config.beta)
    if not 0 <= config.label_smoothing < 0.5:
        raise UserError(
            f"--label-smoothing must be 0 or more, below 0.5, not {config.label_smoothing}"
        )
    if objective.reads != "PairLogps" and (config.label_smoothing or config.pairs != "all"):
        raise UserError(f"--label-smoothing and --pairs are for losses on pairs, not {config.loss}")
    if config.reference and not objective.needs_reference:
        raise UserError(f"--loss {config.loss} reads no reference; leave --reference out")
    return objective


def encode(
    tokenizer: PreTrainedTokenizerBase,
    item: Comparison | Verdict,
    objective: Objective,
    config: Config,
    limit: int,
) -> list[Judgment]:
    """A row of the data as what the losses read."""
    if isinstance(item, Verdict):
        sample = encode_example(tokenizer, item.prompt, item.response, max_length=limit)
        return [Judgment((sample,), (float(item.desirable),))]
    samples = encode_group(tokenizer, item.prompt, item.responses, max_length=limit)
    p = 1 - config.label_smoothing
    return judgments(objective.reads, samples, item.ranking, p, config.pairs)
