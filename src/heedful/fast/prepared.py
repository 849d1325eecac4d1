"""The layers of the Llama family, their weights copied into the form that sampling on a CPU is fastest with.

Of bfloat16 weights only the copies are in bfloat16; states, keys and values, scores and norms are float32, which is
faster on a CPU and more exact. Copies are as large as the model, made for one queue of requests, dropped with it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PreTrainedModel

from heedful.fast import kernels
from heedful.fast.head import linear_head
from heedful.fast.kernels.sample import Decoder, interleaved, lanes, panels
from heedful.fast.layers import unwatched
from heedful.fast.llama import rope_of
from heedful.fast.passes import Direct

LINEAR = [
    *(f"self_attn.{x}_proj" for x in "qkvo"),
    *(f"mlp.{x}_proj" for x in ("gate", "up", "down")),
]
OF_A_BATCH = ("dynamic", "longrope")  # rotary positions that depend on how long the batch is


def prepares(model: PreTrainedModel) -> bool:
    """Whether copies of these weights do all that the modules do, and there are kernels. The layers are known to
    be the family's own (`llama.knows`); adapters and other things in their linear layers are not."""
    base: Any = model.base_model
    head, factor = linear_head(model) or (None, 1)
    if (
        model.device.type != "cpu"
        or model.dtype not in (torch.float32, torch.bfloat16)
        or head is None
        or factor != 1
    ):
        return False
    modules = [m for layer in base.layers for m in layer.modules()]
    linears = [layer.get_submodule(name) for layer in base.layers for name in LINEAR]
    return (
        model.config.hidden_act == "silu"
        and base.rotary_emb.rope_type not in OF_A_BATCH
        and all(type(m) is nn.Linear for m in linears)
        and all(type(layer.mlp).__module__ == type(base).__module__ for layer in base.layers)
        and type(base.embed_tokens) is nn.Embedding
        and base.embed_tokens.weight.is_contiguous()
        and len(head.weight) <= len(base.embed_tokens.weight)
        and all(m.weight.dtype == model.dtype for m in (base.embed_tokens, head, *linears))
        and all(unwatched(m) for m in (*modules, base.embed_tokens, base.norm, base.rotary_emb))
        and kernels.available()
    )


class Prepared:
    """What decodes in place of the modules: copies of the model's weights as they are now."""

    kv_dtype = torch.float32  # the type of keys and values

    def __init__(self, direct: Direct):
        self.base: Any = direct.model.base_model
        self.slots = direct.slots
        attn = self.base.layers[0].self_attn
        self.dim, self.kv = attn.head_dim, attn.k_proj.out_features // attn.head_dim
        self.group = attn.q_proj.out_features // self.dim // self.kv
        shape = {"kv": self.kv, "group": self.group, "dim": self.dim}
        head, _ = linear_head(direct.model) or (None, 1)
        assert head is not None
        model = {
            "embedding": self.base.embed_tokens.weight.detach(),
            "norm": _floats(self.base.norm.weight),
            **_matrix("head", head),
        }
        self.decoder = Decoder(
            model,
            [self._layer(layer) for layer in self.base.layers],
            scale=attn.scaling,
            eps=self.base.norm.variance_epsilon,
            vocabulary=len(head.weight),
            **shape,
        )
        self.rope = torch.zeros(0, self.dim)
        self.copied = [*self.base.layers.parameters(), *self.base.norm.parameters()]
        self.copied += head.parameters()
        self.versions = [p._version for p in self.copied]

    def stale(self) -> bool:
        """Whether the model's weights have changed since they were copied."""
        return [p._version for p in self.copied] != self.versions

    def __call__(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        if self.slots.capacity > len(self.rope):
            self.rope = rope_of(self.base, torch.arange(self.slots.capacity), torch.zeros(1))
        return self.decoder(tokens, lengths, self.rope, self.slots.filled())

    def _layer(self, layer: Any) -> dict[str, Tensor | None]:
        attn, mlp, norms = layer.self_attn, layer.mlp, None
        if hasattr(attn, "q_norm"):
            norms = _floats(torch.stack([*[attn.q_norm.weight] * self.group, attn.k_norm.weight]))
        return {
            "before": _floats(layer.input_layernorm.weight),
            "between": _floats(layer.post_attention_layernorm.weight),
            "heads": norms,
            **_matrix("qkv", attn.q_proj, attn.k_proj, attn.v_proj, rows=self._by_head),
            **_matrix("out", attn.o_proj),
            **_matrix("gate_up", mlp.gate_proj, mlp.up_proj, rows=interleaved),
            **_matrix("down", mlp.down_proj, columns=lanes()),
        }

    def _by_head(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Rows of weights or biases: some queries, the keys and the values that they read, the next queries …"""
        q, k, v = (x.unflatten(0, (self.kv, -1, self.dim)) for x in (q, k, v))
        return torch.cat([q, k, v], dim=1).flatten(0, 2)


def _matrix(name: str, *linears: nn.Linear, rows: Any = None, columns: int = 1) -> dict[str, Any]:
    """Copies of weights and biases (in this family of all or none), their rows put in order, and with some columns of
    zeros, so that there is a multiple."""
    rows, biases = rows or (lambda x: x), [m.bias for m in linears if m.bias is not None]
    weight = rows(*(m.weight.detach() for m in linears))
    weight = pad(weight, (0, -weight.shape[1] % columns))
    return {name: panels(weight), f"{name}_bias": _floats(rows(*biases)) if biases else None}


def _floats(x: Tensor) -> Tensor:
    """A copy in float32."""
    return x.detach().to(torch.float32, copy=True).contiguous()
