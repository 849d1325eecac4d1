"""Sampling on a CPU: products of few rows, one token's attention, a whole model in one call, the draw of a token."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from heedful.fast.kernels.calls import INT, PTR, REAL, functions, pointer, pointers

_PLAIN, _ADDED, _GATED = range(3)


@dataclass(frozen=True)
class Norm:
    """RMS norm, x / √(mean x² + ε) · w."""

    weight: Tensor
    eps: float

    @staticmethod
    def of(module) -> Norm:
        return Norm(module.weight.detach().float().contiguous(), module.variance_epsilon)


@dataclass(frozen=True)
class Matrix:
    """A copy of a weight `[out, in]`, float32 or bfloat16, in the order that `product` reads, and of its bias."""

    panels: Tensor
    bias: Tensor | None
    ins: int
    outs: int
    gated: bool

    @staticmethod
    def of(weight: Tensor, bias: Tensor | None = None) -> Matrix:
        wide = None if bias is None else bias.detach().float().contiguous()
        return Matrix(_packed(weight), wide, weight.shape[1], len(weight), gated=False)

    @staticmethod
    def of_gate(gate: nn.Linear, up: nn.Linear) -> Matrix:
        """silu(gate x) · (up x) in one product, whose columns are as many as whole vectors have."""
        lanes = functions().lanes()
        outs = -(-gate.out_features // lanes) * lanes
        bias = None
        if gate.bias is not None:
            biases = torch.zeros(2, outs, dtype=torch.float32)
            biases[:, : gate.out_features] = torch.stack([gate.bias.detach(), up.bias.detach()])
            bias = biases.view(2, -1, lanes).transpose(0, 1).flatten()
        panels = _packed(gate.weight, up.weight)
        return Matrix(panels, bias, gate.in_features, 2 * outs, gated=True)


def product(
    x: Tensor, matrix: Matrix, *, norm: Norm | None = None, to: Tensor | None = None
) -> Tensor:
    """x Wᵀ + b of x `[n, in]`, or of its norm → `[n, out]`; added to `to` in place if that is given.

    A gated matrix gives `[n, out / 2]`.
    """
    n = len(x)
    assert x.is_contiguous() and x.dtype == torch.float32 and x.shape[1] == matrix.ins
    out = x.new_empty(n, matrix.outs // (1 + matrix.gated)) if to is None else to
    assert out.is_contiguous() and out.shape[0] == n
    functions().product(
        x.data_ptr(), matrix.panels.data_ptr(), matrix.panels.dtype != torch.float32,
        pointer(matrix.bias), pointer(norm and norm.weight), norm.eps if norm else 0.0,
        out.data_ptr(), n, matrix.ins, matrix.outs,
        _GATED if matrix.gated else _PLAIN if to is None else _ADDED,
    )  # fmt: skip
    return out


@dataclass(frozen=True)
class Layer:
    """A layer of the Llama family. A head of keys and values stands behind the queries that read it."""

    before: Norm
    qkv: Matrix
    heads: Norm | None  # Qwen3's norm of each head, `[group + 1, head_dim]`
    out: Matrix
    between: Norm
    gate_up: Matrix
    down: Matrix


@dataclass(frozen=True)
class Model:
    """A model of such layers; `kv` heads of keys and values, each read by `group` queries, all of size `dim`."""

    embedding: Tensor
    layers: Sequence[Layer]
    norm: Norm
    head: Matrix
    kv: int
    group: int
    dim: int
    scale: float


class _Layer(ctypes.Structure):
    _fields_ = [
        (name, PTR)
        for name in (
            *("before", "between", "heads", "qkv", "out", "gate_up", "down"),
            *("qkv_bias", "out_bias", "gate_up_bias", "down_bias", "keys", "values"),
        )
    ]


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, PTR) for name in ("layers", "embedding", "head", "norm", "head_bias")),
        *((name, INT) for name in ("count", "narrow", "width", "kv", "group", "dim", "ffn", "vocabulary")),
        *((name, REAL) for name in ("eps", "scale")),
    ]  # fmt: skip


class Decoder:
    """One token a row through a whole model, in one call."""

    def __init__(self, model: Model):
        first = model.layers[0]
        self.model = model  # keeps alive what the pointers point to
        self.layers = (_Layer * len(model.layers))(*map(_struct, model.layers))
        self.struct = _Model(
            ctypes.addressof(self.layers), model.embedding.data_ptr(), model.head.panels.data_ptr(),
            model.norm.weight.data_ptr(), pointer(model.head.bias), len(model.layers),
            first.qkv.panels.dtype != torch.float32, model.embedding.shape[1], model.kv, model.group,
            model.dim, first.down.ins, model.head.outs, model.norm.eps, model.scale,
        )  # fmt: skip

    def __call__(
        self, tokens: Tensor, lengths: Tensor, table: Tensor, slots: Sequence[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Tokens `[n]` → logits `[n, V]`. They are appended at places `lengths` `[n]` of each layer's keys and values
        `[≥ n, kv, capacity, dim]`. For the table see `turn`."""
        keys, n = slots[0][0], len(tokens)
        assert tokens.is_contiguous() and lengths.is_contiguous() and table.is_contiguous()
        for struct, (k, v) in zip(self.layers, slots, strict=True):
            assert k.shape == v.shape == keys.shape and k.dtype == v.dtype == torch.float32
            struct.keys, struct.values = k.data_ptr(), v.data_ptr()
        logits = keys.new_empty(n, self.model.head.outs)
        functions().decode(
            ctypes.byref(self.struct), tokens.data_ptr(), lengths.data_ptr(), table.data_ptr(),
            n, keys.shape[2], logits.data_ptr(),
        )  # fmt: skip
        return logits


