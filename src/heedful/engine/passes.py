"""The forward passes of sampling as `transformers` has them: any decoder, through its own `forward`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from heedful.engine.slots import SlotCache
from heedful.fast.backend import backend_of
from heedful.fast.head import lm_head
from heedful.fast.passes import Passes


def passes(model: PreTrainedModel, cache: SlotCache, rows: int = 1, tokens: int = 1) -> Passes:
    """The fastest passes that are exact for the model as it is now, for so many rows of so many new tokens."""
    return backend_of(model).passes(cache, rows, tokens) or Plain(model, cache)


class Plain:
    """`Passes` of any decoder."""

    def __init__(self, model: PreTrainedModel, cache: SlotCache):
        self.model, self.cache, self.head = model, cache, lm_head(model)

    def refresh(self) -> None:
        pass

    def prefill(self, prompts: Sequence[Sequence[int]], source: Tensor, at: int) -> Tensor:
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        padded = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.long)
        for row, prompt in zip(padded, prompts, strict=True):
            row[: len(prompt)] = torch.tensor(prompt)
        filled = DynamicCache()
        out = self.model.base_model(
            input_ids=padded.to(self.model.device), past_key_values=filled, use_cache=True
        )
        for i, layer in enumerate(filled.layers):
            assert isinstance(layer, DynamicLayer)
            assert layer.keys is not None and layer.values is not None
            self.cache.insert(i, layer.keys, layer.values, source, at)
        return self.head(out.last_hidden_state[torch.arange(len(prompts)), lengths - 1])

    def decode(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        self.cache.aim(lengths)
        out = self.model.base_model(
            input_ids=tokens[:, None],
            attention_mask=self.cache.visible(),
            position_ids=lengths[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        return self.head(out.last_hidden_state[:, -1])
