"""The layers of the Llama family one after another, as they are: their own linear layers and norms, and adapters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from heedful.engine.slots import SlotCache
from heedful.models.forward import lm_head


class Modules:
    """`passes.Stack` of the model's own modules. No weight is copied: an update or an adapter takes effect at once."""

    def __init__(self, model: PreTrainedModel):
        self.base: Any = model.base_model
        self.dtype, self.head = model.dtype, lm_head(model)

    def stale(self) -> bool:
        return False

    def decode(self, tokens: Tensor, lengths: Tensor, cache: SlotCache) -> Tensor:
        return self(tokens, lengths, cache.attention(lengths, self.dtype), None)

    def __call__(
        self, tokens: Tensor, positions: Tensor, attend: Any, last: Tensor | None
    ) -> Tensor:
        base = self.base
        h = base.embed_tokens(tokens)
        cos, sin = base.rotary_emb(h, positions.to(h.device)[None])
        half = cos.shape[-1] // 2
        cos, sin = cos[0, :, None], torch.cat([-sin[..., :half], sin[..., half:]], -1)[0, :, None]
        for i, layer in enumerate(base.layers):
            at = layer.self_attn
            x = layer.input_layernorm(h)
            heads = (len(h), -1, at.head_dim)
            q, k, v = at.q_proj(x).view(heads), at.k_proj(x).view(heads), at.v_proj(x).view(heads)
            if hasattr(at, "q_norm"):
                q, k = at.q_norm(q), at.k_norm(k)
            # rotate_half(x)·sin is x with its halves swapped, times sin with its first half negated.
            q = torch.addcmul(q * cos, q.roll(half, -1), sin)
            k = torch.addcmul(k * cos, k.roll(half, -1), sin)
            a = attend(i, q.unflatten(1, (k.shape[1], -1)), k, v, at.scaling)
            if last is not None and i == len(base.layers) - 1:
                h, a = h[last], a[last]
            h = h + at.o_proj(a)
            h = h + layer.mlp(layer.post_attention_layernorm(h))
        return self.head(base.norm(h))
