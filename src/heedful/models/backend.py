"""How a family of models is run, for the learner and for the engine: chosen here and nowhere else.

No way is trusted because a model's names fit it: each is tried once on the model itself, against plain `transformers`
(`heedful.trial`). What none of the fast ways suits is run row by row, and what reads ahead is refused.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from heedful import trial
from heedful.errors import UserError, one_line
from heedful.fast import llama
from heedful.fast.head import LinearLogps, few_numbers, with_spare
from heedful.fast.layout import documents, lay_out
from heedful.fast.packed import can_pack, packed_hidden
from heedful.fast.passes import Direct
from heedful.fast.prepared import Prepared, prepares

log = logging.getLogger("heedful")
FEW, SHORT = 4, 16  # below so many rows or tokens, weights are not copied to be read faster


@dataclass(frozen=True)
class Hidden:
    """Last hidden states `[N, d]`, in no order, and which of them each needed place of a batch `[B, T]` has."""

    states: Tensor
    index: Tensor

    def at(self, mask: Tensor) -> Tensor:
        """The states where the mask `[B, T]` is True, in the batch's order."""
        return self.states.index_select(0, self.index[mask])


class Backend(Protocol):
    """All that learner and engine ask of a model. Batches are right-padded; a mask says what is needed of them."""

    def hidden(self, tokens: Tensor, needed: Tensor, positions: Tensor | None = None) -> Hidden:
        """Hidden states of tokens `[B, T]` where they are needed `[B, T]`; positions `[B, T]` start again at
        0 in each document of a row that holds several."""
        ...

    def logps(self, h: Tensor, head: nn.Linear, y: Tensor, factor: float) -> Tensor:
        """log softmax(factor · head(h))[y]: h `[N, d]`, y `[N]` → `[N]`, in float32."""
        ...

    def passes(self, slots: Any, rows: int = 1, tokens: int = 1) -> Direct | None:
        """What samples from the model as it is now, fastest for so many rows of so many new tokens; None where calling
        the model is all that there is."""
        ...


def backend_of(model: PreTrainedModel) -> Backend:
    """The fastest that gives the model's own numbers. `UserError` if there is none."""
    if can_pack(model):
        return Llama(model) if llama.family_of(model) else Packed(model)
    if (kind := _tried.get(model)) is None:
        kind = _tried[model] = _unpacked(model)
    return kind(model)


_tried: WeakKeyDictionary[PreTrainedModel, type[Plain]] = WeakKeyDictionary()


@torch.no_grad()
def _unpacked(model: PreTrainedModel) -> type[Plain]:
    """Padded rows, or each row by itself where padding changes something."""
    name = f"{type(model).__name__} ({model.config.model_type})"
    try:
        plain = trial.plainly(model, trial.states(model))
    except Exception as error:  # an architecture may say anything
        raise UserError(
            f"{name} cannot be run on a row of tokens alone: {one_line(error)}"
        ) from error
    if not plain.sound:
        return Plain  # there is nothing to compare with: others say that its numbers are none
    if not plain.causal:
        raise UserError(
            f"{name} looks at what comes later: it is no causal language model, and its log-probs mean nothing"
        )
    try:
        ids = pad_sequence(plain.rows, batch_first=True)
        padded = _states(model, ids)
        gaps = [plain.gap(i, 0, padded[i, : len(row)]) for i, row in enumerate(plain.rows)]
        if max(gaps) <= plain.bound:
            return Plain
    except Exception as error:
        log.debug("%s on padded rows: %s", name, error)
    log.warning(
        "%s gives other numbers on padded rows: it is run row by row, which is slower", name
    )
    return Rows


def _states(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Last hidden states `[B, T, d]` of tokens `[B, T]`, as `transformers` calls the model."""
    return trial.body(model)(input_ids=ids, use_cache=False).last_hidden_state


@dataclass(frozen=True)
class Plain:
    """Any decoder on padded rows, as `transformers` calls it: causal attention needs no mask for what stands behind."""

    model: PreTrainedModel

    def hidden(self, tokens: Tensor, needed: Tensor, positions: Tensor | None = None) -> Hidden:
        # Documents of one row become rows: not every architecture can keep them apart.
        table, real = documents(needed, positions)
        states = self._run(tokens.flatten()[table], real).flatten(0, 1)
        index = torch.zeros_like(tokens).flatten()
        places = torch.arange(table.numel(), device=tokens.device).view(table.shape)
        index[table[real]] = places[real]
        return Hidden(states, index.view(tokens.shape))

    def _run(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Hidden states `[B, T, d]`; what they are where a row is not real `[B, T]` means nothing."""
        return _states(self.model, tokens)

    def logps(self, h: Tensor, head: nn.Linear, y: Tensor, factor: float) -> Tensor:
        rows, targets = with_spare(self.model, h, y)
        backward = torch.is_grad_enabled()
        found = LinearLogps.apply(rows, head.weight, head.bias, targets, factor, backward)
        return found[: len(y)]

    def passes(self, slots: Any, rows: int = 1, tokens: int = 1) -> Direct | None:
        return None


@dataclass(frozen=True)
class Rows(Plain):
    """Any decoder, a row at a time and up to its end."""

    def _run(self, tokens: Tensor, real: Tensor) -> Tensor:
        lengths = real.sum(1).tolist()
        rows = [
            _states(self.model, row[None, :n])[0] for row, n in zip(tokens, lengths, strict=True)
        ]
        return pad_sequence(rows, batch_first=True)


@dataclass(frozen=True)
class Packed(Plain):
    """A decoder that passed `can_pack`: each distinct token that something needed depends on is computed once."""

    def hidden(self, tokens: Tensor, needed: Tensor, positions: Tensor | None = None) -> Hidden:
        layout = lay_out(tokens, needed, positions, spare=few_numbers(self.model))
        run = llama.hidden if llama.learns(self.model, layout) else packed_hidden
        return Hidden(run(self.model, layout), layout.index)


@dataclass(frozen=True)
class Llama(Packed):
    """Llama, Mistral, Qwen2 and Qwen3: gone through layer by layer where all but their linear layers is their own."""

    def passes(self, slots: Any, rows: int = 1, tokens: int = 1) -> Direct | None:
        if not llama.knows(self.model):
            return None
        if rows >= FEW and tokens >= SHORT and prepares(self.model):
            return Direct(self.model, slots, Prepared)
        return Direct(self.model, slots)
