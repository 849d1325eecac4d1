"""The layers of the Llama family, their weights copied into the form that few rows at a time are fastest with.

The matrices that read the same input stand in one (gate and up; queries, keys and values, each head of keys and
values behind the queries that read it, so that attention takes all of them from where they are), in the order
that is read fastest (`products`). And the two numbers of a head that a rotary position turns together stand
beside each other, so that turning is one complex product, in place: queries and keys are permuted alike, which no
score notices. Of bfloat16 weights only the products are in bfloat16; the states between them, keys and
values, scores and norms are float32, which is both faster on a CPU and more exact.

The copies are as large as the model. They are made for one queue of requests and dropped with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from heedful.engine.products import Product, Reordered, available, product
from heedful.models.forward import plain_head
from heedful.models.head import unwatched
from heedful.models.process import rounded

LINEAR = (
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)
OF_A_BATCH = ("dynamic", "longrope")  # rotary positions that depend on how long the batch is
DTYPES = (torch.float32, torch.bfloat16)


def prepares(model: PreTrainedModel) -> bool:
    """Whether copies of these weights do all that the modules do, and oneDNN is there. The layers are known to
    be the family's own (`passes.suits`); adapters and other things in their linear layers are not."""
    base: Any = model.base_model
    if model.device.type != "cpu" or model.dtype not in DTYPES or plain_head(model) is None:
        return False
    linears = [layer.get_submodule(name) for layer in base.layers for name in LINEAR]
    modules = [m for layer in base.layers for m in layer.modules()]
    return (
        model.config.hidden_act == "silu"
        and base.rotary_emb.rope_type not in OF_A_BATCH
        and all(type(m) is nn.Linear for m in linears)
        and all(type(layer.mlp).__module__ == type(base).__module__ for layer in base.layers)
        and all(unwatched(m) for m in (*modules, base.norm, base.rotary_emb))
        and available()
    )


class _Norm:
    """RMS norm over the last dimension: x / √(mean x² + ε) · w in four small operations."""

    def __init__(self, module: Any, of_heads: Tensor | None = None):
        weight: Tensor = module.weight if of_heads is None else of_heads
        size = weight.shape[-1]
        self.weight = weight.detach().float() * size**0.5
        self.least = torch.tensor((size * module.variance_epsilon) ** 0.5)

    def __call__(self, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return (x / torch.hypot(length, self.least)).mul_(self.weight)


@dataclass(frozen=True)
class _Layer:
    before: _Norm
    qkv: Product
    qk: _Norm | None  # Qwen3's norm of each head
    out: Product
    between: _Norm
    gate_up: Product
    down: Product


class Prepared:
    """`passes.Stack` over copies of a model's weights as they are now."""

    dtype = torch.float32

    def __init__(self, model: PreTrainedModel):
        self.base: Any = model.base_model
        attention = self.base.layers[0].self_attn
        self.head_dim, self.scale = attention.head_dim, attention.scaling
        half = self.head_dim // 2
        # 0, half, 1, half + 1 …
        self.beside = torch.arange(self.head_dim).view(2, half).T.flatten()
        self.kv = attention.k_proj.out_features // self.head_dim
        self.group = attention.q_proj.out_features // self.head_dim // self.kv
        self.layers = [self._layer(layer) for layer in self.base.layers]
        self.norm = _Norm(self.base.norm)
        head = plain_head(model)
        assert head is not None
        self.head = product(head.weight, head.bias)
        products = [self.head, *(p for x in self.layers for p in (x.qkv, x.out, x.gate_up, x.down))]
        self.rounds = any(isinstance(p, Reordered) for p in products)
        self.turns = torch.zeros(0, half, dtype=torch.complex64)
        self.copied = [*self.base.layers.parameters(), *self.base.norm.parameters(), head.weight]
        self.versions = [p._version for p in self.copied]

    def rows(self, n: int) -> int:
        """Of rows for oneDNN there are to be few numbers, see `models.process.rounded`."""
        return rounded(n) if self.rounds else n

    def stale(self) -> bool:
        """Whether the model's weights have changed since they were copied."""
        return [p._version for p in self.copied] != self.versions

    def __call__(
        self, tokens: Tensor, positions: Tensor, attend: Any, last: Tensor | None
    ) -> Tensor:
        h = self.base.embed_tokens(tokens).float()
        turns = self._turns(positions)
        q = self.group  # a head of keys and values stands behind the queries that read it
        for i, layer in enumerate(self.layers):
            qkv = layer.qkv(layer.before(h)).view(len(h), self.kv, q + 2, self.head_dim)
            qk = qkv[:, :, :-1]
            if layer.qk is not None:
                qk.copy_(layer.qk(qk))
            torch.view_as_complex(qk.unflatten(-1, (-1, 2))).mul_(turns)
            a = attend(i, qkv[:, :, :q], qkv[:, :, q], qkv[:, :, q + 1], self.scale)
            if last is not None and i == len(self.layers) - 1:
                h, a = h[last], a[last]
            h = layer.out.plus(h, a)
            gate, up = layer.gate_up(layer.between(h)).chunk(2, dim=-1)
            h = layer.down.plus(h, nn.functional.silu(gate).mul_(up))
        return self.head(self.norm(h))

    def _turns(self, positions: Tensor) -> Tensor:
        """e^{iθ} of each position and pair, `[T, 1, 1, head_dim / 2]`, from a table that grows by doubling."""
        most = int(positions.max())
        if most >= len(self.turns):
            every = torch.arange(2 * most + 64)
            cos, sin = self.base.rotary_emb(torch.zeros(1), every[None])
            half = self.head_dim // 2
            self.turns = torch.complex(cos[0, :, :half], sin[0, :, :half])
        return self.turns[positions][:, None, None]

    def _layer(self, layer: Any) -> _Layer:
        at, mlp = layer.self_attn, layer.mlp
        qkv = (at.q_proj, at.k_proj, at.v_proj)
        biases = [m.bias for m in qkv if m.bias is not None]  # in this family all have them or none
        norm = None
        if hasattr(at, "q_norm"):
            queries, keys = (m.weight[self.beside] for m in (at.q_norm, at.k_norm))
            norm = _Norm(at.q_norm, torch.stack([*[queries] * self.group, keys]))
        return _Layer(
            before=_Norm(layer.input_layernorm),
            qkv=product(
                self._by_head(*(m.weight for m in qkv)), self._by_head(*biases) if biases else None
            ),
            qk=norm,
            out=product(at.o_proj.weight, at.o_proj.bias),
            between=_Norm(layer.post_attention_layernorm),
            gate_up=product(
                torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]),
                None
                if mlp.up_proj.bias is None
                else torch.cat([mlp.gate_proj.bias, mlp.up_proj.bias]).detach(),
            ),
            down=product(mlp.down_proj.weight, mlp.down_proj.bias),
        )

    def _by_head(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Rows of weights or biases: some queries, the keys and the values that they read, the next queries … Halves
        of queries and keys are interleaved."""
        q, k, v = (x.detach().unflatten(0, (self.kv, -1, self.head_dim)) for x in (q, k, v))
        return torch.cat([q[:, :, self.beside], k[:, :, self.beside], v], dim=1).flatten(0, 2)
