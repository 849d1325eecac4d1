"""The score of a sequence by a reward model: as its own forward gives it, whatever its architecture.

A decoder's head is read at the last token, of batches that are computed as a policy's are. An encoder looks both ways
and has a head of its own (a pooler at the first token, a layer before the last): its whole forward is called. Which of
these a model needs is tried once on the model itself, with one score a row against its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from heedful import trial
from heedful.errors import UserError, one_line
from heedful.models.forward import hidden_states, scalar_head

log = logging.getLogger("heedful")

Scores = Callable[
    [PreTrainedModel, Tensor, Tensor], Tensor
]  # tokens `[B, T]`, lengths `[B]` → `[B]`, or `[B, K]` of a model with K outputs

_tried: WeakKeyDictionary[PreTrainedModel, Scores] = WeakKeyDictionary()


def sequence_scores(model: PreTrainedModel, tokens: Tensor, lengths: Tensor) -> Tensor:
    """The model's own score of each row: tokens `[B, T]`, lengths `[B]` → `[B]`, in float32; of K outputs `[B, K]`.

    Of a decoder at the last real token by length, never `[:, -1]` and never by looking for the pad id, which may be an
    ordinary token.
    """
    return scores_of(model)(model, tokens, lengths)


def token_values(model: PreTrainedModel, tokens: Tensor, lengths: Tensor) -> Tensor:
    """The scalar head's output after every token: tokens `[B, T]`, lengths `[B]` → `[B, T]`.

    What stands behind a row's end means nothing. `UserError` for a model that is not read at its last token.
    """
    if scores_of(model) is not at_last_token:
        raise UserError(
            f"{type(model).__name__} scores whole texts only; a critic is read at every token: start it from a decoder"
        )
    real = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
    hidden = hidden_states(model, tokens, real)
    values = scalar_head(model)(hidden.states).float().squeeze(-1)
    return values.index_select(0, hidden.index.flatten()).view(tokens.shape)


@torch.no_grad()
def scores_of(model: PreTrainedModel) -> Scores:
    """The fastest way that gives the model's own scores, tried once. `UserError` if it gives none."""
    if (way := _tried.get(model)) is None:
        way = _tried[model] = _first_exact(model)
    return way


def _first_exact(model: PreTrainedModel) -> Scores:
    name = f"{type(model).__name__} ({model.config.model_type})"
    own: Any = model
    try:
        plain = trial.plainly(model, lambda ids: trial.wide(own(input_ids=ids).logits[0]))
    except Exception as error:  # an architecture may say anything
        raise UserError(
            f"{name} gives no score to a row of tokens alone: {one_line(error)}"
        ) from error
    ids = pad_sequence(plain.rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in plain.rows], device=ids.device)
    for way in (at_last_token, masked):
        try:
            scores = way(model, ids, lengths)
        except Exception as error:
            log.debug("%s: %s: %s", name, way.__name__, error)
            continue
        gaps = [
            plain.gap(i, 0, score.reshape(-1))
            for i, score in enumerate(scores.to(plain.outputs[0].dtype))
        ]
        if not plain.sound or max(gaps) <= plain.bound:
            return way
    log.warning(
        "%s scores rows of a batch otherwise than alone: they are scored one by one, which is slower",
        name,
    )
    return one_by_one


def at_last_token(model: PreTrainedModel, tokens: Tensor, lengths: Tensor) -> Tensor:
    last = torch.arange(tokens.shape[1], device=tokens.device) == lengths[:, None] - 1
    return scalar_head(model)(hidden_states(model, tokens, last).at(last)).squeeze(-1).float()


def masked(model: Any, tokens: Tensor, lengths: Tensor) -> Tensor:
    real = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
    return model(input_ids=tokens, attention_mask=real.long()).logits.squeeze(-1).float()


def one_by_one(model: Any, tokens: Tensor, lengths: Tensor) -> Tensor:
    rows = zip(tokens, lengths.tolist(), strict=True)
    return torch.cat([model(input_ids=row[None, :n]).logits.squeeze(-1) for row, n in rows]).float()
