"""The layers of the Llama family, their weights copied into the form that few rows at a time are fastest with.

One token a row reads each weight once and does little with it, and MKL's product packs the whole matrix anew at
every call. So the matrices that read the same input stand in one (queries, keys and values; gate and up), in
the order in which oneDNN's kernels read them. And the two numbers of a head that a rotary position turns
together stand beside each other, so that turning is one complex product: queries and keys are permuted alike,
which no score notices. Of bfloat16 weights only the products are in bfloat16; the states between them, keys and
values, scores and norms are float32, which is both faster on a CPU and more exact.

The copies are as large as the model. They are made for one queue of requests and dropped with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from heedful.engine.slots import rounded
from heedful.models.forward import plain_head
from heedful.models.head import unwatched

LINEAR = (
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)
OF_A_BATCH = ("dynamic", "longrope")  # rotary positions that depend on how long the batch is
DTYPES = (torch.float32, torch.bfloat16)
ROWS = 32  # a hint: the order that suits so many rows suits fewer and more


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
        and _available()
    )


@cache
def _available() -> bool:
    """Whether PyTorch was built with the oneDNN product and it multiplies."""
    g = torch.Generator().manual_seed(0)
    x, w = torch.randn(3, 16, generator=g), torch.randn(32, 16, generator=g)
    try:
        return torch.allclose(_Product(w, None)(x), x @ w.T, atol=1e-4)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False


class _Product:
    """x `[n, in]` → x Wᵀ + b `[n, out]`, both float32, of a matrix in oneDNN's order."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), ROWS)
        self.bias, self.dtype = bias, weight.dtype
        self.multiply = torch.ops.mkldnn._linear_pointwise.default

    def __call__(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        return self.multiply(x, self.weight, self.bias, "none", [], "").float()


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
    qkv: _Product
    qk: _Norm | None  # Qwen3's norm of each head
    out: _Product
    between: _Norm
    gate_up: _Product
    down: _Product


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
        self.heads = attention.q_proj.out_features // self.head_dim
        self.turned = self.heads + attention.k_proj.out_features // self.head_dim
        self.layers = [self._layer(layer) for layer in self.base.layers]
        self.norm = _Norm(self.base.norm)
        head = plain_head(model)
        assert head is not None
        self.head = _Product(head.weight, head.bias)
        self.turns = torch.zeros(0, half, dtype=torch.complex64)
        self.copied = [*self.base.layers.parameters(), *self.base.norm.parameters(), head.weight]
        self.versions = [p._version for p in self.copied]

    def rows(self, n: int) -> int:
        """oneDNN makes a kernel for each number of rows, half a megabyte in some milliseconds: let there be few."""
        return rounded(n)

    def stale(self) -> bool:
        """Whether the model's weights have changed since they were copied."""
        return [p._version for p in self.copied] != self.versions

    def __call__(
        self, tokens: Tensor, positions: Tensor, attend: Any, last: Tensor | None
    ) -> Tensor:
        h = self.base.embed_tokens(tokens).float()
        turns = self._turns(positions)
        for i, layer in enumerate(self.layers):
            qkv = layer.qkv(layer.before(h)).view(len(h), -1, self.head_dim)
            qk, v = qkv[:, : self.turned], qkv[:, self.turned :]
            if layer.qk is not None:
                qk = layer.qk(qk)
            pairs = torch.view_as_complex(qk.unflatten(-1, (-1, 2)))
            qk = torch.view_as_real(pairs * turns).flatten(-2)
            a = attend(i, qk[:, : self.heads], qk[:, self.heads :], v, self.scale).flatten(1)
            if last is not None and i == len(self.layers) - 1:
                h, a = h[last], a[last]
            h = h + layer.out(a)
            gate, up = layer.gate_up(layer.between(h)).chunk(2, dim=-1)
            h += layer.down(nn.functional.silu(gate).mul_(up))
        return self.head(self.norm(h))

    def _turns(self, positions: Tensor) -> Tensor:
        """e^{iθ} of each position and pair, `[T, 1, head_dim / 2]`, from a table that grows by doubling."""
        most = int(positions.max())
        if most >= len(self.turns):
            every = torch.arange(2 * most + 64)
            cos, sin = self.base.rotary_emb(torch.zeros(1), every[None])
            half = self.head_dim // 2
            self.turns = torch.complex(cos[0, :, :half], sin[0, :, :half])
        return self.turns[positions][:, None]

    def _layer(self, layer: Any) -> _Layer:
        at, mlp = layer.self_attn, layer.mlp
        pair = [at.q_proj, at.k_proj]
        qkv = [self._beside(m.weight) for m in pair] + [at.v_proj.weight]
        biases = [at.q_proj.bias, at.k_proj.bias, at.v_proj.bias]
        if biases[0] is not None:
            biases = [self._beside(b) for b in biases[:2]] + biases[2:]
        norms = None
        if hasattr(at, "q_norm"):
            counts = ((at.q_norm, self.heads), (at.k_norm, self.turned - self.heads))
            each = [m.weight[self.beside].expand(n, -1) for m, n in counts]
            norms = _Norm(at.q_norm, torch.cat(each))
        return _Layer(
            before=_Norm(layer.input_layernorm),
            qkv=_Product(torch.cat(qkv), _joined(biases)),
            qk=norms,
            out=_Product(at.o_proj.weight, at.o_proj.bias),
            between=_Norm(layer.post_attention_layernorm),
            gate_up=_Product(
                torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]),
                _joined([mlp.gate_proj.bias, mlp.up_proj.bias]),
            ),
            down=_Product(mlp.down_proj.weight, mlp.down_proj.bias),
        )

    def _beside(self, rows: Tensor) -> Tensor:
        """Rows of a weight or bias, head by head, halves interleaved."""
        return rows.unflatten(0, (-1, self.head_dim))[:, self.beside].flatten(0, 1)


def _joined(biases: Sequence[Tensor | None]) -> Tensor | None:
    """Several biases as one. In this family a layer's linears have them all or none."""
    given = [b for b in biases if b is not None]
    return torch.cat(given).detach() if given else None
