"""The two forward passes of sampling: prompts into the slots, then one token a row.

`Plain` asks any `transformers` decoder through its own `forward`. `Direct` knows how the layers of the Llama
family are put together and does without what one token a row has no use for: padding in the linear
layers, masks and rotary factors made anew in each layer, keys and values repeated for grouped queries,
and all positions but the last behind the last attention. It runs them on a stack of layers: the model's own
`Modules`, adapters and all; or when there is much to sample, on a CPU weights `Prepared` for it, and on a GPU
the modules `Graphed`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from heedful.engine.graphs import Graphed, graphs
from heedful.engine.modules import Modules
from heedful.engine.prepared import Prepared, prepares
from heedful.engine.slots import SlotCache
from heedful.fast.head import unwatched
from heedful.fast.llama import family_of
from heedful.models.forward import lm_head

FEW, SHORT = 4, 16  # below so many rows or tokens, weights are not copied to be read faster
LONG = 64  # below so many tokens, nothing is recorded to be started faster


class Passes(Protocol):
    """What the engine asks of a model; both give the logits of what comes next, one row a prompt or row."""

    def prefill(self, prompts: Sequence[Sequence[int]], source: Tensor, at: int) -> Tensor:
        """Fill the slots from `at` on; slot `at + i` continues prompt `source[i]`. → `[prompts, V]`"""
        ...

    def decode(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Append tokens `[n]` to the first n slots, which hold `lengths` `[n]` tokens. → `[n, V]`"""
        ...

    def refresh(self) -> None:
        """Called before each pass: what was copied from the model is copied again if it has changed."""
        ...


class Stack(Protocol):
    """The layers of a model and its head, on tokens that stand in one row."""

    def __call__(self, tokens: Tensor, positions: Tensor, attend: Any, last: Tensor) -> Tensor:
        """Tokens `[T]` → logits `[last, V]` of the tokens that `last` names."""
        ...

    def decode(self, tokens: Tensor, lengths: Tensor, cache: SlotCache) -> Tensor:
        """See `Passes.decode`."""
        ...

    def stale(self) -> bool:
        """Whether it holds copies of weights that have changed since."""
        ...


def passes(model: PreTrainedModel, cache: SlotCache, rows: int = 1, tokens: int = 1) -> Passes:
    """The fastest passes that are exact for the model as it is now, for so many rows of so many new tokens."""
    if not suits(model):
        return Plain(model, cache)
    if rows >= FEW and tokens >= SHORT and prepares(model):
        return Direct(model, cache, Prepared)
    if tokens >= LONG and graphs(model):
        return Direct(model, cache, lambda model: Graphed(Modules(model)))
    return Direct(model, cache, Modules)


def suits(model: PreTrainedModel) -> bool:
    """Whether `Direct` knows the model and nobody listens to, or replaced, what it does not call."""
    base: Any = model.base_model
    family = family_of(model)
    if family is None:
        return False
    attentions = [layer.self_attn for layer in base.layers]
    return (
        all(isinstance(layer, family["DecoderLayer"]) for layer in base.layers)
        and all(type(attention) is family["Attention"] for attention in attentions)
        and all(unwatched(module) for module in (base, *base.layers, *attentions))
        and 2 * base.rotary_emb.inv_freq.numel() == attentions[0].head_dim
    )


class Plain:
    """Any decoder, as `transformers` calls it."""

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


class Direct:
    """The Llama family, its layers called one by one on tokens that stand in one row, `[tokens, d]`."""

    def __init__(
        self, model: PreTrainedModel, cache: SlotCache, stack: Callable[[PreTrainedModel], Stack]
    ):
        self.model, self.cache, self.make = model, cache, stack
        self.stack = stack(model)

    def refresh(self) -> None:
        if self.stack.stale():
            self.stack = self.make(self.model)

    def prefill(self, prompts: Sequence[Sequence[int]], source: Tensor, at: int) -> Tensor:
        device = self.model.device
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        columns = torch.arange(int(lengths.max()))
        real = columns < lengths[:, None]
        tokens = torch.tensor([token for prompt in prompts for token in prompt])
        first = lengths.cumsum(0) - lengths
        # Where each cell of the padded prompts stands among the tokens. What a cell behind the end
        # holds does not matter: nothing attends to what comes after it.
        cells = (first[:, None] + columns).clamp_(max=len(tokens) - 1).to(device)
        where = real.flatten().nonzero().squeeze(1).to(device)
        last = torch.tensor([*accumulate(map(len, prompts))], device=device) - 1

        def attend(i: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
            q, k, v = (
                x.index_select(0, cells.flatten()).unflatten(0, cells.shape).transpose(1, 2)
                for x in (q.flatten(1, 2), k, v)
            )
            self.cache.insert(i, k, v, source, at)
            out = nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=True, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
            )
            return out.transpose(1, 2).flatten(2).flatten(0, 1).index_select(0, where)

        return self.stack(tokens.to(device), columns.expand_as(real)[real], attend, last)

    def decode(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return self.stack.decode(tokens, lengths, self.cache)
