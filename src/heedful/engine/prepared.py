"""The layers of the Llama family, their weights copied into the form that sampling on a CPU is fastest with.

The matrices that read the same input stand in one (gate and up; queries, keys and values, each head of keys and
values behind the queries that read it, so that attention takes all of them from where they are), in the order
that `kernels.sample.product` reads. Of bfloat16 weights only the copies are in bfloat16; states, keys and values,
scores and norms are float32, which is both faster on a CPU and more exact.

The copies are as large as the model. They are made for one queue of requests and dropped with it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from heedful.engine.slots import SlotCache
from heedful.fast import kernels
from heedful.fast.head import unwatched
from heedful.fast.kernels.sample import Decoder, Layer, Matrix, Model, Norm, product, turn
from heedful.fast.llama import turns
from heedful.models.forward import plain_head

LINEAR = (
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)
OF_A_BATCH = ("dynamic", "longrope")  # rotary positions that depend on how long the batch is
DTYPES = (torch.float32, torch.bfloat16)


def prepares(model: PreTrainedModel) -> bool:
    """Whether copies of these weights do all that the modules do, and there are kernels. The layers are known to
    be the family's own (`passes.suits`); adapters and other things in their linear layers are not."""
    base: Any = model.base_model
    head = plain_head(model)
    if model.device.type != "cpu" or model.dtype not in DTYPES or head is None:
        return False
    linears = [layer.get_submodule(name) for layer in base.layers for name in LINEAR]
    modules = [m for layer in base.layers for m in layer.modules()]
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
    """`passes.Stack` over copies of a model's weights as they are now."""

    def __init__(self, model: PreTrainedModel):
        self.base: Any = model.base_model
        attention = self.base.layers[0].self_attn
        self.head_dim, self.scale = attention.head_dim, attention.scaling
        self.kv = attention.k_proj.out_features // self.head_dim
        self.group = attention.q_proj.out_features // self.head_dim // self.kv
        self.layers = [self._layer(layer) for layer in self.base.layers]
        head = plain_head(model)
        assert head is not None
        self.norm, self.head = Norm.of(self.base.norm), Matrix.of(head.weight, head.bias)
        embedding = self.base.embed_tokens.weight.detach()
        shape = (self.kv, self.group, self.head_dim, self.scale)
        self.decoder = Decoder(Model(embedding, self.layers, self.norm, self.head, *shape))
        self.turns = torch.zeros(0, self.head_dim)
        self.copied = [
            *self.base.layers.parameters(),
            *self.base.norm.parameters(),
            *head.parameters(),
        ]
        self.versions = [p._version for p in self.copied]

    def stale(self) -> bool:
        """Whether the model's weights have changed since they were copied."""
        return [p._version for p in self.copied] != self.versions

    def __call__(self, tokens: Tensor, positions: Tensor, attend: Any, last: Tensor) -> Tensor:
        h = self.base.embed_tokens(tokens).float()
        table = self._turns(int(positions.max()) + 1)
        q = self.group  # a head of keys and values stands behind the queries that read it
        for i, layer in enumerate(self.layers):
            qkv = product(h, layer.qkv, norm=layer.before).view(len(h), self.kv, q + 2, -1)
            turn(qkv, positions, table, q + 1, layer.heads)
            a = attend(i, qkv[:, :, :q], qkv[:, :, q], qkv[:, :, q + 1], self.scale)
            if i == len(self.layers) - 1:
                h, a = h[last], a[last]
            product(a, layer.out, to=h)
            gated = product(h, layer.gate_up, norm=layer.between)
            product(gated, layer.down, to=h)
        return product(h, self.head, norm=self.norm)

    def decode(self, tokens: Tensor, lengths: Tensor, cache: SlotCache) -> Tensor:
        return self.decoder(tokens, lengths, self._turns(cache.capacity), cache.filled())

    def _turns(self, number: int) -> Tensor:
        """Cosines, then sines of the angles of so many positions or more, `[≥ number, head_dim]`."""
        if number > len(self.turns):
            self.turns = turns(self.base, torch.arange(number), torch.zeros(1))
        return self.turns

    def _layer(self, layer: Any) -> Layer:
        at, mlp = layer.self_attn, layer.mlp
        qkv = (at.q_proj, at.k_proj, at.v_proj)
        biases = [m.bias for m in qkv if m.bias is not None]  # in this family all have them or none
        heads = None
        if hasattr(at, "q_norm"):
            queries, keys = Norm.of(at.q_norm).weight, Norm.of(at.k_norm).weight
            weight = torch.stack([*[queries] * self.group, keys])
            heads = Norm(weight, at.q_norm.variance_epsilon)
        gate_up = Matrix.of_gate(mlp.gate_proj, mlp.up_proj)
        padded = gate_up.outs // 2 - mlp.down_proj.in_features
        return Layer(
            before=Norm.of(layer.input_layernorm),
            qkv=Matrix.of(
                self._by_head(*(m.weight for m in qkv)), self._by_head(*biases) if biases else None
            ),
            heads=heads,
            out=Matrix.of(at.o_proj.weight, at.o_proj.bias),
            between=Norm.of(layer.post_attention_layernorm),
            gate_up=gate_up,
            down=Matrix.of(
                nn.functional.pad(mlp.down_proj.weight, (0, padded)), mlp.down_proj.bias
            ),
        )

    def _by_head(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Rows of weights or biases: some queries, the keys and the values that they read, the next queries …"""
        q, k, v = (x.detach().unflatten(0, (self.kv, -1, self.head_dim)) for x in (q, k, v))
        return torch.cat([q, k, v], dim=1).flatten(0, 2)
