"""The forward passes of sampling as `transformers` has them: any decoder, through its own `forward`."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from heedful.engine.masks import rows_at
from heedful.engine.slots import SlotCache
from heedful.fast.head import lm_head
from heedful.models.backend import backend_of
from heedful.trial import body


class Passes(Protocol):
    """What the engine asks of a model; all give the logits of what comes next, one row a prompt or row.
    They are exact for rows of up to `reads` tokens."""

    reads: int

    def prefill(self, prompts: Sequence[Sequence[int]], source: Tensor, at: int) -> Tensor:
        """Fill the slots from `at` on; slot `at + i` continues prompt `source[i]`. → `[prompts, V]`"""
        ...

    def extend(self, tokens: Sequence[Sequence[int]], lengths: Tensor, at: int) -> Tensor:
        """Append several tokens to each of the slots from `at` on, which hold `lengths` `[rows]`. → `[rows, V]`"""
        ...

    def decode(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Append tokens `[n]` to the first n slots, which hold `lengths` `[n]` tokens. → `[n, V]`"""
        ...

    def refresh(self) -> None:
        """Called before each pass: what was copied from the model is copied again if it has changed."""
        ...


def passes(model: PreTrainedModel, cache: SlotCache, rows: int = 1, tokens: int = 1) -> Passes:
    """The fastest passes that are exact for the model as it is now, for so many rows of so many new tokens."""
    return backend_of(model).passes(cache, rows, tokens) or Plain(model, cache)


class Plain:
    """`Passes` of any decoder that keeps nothing but keys and values."""

    reads = 1 << 30  # tokens up to which it is exact

    def __init__(self, model: PreTrainedModel, cache: SlotCache):
        self.model, self.cache, self.head = model, cache, lm_head(model)
        # Those without take them from the mask, as alibi does.
        self.positions = "position_ids" in signature(body(model).forward).parameters

    def refresh(self) -> None:
        pass

    def prefill(self, prompts: Sequence[Sequence[int]], source: Tensor, at: int) -> Tensor:
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        padded = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.long)
        for row, prompt in zip(padded, prompts, strict=True):
            row[: len(prompt)] = torch.tensor(prompt)
        filled = DynamicCache()
        out = body(self.model)(
            input_ids=padded.to(self.model.device), past_key_values=filled, use_cache=True
        )
        for i, layer in enumerate(filled.layers):
            assert isinstance(layer, DynamicLayer)
            assert layer.keys is not None and layer.values is not None
            self.cache.insert(i, layer.keys, layer.values, source, at)
        return self.head(out.last_hidden_state[torch.arange(len(prompts)), lengths - 1])

    def extend(self, tokens: Sequence[Sequence[int]], lengths: Tensor, at: int) -> Tensor:
        counts = torch.tensor([len(row) for row in tokens])
        padded = pad_sequence([torch.tensor(row) for row in tokens], batch_first=True)
        self.cache.aim(lengths, first=at, count=padded.shape[1])
        # Behind a row's end nobody looks, and some models have no such positions.
        last = int((lengths.cpu() + counts).max()) - 1
        states = self._read(padded.to(self.model.device), self.cache.write_at.clamp(max=last))
        return self.head(states[torch.arange(len(tokens)), counts - 1])

    def decode(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        self.cache.aim(lengths)
        return self.head(self._read(tokens[:, None], lengths[:, None])[:, -1])

    def _read(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Last hidden states of the tokens `[n, count]` that `aim` has made room for."""
        with rows_at(self.cache.write_at):
            out = body(self.model)(
                input_ids=ids,
                attention_mask=self.cache.filled_cells(),
                past_key_values=self.cache,
                use_cache=True,
                **({"position_ids": positions} if self.positions else {}),
            )
        return out.last_hidden_state
