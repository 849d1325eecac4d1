"""The forward passes of sampling for the Llama family: prompts into the slots, then one token a row, or what was heard.

They do without what one token a row has no use for: padding in the linear layers, masks and rotary factors made anew in
each layer, keys and values repeated for grouped queries, and all positions but the last behind the last attention. They
call the model's own modules, adapters and all, or on a CPU, when there is much to sample, decode by a copy of the
weights (`Prepared`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from heedful.fast.attention import attend, rotated
from heedful.fast.head import few_numbers, lm_head
from heedful.fast.layout import lay_out
from heedful.fast.llama import walk, window


class Direct:
    """`engine.passes.Passes` into its slots (`engine.slots.SlotCache`): layers called one by one on tokens that stand
    in one row. What `decoder` makes decodes in their place."""

    def __init__(
        self, model: PreTrainedModel, slots: Any, decoder: Callable[[Direct], Any] | None = None
    ):
        self.model, self.slots, self.make = model, slots, decoder
        self.head, self.reads = lm_head(model), window(model)
        self.decoder = None if decoder is None else decoder(self)

    def refresh(self) -> None:
        if self.make is not None and self.decoder is not None and self.decoder.stale():
            self.decoder = self.make(self)

    def prefill(self, prompts: Sequence[Sequence[int]], source: Tensor, at: int) -> Tensor:
        lengths, device = torch.tensor([len(prompt) for prompt in prompts]), self.model.device
        tokens = pad_sequence([torch.tensor(prompt) for prompt in prompts], batch_first=True)
        last = (torch.arange(tokens.shape[1]) == lengths[:, None] - 1).to(device)
        layout = lay_out(tokens.to(device), last, spare=few_numbers(self.model))
        # In each place of a prompt; behind its end nobody looks.
        numbers = layout.number[layout.order.argsort()]
        dtype = getattr(self.decoder, "kv_dtype", self.model.dtype)

        def attending(i: int, attn: Any, qkv: Tensor, rope: Tensor) -> Tensor:
            q, k, v = rotated(qkv, rope, attn.config.num_attention_heads)
            keys, values = (x.to(dtype)[numbers].transpose(1, 2) for x in (k, v))
            self.slots.insert(i, keys, values, source, at)
            return attend(q, k, v, layout, attn.scaling).flatten(1)

        h = walk(self.model, layout.tokens, layout.positions, attending, layout.read)
        return self.head(h[layout.index[last]])

    def extend(self, tokens: Sequence[Sequence[int]], lengths: Tensor, at: int) -> Tensor:
        device, counts = self.model.device, torch.tensor([len(row) for row in tokens])
        row = torch.arange(len(tokens)).repeat_interleave(counts).to(device)
        place = torch.cat([torch.arange(len(row)) for row in tokens]).to(device)
        shape, slots = (len(tokens), int(counts.max())), self.slots
        slots.aim(lengths, first=at, count=shape[1])
        mask = slots.visible()

        def attending(i: int, attn: Any, qkv: Tensor, rope: Tensor) -> Tensor:
            q, k, v = (
                x.new_zeros(*shape, *x.shape[1:]).index_put((row, place), x).transpose(1, 2)
                for x in rotated(qkv, rope, attn.config.num_attention_heads)
            )
            keys, values = slots.slot_layers[i].update(k, v)
            out = scaled_dot_product_attention(
                q, keys, values, mask, scale=attn.scaling, enable_gqa=q.shape[1] != k.shape[1]
            )
            return out.transpose(1, 2)[row, place].flatten(1)

        flat = torch.tensor([token for row in tokens for token in row]).to(device)
        last = (counts.cumsum(0) - 1).to(device)
        return self.head(walk(self.model, flat, lengths[row] + place, attending, last))

    def decode(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        if self.decoder is not None:
            return self.decoder(tokens, lengths)
        attend_row = self.slots.attention(lengths, self.model.dtype)

        def attending(i: int, attn: Any, qkv: Tensor, rope: Tensor) -> Tensor:
            q, k, v = rotated(qkv, rope, attn.config.num_attention_heads)
            return attend_row(i, q.unflatten(1, (k.shape[1], -1)), k, v, attn.scaling)

        return self.head(walk(self.model, tokens, lengths, attending))
