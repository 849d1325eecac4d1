"""The layers of the Llama family, their weights copied into the form that sampling on a CPU is fastest with.

The matrices that read the same input stand in one (gate and up; queries, keys and values, each head of keys and
values behind the queries that read it, so that attention takes all of them from where they are), in the order
that the kernel reads. Of bfloat16 weights only the copies are in bfloat16; states, keys and values, scores and norms
are float32, which is both faster on a CPU and more exact.

The copies are as large as the model. They are made for one queue of requests and dropped with it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PreTrainedModel

from heedful.fast import kernels
from heedful.fast.head import linear_head
from heedful.fast.kernels.sample import Decoder, Layer, Model, lanes, panels
from heedful.fast.layers import unwatched
from heedful.fast.llama import turns_of
from heedful.fast.passes import Direct

OF_A_BATCH = ("dynamic", "longrope")  # rotary positions that depend on how long the batch is
DTYPES = (torch.float32, torch.bfloat16)


def prepares(model: PreTrainedModel) -> bool:
    """Whether copies of these weights do all that the modules do, and there are kernels. The layers are known to
    be the family's own (`llama.knows`); adapters and other things in their linear layers are not."""
    base: Any = model.base_model
    head, factor = linear_head(model) or (None, 1)
    if model.device.type != "cpu" or model.dtype not in DTYPES or head is None or factor != 1:
        return False
    modules = [m for layer in base.layers for m in layer.modules()]
    linears = [m for layer in base.layers for m in (*_attention(layer), *_feed_forward(layer))]
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


def _attention(layer: Any) -> tuple[Any, ...]:
    at = layer.self_attn
    return at.q_proj, at.k_proj, at.v_proj, at.o_proj


def _feed_forward(layer: Any) -> tuple[Any, ...]:
    return layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj


class Prepared:
    """What decodes in place of `Direct.step`: copies of the model's weights as they are now."""

    kept = torch.float32  # the type of keys and values

    def __init__(self, direct: Direct):
        self.base: Any = direct.model.base_model
        self.slots = direct.slots
        at = self.base.layers[0].self_attn
        self.dim = at.head_dim
        self.kv = at.k_proj.out_features // self.dim
        self.group = at.q_proj.out_features // self.dim // self.kv
        head, _ = linear_head(direct.model) or (None, 1)
        assert head is not None
        self.decoder = Decoder(
            Model(
                embedding=self.base.embed_tokens.weight.detach(),
                head=panels(head.weight),
                norm=_floats(self.base.norm.weight),
                head_bias=_floats(head.bias),
                layers=[self._layer(layer) for layer in self.base.layers],
                kv=self.kv,
                group=self.group,
                dim=self.dim,
                vocabulary=len(head.weight),
                eps=self.base.norm.variance_epsilon,
                scale=at.scaling,
            )
        )
        self.turns = torch.zeros(0, self.dim)
        self.copied = [*self.base.layers.parameters(), *self.base.norm.parameters()]
        self.copied += head.parameters()
        self.versions = [p._version for p in self.copied]

    def stale(self) -> bool:
        """Whether the model's weights have changed since they were copied."""
        return [p._version for p in self.copied] != self.versions

    def __call__(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        if self.slots.capacity > len(self.turns):
            self.turns = turns_of(self.base, torch.arange(self.slots.capacity), torch.zeros(1))
        return self.decoder(tokens, lengths, self.turns, self.slots.filled())

    def _layer(self, layer: Any) -> Layer:
        (q, k, v, o), (gate, up, down) = _attention(layer), _feed_forward(layer)
        at, norms, ffn = layer.self_attn, None, down.in_features
        if hasattr(at, "q_norm"):
            norms = _floats(torch.stack([*[at.q_norm.weight] * self.group, at.k_norm.weight]))
        more = -ffn % lanes()  # columns of gate and up that are there to fill a vector
        gates = None
        if gate.bias is not None:
            both = pad(torch.stack([gate.bias, up.bias]), (0, more))
            gates = _floats(both.unflatten(1, (-1, lanes())).transpose(0, 1).flatten())
        return Layer(
            before=_floats(layer.input_layernorm.weight),
            between=_floats(layer.post_attention_layernorm.weight),
            heads=norms,
            qkv=panels(self._by_head(q.weight, k.weight, v.weight)),
            out=panels(o.weight),
            gate_up=panels(gate.weight, up.weight),
            down=panels(pad(down.weight, (0, more))),
            # In this family all three have a bias or none.
            qkv_bias=None if q.bias is None else _floats(self._by_head(q.bias, k.bias, v.bias)),
            out_bias=_floats(o.bias),
            gate_up_bias=gates,
            down_bias=_floats(down.bias),
        )

    def _by_head(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Rows of weights or biases: some queries, the keys and the values that they read, the next queries …"""
        q, k, v = (x.detach().unflatten(0, (self.kv, -1, self.dim)) for x in (q, k, v))
        return torch.cat([q, k, v], dim=1).flatten(0, 2)


def _floats(x: Any) -> Any:
    """A copy in float32 of a tensor, if there is one."""
    return None if x is None else x.detach().float().clone().contiguous()
