"""Context distillation: KL(teacher(· | context, prompt) ‖ model(· | prompt)) of every token of a response.

What a prompt does moves into the weights (Askell et al. 2021, §3.3; Snell, Klein & Zhong 2022). Whole distributions are
compared, so that a response teaches what else the teacher might have said. Without a context, and with a larger
teacher, it is knowledge distillation (Hinton, Vinyals & Dean 2015).

A row of the data is two rows of a batch, neighbours of one group: the response behind the prompt, and behind what the
teacher reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from heedful.configs.distil import Config, refuse_nonsense
from heedful.data.collate import collate
from heedful.data.context import in_context, read_context
from heedful.data.sources import stream_demonstrations
from heedful.data.tokens import encode_demonstration, encode_prompt
from heedful.doctor import preflight
from heedful.errors import UserError
from heedful.learner import load_learner
from heedful.learner.local import Loss
from heedful.models.adapters import reference_of
from heedful.models.limits import context_length
from heedful.models.load import load_tokenizer
from heedful.ranks import ALONE, Ranks
from heedful.training.forwards import distilled_forward
from heedful.training.kept import Judgment, Kept
from heedful.training.rows import parts_of, read
from heedful.training.supervised import (
    begun,
    epochs,
    evaluated,
    fit,
    optim,
    step_count,
    token_mean,
)
from heedful.training.trainable import loaded, named_reference
from heedful.types import Batch, Demonstration, Metrics, Sample


def run(config: Config, ranks: Ranks = ALONE) -> Path:
    """Returns the run's folder, which then holds the model."""
    refuse_nonsense(config)
    context = read_context("--context", config.context) if config.context else ""
    config = begun(config, "demonstrations", ranks)
    data = read(config, stream_demonstrations)
    tokenizer, model, longest = loaded(config)
    teacher = _teacher(config, model, tokenizer)
    limit = min(longest, context_length(teacher.model))
    room = limit - _tokens_of(tokenizer, context)
    if room < 2:
        raise UserError(f"--context {config.context}: no room for a prompt in {limit} tokens")

    def taught(item: Demonstration, samples: list[Sample]) -> list[Judgment]:
        """The response as the model will read it, and as the teacher does."""
        sample = samples[0]
        if context:
            told = replace(item, prompt=in_context(tokenizer, item.prompt, context))
            whole = encode_demonstration(tokenizer, told)
            response = sum(sample.mask)  # less than in the row, where it was cut
            end = whole.mask.index(True) + response
            sample = replace(
                sample,
                tokens=whole.tokens[:end],
                mask=whole.mask[:end],
                logprobs=whole.logprobs[:end],
            )
        return [Judgment((samples[0],), ()), Judgment((sample,), ())]

    rows = parts_of(config, data, stream_demonstrations, tokenizer, room, taught)
    preflight(tokenizer, model, rows.some, max_length=limit)
    steps = step_count(config, len(rows.train) // 2)
    learner = load_learner(
        model,
        distilled_forward(teacher),
        optim(config, steps),
        micro_batch_tokens=config.micro_batch_tokens,
        ranks=ranks,
    )

    def evaluate() -> Metrics:
        batches = (_batch(rows.held, part) for part in evaluated(range(len(rows.held) // 2)))
        return {"eval/kl": token_mean(learner, batches, lambda out: out["kl"])}

    def stream(start: int) -> Iterator[Batch]:
        chosen = epochs(config, len(rows.train) // 2, steps, start)
        return (_batch(rows.train, numbers) for numbers in chosen)

    return fit(
        config,
        learner,
        stream,
        lambda out, batch: Loss(out["kl"]),
        tokenizer,
        steps=steps,
        evaluate=evaluate,
        show=("loss", "eval/kl", "tokens_per_second"),
        notes=rows.notes,
    )


def _teacher(config: Config, model, tokenizer: PreTrainedTokenizerBase):
    """The model as it starts, or another one of the same tokens."""
    if config.teacher is None:
        return reference_of(model)
    if load_tokenizer(config.teacher).get_vocab() != tokenizer.get_vocab():
        raise UserError(
            f"--teacher {config.teacher} has other tokens than --model {config.model}: their distributions cannot be "
            "compared; `heedful sample` it and train sft on what it says"
        )
    return named_reference(config.teacher, config)


def _tokens_of(tokenizer: PreTrainedTokenizerBase, context: str) -> int:
    """How much longer a context makes a prompt, and a little more for turns that are put together otherwise."""
    if not context:
        return 0
    return len(encode_prompt(tokenizer, f"{context}\n\n")) + 16


def _batch(rows: Kept, numbers: Sequence[int]) -> Batch:
    """The rows of some responses and, behind each, its teacher's; only the former are learned."""
    samples = []
    for group, number in enumerate(numbers):
        for place in (2 * number, 2 * number + 1):
            samples.append(replace(rows[place].samples[0], group=group))
    batch = collate(samples)
    mask = batch.mask.clone()
    mask[1::2] = False
    return replace(batch, mask=mask)