def _struct(layer: Layer) -> _Layer:
    norms = (layer.before.weight, layer.between.weight, layer.heads and layer.heads.weight)
    matrices = (layer.qkv, layer.out, layer.gate_up, layer.down)
    return _Layer(
        *map(pointer, (*norms, *(m.panels for m in matrices), *(m.bias for m in matrices)))
    )


def turn(x: Tensor, positions: Tensor, table: Tensor, turned: int, norms: Norm | None) -> None:
    """Turn the first `turned` heads of x `[n, groups, heads, dim]` in place by positions `[n]`, after the norm of each
    head, weights `[turned, dim]`, if one is given. The table `[positions, dim]` has cosines, then sines."""
    assert x.is_contiguous() and positions.is_contiguous() and table.is_contiguous()
    n, groups, heads, dim = x.shape
    functions().turn(
        x.data_ptr(), positions.data_ptr(), table.data_ptr(),
        pointer(norms and norms.weight), norms.eps if norms else 0.0,
        n, groups, heads, turned, dim,
    )  # fmt: skip


def attend(
    q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, keys: Tensor, values: Tensor, scale: float
) -> Tensor:
    """Append each row's key and value k, v `[n, kv, dim]` at place `lengths` `[n]` of keys and values `[≥ n, kv,
    capacity, dim]`, and let its queries q `[n, kv, group, dim]` attend to what the row has now → `[n, heads · dim]`."""
    n, kv, group, dim = q.shape
    assert q.stride()[2:] == (dim, 1) and k.stride(2) == v.stride(2) == 1
    assert keys.is_contiguous() and values.is_contiguous() and lengths.is_contiguous()
    assert all(x.dtype == torch.float32 for x in (q, k, v, keys, values))
    out = q.new_empty(n, kv * group * dim)
    functions().attend(
        q.data_ptr(), q.stride(0), q.stride(1), k.data_ptr(), k.stride(0), k.stride(1),
        v.data_ptr(), v.stride(0), v.stride(1), lengths.data_ptr(), keys.data_ptr(),
        values.data_ptr(), out.data_ptr(), n, kv, group, dim, keys.shape[2], scale,
    )  # fmt: skip
    return out


def choose(logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """See `models.sampling.choose`, whose logits these are after temperature and masks."""
    n, size = logits.shape
    logits, uniforms = logits.contiguous(), uniforms.double().contiguous()
    tokens, logprobs = logits.new_empty(n, dtype=torch.long), logits.new_empty(n)
    functions().choose(*pointers(logits, uniforms), n, size, *pointers(tokens, logprobs))
    return tokens, logprobs


def _packed(weight: Tensor, beside: Tensor | None = None) -> Tensor:
    """`[out, in]` → panels `[panels, in, columns of a panel]`, filled up with zeros; see `pack` in C."""
    lanes = functions().lanes()
    rows = 2 * lanes if beside is None else lanes
    weight = weight.detach().contiguous()
    beside = None if beside is None else beside.detach().contiguous()
    narrow = weight.dtype != torch.float32
    out = weight.new_empty(-(-len(weight) // rows), weight.shape[1], 2 * lanes)
    functions().pack(weight.data_ptr(), pointer(beside), narrow, *weight.shape, out.data_ptr())
    return out
