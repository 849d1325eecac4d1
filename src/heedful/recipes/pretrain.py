"""Pre-training: next-token cross-entropy on raw text, packed, without attention across documents.

Starts from nothing (a BPE tokenizer trained on the text, random weights) unless `--model` names a
model to continue from. What is left out: sharded corpora; the text must fit in memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from heedful.configs.pretrain import Config
from heedful.data.collate import pack, shuffled, take
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
from heedful.training.rows import read
from heedful.training.supervised import cross_entropy, fit, optim
from heedful.training.trainable import base, prepare
from heedful.types import Batch, Metrics, Outputs, Packed


def run(config: Config, ranks: Ranks = ALONE) -> Path:
    """Returns the run's folder, which then holds the model."""
    ranks.on_first(check_out, config)
    ranks.on_first(hub.check, config.push_to_hub)
    texts, notes = _texts(config, config.data)
    held, held_notes = _texts(config, config.eval_data) if config.eval_data else ([], [])
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
    documents, kept = (
        [first + ids for ids in tokenizer(part, add_special_tokens=False)["input_ids"]]
        if part
        else []
        for part in (texts, held)
    )
    if not config.eval_data:
        order = shuffled(len(documents), config.seed, 0)
        number = max(1, int(len(documents) * config.held_out)) if len(documents) > 1 else 0
        kept = [documents[i] for i in order[:number]]
        documents = [documents[i] for i in order[number:]]
    training, eos = documents, eos_id(tokenizer)
    evaluation = _rows(kept, length, eos) if kept else None
    learner = load_learner(
        model,
        packed_logps,
        optim(config, config.steps, beta2=0.95),
        micro_batch_tokens=config.micro_batch_tokens,
        ranks=ranks,
    )

    def evaluate() -> Metrics:
        if evaluation is None:
            return {}
        logp = learner.outputs(evaluation).logp
        return {"eval/loss": float(-logp.sum() / evaluation.mask.sum())}

    return fit(
        config,
        learner,
        lambda start: itertools.islice(_batches(training, length, eos, config), start, None),
        cross_entropy,
        tokenizer,
        steps=config.steps,
        evaluate=evaluate,
        notes=[*notes, *held_notes],
    )


def _texts(config: Config, source: Data) -> tuple[list[str], list[dict[str, Any]]]:
    """Documents, and what to record of those that were left out."""
    data = read(config, stream_texts, source)
    texts = list(data.fit(lambda text: text))
    return texts, [data.note] if data.note else []


def packed_logps(model: PreTrainedModel, batch: Batch) -> Outputs:
    """`learner.Forward` of packed rows: documents in a row do not see each other."""
    assert isinstance(batch, Packed)
    logp = token_logps(model, batch.tokens, batch.mask, position_ids=batch.position_ids)
    return Outputs(logp=logp)


def _rows(documents: list[list[int]], length: int, eos: int) -> Packed:
    packed = pack(documents, length, eos)
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


def _batches(documents: list[list[int]], length: int, eos: int, config: Config) -> Iterator[Packed]:
    """Each pass packs the documents in another order, so that rows differ too."""
    done = 0
    for epoch in itertools.count():
        order = shuffled(len(documents), config.seed, epoch)
        rows = _rows([documents[i] for i in order], length, eos)
        for start in range(0, len(rows.tokens), config.batch_size):
            if done == config.steps:
                return
            yield take(rows, slice(start, start + config.batch_size))
            done += 1
