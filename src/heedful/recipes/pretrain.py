"""Pre-training: next-token cross-entropy on raw text, packed, without attention across documents.

Starts from nothing (a BPE tokenizer trained on the text, random weights) unless `--model` names a
model to continue from. Texts and tokens wait on disk, and rows are packed as they are asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.configs.pretrain import Config
from heedful.data.collate import Row, in_rows, pack, shuffled
from heedful.data.sources import stream_texts
from heedful.data.tokens import eos_id, start_id
from heedful.fields import Data
from heedful.learner import load_learner
from heedful.models.forward import token_logps
from heedful.models.limits import context_length
from heedful.models.load import DTYPES, device_of, load_tokenizer
from heedful.models.new import new_model, train_tokenizer
from heedful.ranks import ALONE, Ranks
from heedful.run import check_out, hub
from heedful.training.kept import Chosen, KeptIds, KeptTexts, in_parts
from heedful.training.rows import read
from heedful.training.supervised import AT_ONCE, cross_entropy, fit, optim, token_mean
from heedful.training.trainable import base, prepare
from heedful.types import Batch, Metrics, Outputs, Packed


def run(config: Config, ranks: Ranks = ALONE) -> Path:
    """Returns the run's folder, which then holds the model."""
    ranks.on_first(check_out, config)
    ranks.on_first(hub.check, config.push_to_hub)
    texts, notes = _texts(config, config.data)
    held, held_notes = _texts(config, config.eval_data)
    if config.model is None:
        tokenizer = (
            load_tokenizer(config.tokenizer)
            if config.tokenizer
            else train_tokenizer(texts, config.vocab_size)
        )
        model = new_model(
            config.arch,
            tokenizer,
            hidden_size=config.hidden_size,
            layers=config.layers,
            heads=config.heads,
            context=config.context,
            seed=config.seed,
        )
        model.to(device_of(config.device), DTYPES[config.dtype])  # type: ignore[arg-type]
    else:
        tokenizer = load_tokenizer(config.model)
        model = base(config)
    prepare(model, config)
    length = min(config.pack_length, context_length(model))
    first = [start_id(tokenizer)] if config.start_token else []
    training, evaluated = (
        _documents(part, tokenizer, first, config.out.parent) for part in (texts, held)
    )
    if not config.eval_data:
        order = shuffled(len(training), config.seed, 0)
        number = max(1, int(len(order) * config.held_out)) if len(order) > 1 else 0
        evaluated = Chosen(training, order[:number])
        training = Chosen(training, order[number:])
    eos = eos_id(tokenizer)
    learner = load_learner(
        model,
        packed_logps,
        optim(config, config.steps, beta2=0.95),
        micro_batch_tokens=config.micro_batch_tokens,
        ranks=ranks,
    )

    def evaluate() -> Metrics:
        if not evaluated:
            return {}
        rows = in_parts(in_rows(evaluated, length, eos), AT_ONCE)
        held = (_packed(part, length, eos) for part in rows)
        return {"eval/loss": token_mean(learner, held, lambda out: -out.logp)}

    return fit(
        config,
        learner,
        lambda start: _batches(training, length, eos, config, start),
        cross_entropy,
        tokenizer,
        steps=config.steps,
        evaluate=evaluate,
        notes=[*notes, *held_notes],
    )


def _texts(config: Config, source: Data | None) -> tuple[KeptTexts, list[dict[str, Any]]]:
    """Documents, and what to record of those that were left out."""
    texts = KeptTexts(config.out.parent)
    if source is None:
        return texts, []
    data = read(config, stream_texts, source)
    texts.extend(data.fit(lambda text: text))
    return texts, [data.note] if data.note else []


def _documents(
    texts: KeptTexts, tokenizer: PreTrainedTokenizerBase, first: list[int], folder: Path
) -> Sequence[Sequence[int]]:
    """The texts in tokens, each behind the `first` ones."""
    documents = KeptIds(folder)
    for part in in_parts(texts, AT_ONCE):
        told = tokenizer(part, add_special_tokens=False)["input_ids"]
        documents.extend([*first, *ids] for ids in told)
    return documents


def packed_logps(model: PreTrainedModel, batch: Batch) -> Outputs:
    """`learner.Forward` of packed rows: documents in a row do not see each other."""
    assert isinstance(batch, Packed)
    logp = token_logps(model, batch.tokens, batch.mask, position_ids=batch.position_ids)
    return Outputs(logp=logp)


def _packed(part: Sequence[Row], length: int, eos: int) -> Packed:
    packed = pack(part, length, eos)
    rows, columns = packed.tokens.shape
    return Packed(
        tokens=packed.tokens,
        mask=packed.mask,
        lengths=torch.full((rows,), columns),
        old_logp=torch.zeros(rows, columns - 1),
        group=torch.arange(rows),
        reward=torch.zeros(rows),
        truncated=torch.zeros(rows, dtype=torch.bool),
        step_rewards=torch.zeros(rows, columns - 1),
        episode=torch.arange(rows),
        position_ids=packed.position_ids,
    )


def _batches(
    documents: Sequence[Sequence[int]], length: int, eos: int, config: Config, start: int
) -> Iterator[Packed]:
    """Batches `start` … `steps` − 1. Each pass packs the documents in another order, so that rows differ too."""
    number = 0
    for epoch in itertools.count():
        order = shuffled(len(documents), config.seed, epoch)
        rows = in_rows(Chosen(documents, order), length, eos)
        for part in in_parts(rows, config.batch_size):
            if number == config.steps:
                return
            if number >= start:
                yield _packed(part, length, eos)
            number += 1
