"""Direct optimisation on pairs: DPO and its kin, against a frozen reference.

The reference's log-probs are computed once, before the first step; the reference is then dropped, so
only one model is in memory. Rankings of K responses give all their pairs, or only best against worst.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from heedful.data.collate import collate, take
from heedful.data.sources import read_comparisons
from heedful.data.tokens import encode_group
from heedful.errors import UserError, did_you_mean
from heedful.learner.local import LocalLearner, Loss, predict
from heedful.losses import preference as losses
from heedful.models.load import context_length, load_policy, load_tokenizer
from heedful.plugins import load_function
from heedful.recipes.config import FromComparisons, alias
from heedful.recipes.sft import response_logps
from heedful.recipes.trainable import prepare
from heedful.recipes.training import batches, fit, fitting, optim, split_by_prompt, step_count
from heedful.recipes.workspace import materialise
from heedful.run import refuse_finished
from heedful.types import Batch, Comparison, Metrics, Pair, Paired, PairLogps

LOSSES = ("dpo", "preferred_ft", "unlikelihood")


@dataclass(frozen=True, kw_only=True)
class Config(FromComparisons):
    """Optimise a language model on comparisons directly."""

    reference: Annotated[str | None, alias("--ref-model")] = None
    """The frozen reference; default: the policy as it starts."""
    loss: Annotated[str, alias("--loss-type")] = "dpo"
    """dpo, preferred_ft, unlikelihood, or your package.module:function of (PairLogps, p, beta)."""
    beta: float = 0.1
    """Strength of the pull towards the reference."""
    pairs: Literal["all", "best_worst"] = "all"
    """Which pairs a ranking of more than two responses gives."""
    label_smoothing: float = 0.0
    """Probability that a label is wrong (cDPO): p = 1 - this."""
    batch_size: Annotated[int, alias("--per-device-train-batch-size")] = 64
    """Pairs in an optimiser step."""
    learning_rate: Annotated[float, alias("--lr")] = 1e-6


def run(config: Config) -> Path:
    """Returns the run's folder, which then holds the model."""
    refuse_finished(config.out)
    loss_of = find_loss(config.loss)
    data = materialise(config.data, "rankings")
    comparisons = read_comparisons(data, skip_bad=config.skip_bad)
    tokenizer = load_tokenizer(config.model)
    model = prepare(load_policy(config.model, dtype=config.dtype, device=config.device), config)
    limit = min(config.max_length or 1 << 30, context_length(model))
    if config.skip_bad:
        comparisons = fitting(tokenizer, comparisons, limit)
    train, held = split_by_prompt(comparisons, lambda c: c.prompt, config.held_out)
    reference = (
        load_policy(config.reference, dtype=config.dtype, device=config.device)
        if config.reference
        else model
    )
    training, evaluation = (
        with_reference(
            reference, [p for c in part for p in _pairs(tokenizer, c, config, limit)], config
        )
        for part in (train or held, held or train)
    )
    del reference
    steps = step_count(len(training.p) // 2, config.batch_size, config.epochs)
    learner = LocalLearner(
        model, response_logps, optim(config, steps), micro_batch_tokens=config.micro_batch_tokens
    )

    def loss_fn(logp: Tensor, batch: Batch) -> Loss:
        assert isinstance(batch, Paired)
        x = pair_logps(logp, batch)
        return Loss(loss_of(x, batch.p[0::2], config.beta), rewards_of(x, config.beta))

    def evaluate() -> Metrics:
        x = pair_logps(learner.logprobs(evaluation), evaluation)
        metrics = {
            "loss": loss_of(x, evaluation.p[0::2], config.beta),
            **rewards_of(x, config.beta),
        }
        return {f"eval/{name}": float(value.mean()) for name, value in metrics.items()}

    def batch_of(pairs: list[int]) -> Paired:
        first = torch.tensor(pairs) * 2
        batch = take(training, torch.stack([first, first + 1], dim=1).flatten())
        # Numbered anew: a small data set may give the same pair twice in a batch.
        return replace(batch, group=torch.arange(len(pairs)).repeat_interleave(2))

    return fit(
        config,
        learner,
        map(batch_of, batches(len(training.p) // 2, config.batch_size, steps, config.seed)),
        loss_fn,
        tokenizer,
        steps=steps,
        per="group",
        evaluate=evaluate,
        show=("loss", "rewards/accuracies", "rewards/margins"),
    )


def find_loss(name: str):
    """A function of `losses.preference` by name, or the user's own as package.module:function."""
    if ":" in name:
        return load_function(name)
    if name not in LOSSES:
        raise UserError(
            f"--loss '{name}' is unknown{did_you_mean(name, LOSSES)}: {', '.join(LOSSES)}"
        )
    return getattr(losses, name)


def _pairs(
    tokenizer: PreTrainedTokenizerBase, c: Comparison, config: Config, limit: int
) -> list[Pair]:
    """The ordered pairs of a comparison; ties of a two-way comparison teach p = ½, others nothing new."""
    samples = encode_group(tokenizer, c.prompt, c.responses, max_length=limit)
    order = sorted(range(len(samples)), key=lambda k: c.ranking[k])
    p = 1 - config.label_smoothing
    if len(order) > 2 and config.pairs == "best_worst":
        order = [order[0], order[-1]]
    return [
        Pair(samples[i], samples[j], p if c.ranking[i] < c.ranking[j] else 0.5)
        for at, i in enumerate(order)
        for j in order[at + 1 :]
        if c.ranking[i] < c.ranking[j] or len(order) == 2
    ]


def with_reference(reference, pairs: Sequence[Pair], config: Config) -> Paired:
    """Pairs as rows 2i and 2i+1 with the reference's sums of log-probs."""
    if not pairs:
        raise UserError(f"{config.data} gives no pair of a better and a worse response")
    rows = [
        replace(sample, group=i)
        for i, pair in enumerate(pairs)
        for sample in (pair.chosen, pair.rejected)
    ]
    base = collate(rows)
    logp = predict(reference, response_logps, base, config.micro_batch_tokens)
    return Paired(
        **{f.name: getattr(base, f.name) for f in fields(base)},
        ref_sum=logp.sum(1),
        p=torch.tensor([pair.p for pair in pairs for _ in range(2)]),
    )


def pair_logps(logp: Tensor, batch: Paired) -> PairLogps:
    """Sums over response tokens (not means: β would lose its meaning), rows 2i against 2i+1."""
    sums, lengths = logp.sum(1), batch.mask.sum(1)
    return PairLogps(
        chosen=sums[0::2],
        rejected=sums[1::2],
        ref_chosen=batch.ref_sum[0::2],
        ref_rejected=batch.ref_sum[1::2],
        chosen_lengths=lengths[0::2],
        rejected_lengths=lengths[1::2],
    )


def rewards_of(x: PairLogps, beta: float) -> dict[str, Tensor]:
    """The implicit rewards β log π/π_ref, and the absolute log-probs: a margin can grow while both fall."""
    chosen = (beta * (x.chosen - x.ref_chosen)).detach()
    rejected = (beta * (x.rejected - x.ref_rejected)).detach()
    return {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/margins": chosen - rejected,
        "rewards/accuracies": (chosen > rejected).float() + 0.5 * (chosen == rejected).float(),
        "logps/chosen": x.chosen.detach(),
        "logps/rejected": x.rejected.detach(),
    }
