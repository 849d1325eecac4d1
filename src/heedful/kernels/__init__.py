"""Compiled kernels for CPUs: what they compute, and how Python calls them. See sample.c and attention.c.

They are there where a C compiler is (`available`); callers have a way without. Tensors are on the CPU, float32 if
not said otherwise, and contiguous; what comes in is not checked again in C, so it is here.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from heedful.kernels.build import library

_P, _I, _F = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_ARGUMENTS = {
    "pack": [_P, _P, _I, _I, _I, _P],
    "decode": [_P, _P, _P, _P, _I, _I, _P],
    "product": [_P, _P, _I, _P, _P, _F, _P, _I, _I, _I, _I],
    "turn": [_P, _P, _P, _P, _F, _I, _I, _I, _I, _I],
    "attend": [_P, _I, _I, _P, _I, _I, _P, _I, _I, _P, _P, _P, _P, _I, _I, _I, _I, _I, _F],
    "attention": [_P, _P, _P, _P, _P, _I, _I, _I, _I, _I, _F, _P, _P],
    "attention_back": [_P, _P, _P, _P, _P, _I, _I, _I, _I, _I, _F, _P, _P, _P, _P, _P],
    "choose": [_P, _P, _I, _I, _P, _P],
}
_PLAIN, _ADDED, _GATED = range(3)


@functools.cache
def _functions() -> Any:
    found = library()
    assert found is not None, "ask `available` first"
    for name, arguments in _ARGUMENTS.items():
        function = getattr(found, name)
        function.argtypes, function.restype = arguments, None
    found.lanes.restype = _I
    return found


def available() -> bool:
    """Whether the kernels could be compiled here; the first call may take a second."""
    return library() is not None


def serves(*tensors: Tensor) -> bool:
    """Whether these are what kernels take, and there are kernels."""
    return all(x.device.type == "cpu" and x.dtype == torch.float32 for x in tensors) and available()


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
        lanes = _functions().lanes()
        outs = -(-gate.out_features // lanes) * lanes
        bias = None
        if gate.bias is not None:
            biases = torch.zeros(2, outs)
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
    out = torch.empty(n, matrix.outs // (1 + matrix.gated)) if to is None else to
    assert out.is_contiguous() and out.shape[0] == n
    _functions().product(
        x.data_ptr(), matrix.panels.data_ptr(), matrix.panels.dtype != torch.float32,
        _pointer(matrix.bias), _pointer(norm and norm.weight), norm.eps if norm else 0.0,
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
        (name, _P)
        for name in (
            *("before", "between", "heads", "qkv", "out", "gate_up", "down"),
            *("qkv_bias", "out_bias", "gate_up_bias", "down_bias", "keys", "values"),
        )
    ]


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, _P) for name in ("layers", "embedding", "head", "norm", "head_bias")),
        *((name, _I) for name in ("count", "narrow", "width", "kv", "group", "dim", "ffn", "vocabulary")),
        *((name, _F) for name in ("eps", "scale")),
    ]  # fmt: skip


class Decoder:
    """One token a row through a whole model, in one call."""

    def __init__(self, model: Model):
        first = model.layers[0]
        self.model = model  # keeps alive what the pointers point to
        self.layers = (_Layer * len(model.layers))(*map(_pointers, model.layers))
        self.struct = _Model(
            ctypes.addressof(self.layers), model.embedding.data_ptr(), model.head.panels.data_ptr(),
            model.norm.weight.data_ptr(), _pointer(model.head.bias), len(model.layers),
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
            assert k.shape == v.shape == keys.shape
            struct.keys, struct.values = k.data_ptr(), v.data_ptr()
        logits = torch.empty(n, self.model.head.outs)
        _functions().decode(
            ctypes.byref(self.struct), tokens.data_ptr(), lengths.data_ptr(), table.data_ptr(),
            n, keys.shape[2], logits.data_ptr(),
        )  # fmt: skip
        return logits


def _pointers(layer: Layer) -> _Layer:
    norms = (layer.before.weight, layer.between.weight, layer.heads and layer.heads.weight)
    matrices = (layer.qkv, layer.out, layer.gate_up, layer.down)
    return _Layer(
        *map(_pointer, (*norms, *(m.panels for m in matrices), *(m.bias for m in matrices)))
    )


def turn(x: Tensor, positions: Tensor, table: Tensor, turned: int, norms: Norm | None) -> None:
    """Turn the first `turned` heads of x `[n, groups, heads, dim]` in place by positions `[n]`, after the norm of each
    head, weights `[turned, dim]`, if one is given. The table `[positions, dim / 2, 2]` has cosines and sines of pairs
    that stand side by side."""
    assert x.is_contiguous() and positions.is_contiguous() and table.is_contiguous()
    n, groups, heads, dim = x.shape
    _functions().turn(
        x.data_ptr(), positions.data_ptr(), table.data_ptr(),
        _pointer(norms and norms.weight), norms.eps if norms else 0.0,
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
    out = torch.empty(n, kv * group * dim)
    _functions().attend(
        q.data_ptr(), q.stride(0), q.stride(1), k.data_ptr(), k.stride(0), k.stride(1),
        v.data_ptr(), v.stride(0), v.stride(1), lengths.data_ptr(), keys.data_ptr(),
        values.data_ptr(), out.data_ptr(), n, kv, group, dim, keys.shape[2], scale,
    )  # fmt: skip
    return out


@dataclass(frozen=True)
class Sequences:
    """Sequence r of a packed batch has the tokens `cells[starts[r] : starts[r + 1]]`, the first `own[r]` of which are
    another sequence's, which asks for them: each token is one sequence's own."""

    cells: Tensor
    starts: Tensor
    own: Tensor

    @cached_property
    def longest(self) -> int:
        return int(self.starts.diff().max())

    @cached_property
    def shared(self) -> int:
        return int(self.own.sum())


def attention(
    qkv: Tensor, turns: Tensor | None, at: Sequences, heads: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Causal attention of tokens' queries, keys and values `[N, heads + 2 · kv, dim]` → `[N, heads, dim]`, and the
    logarithms of the sums of exponentials `[N, heads]`. turns `[N, dim]`: cosine and sine of each pair of numbers side
    by side by which queries and keys are turned first."""
    n, _, dim = qkv.shape
    out, sums = torch.empty(n, heads, dim), torch.empty(n, heads)
    _functions().attention(*_asked(qkv, turns, at, heads, scale), out.data_ptr(), sums.data_ptr())
    return out, sums


def attention_back(
    qkv: Tensor,
    turns: Tensor | None,
    at: Sequences,
    scale: float,
    out: Tensor,
    sums: Tensor,
    grad: Tensor,
) -> Tensor:
    """The gradient of `qkv` from that of `out` `[N, heads, dim]`; out and sums are what `attention` gave."""
    heads, dim = out.shape[1:]
    assert grad.is_contiguous() and grad.dtype == torch.float32
    gradient = torch.empty_like(qkv)
    shared = torch.empty(at.shared, qkv.shape[1] - heads, dim)
    _functions().attention_back(
        *_asked(qkv, turns, at, heads, scale), out.data_ptr(), sums.data_ptr(), grad.data_ptr(),
        gradient.data_ptr(), shared.data_ptr(),
    )  # fmt: skip
    return gradient


def _asked(qkv: Tensor, turns: Tensor | None, at: Sequences, heads: int, scale: float) -> tuple:
    assert qkv.is_contiguous() and qkv.dtype == torch.float32
    assert turns is None or (turns.is_contiguous() and turns.dtype == torch.float32)
    return (
        qkv.data_ptr(), _pointer(turns), at.cells.data_ptr(), at.starts.data_ptr(), at.own.data_ptr(),
        len(at.own), at.longest, heads, (qkv.shape[1] - heads) // 2, qkv.shape[2], scale,
    )  # fmt: skip


def choose(logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """See `models.sampling.choose`, whose logits these are after temperature and masks."""
    n, size = logits.shape
    logits = logits.contiguous()
    tokens, logprobs = torch.empty(n, dtype=torch.long), torch.empty(n)
    _functions().choose(
        logits.data_ptr(),
        uniforms.contiguous().data_ptr(),
        n,
        size,
        tokens.data_ptr(),
        logprobs.data_ptr(),
    )
    return tokens, logprobs


def _packed(weight: Tensor, beside: Tensor | None = None) -> Tensor:
    """`[out, in]` → `[panels, in, columns of a panel]`, the last panel filled up with zeros."""
    lanes = _functions().lanes()
    rows = 2 * lanes if beside is None else lanes
    weight, beside = (
        weight.detach().contiguous(),
        None if beside is None else beside.detach().contiguous(),
    )
    out = weight.new_empty(-(-len(weight) // rows), weight.shape[1], 2 * lanes)
    _functions().pack(
        weight.data_ptr(), _pointer(beside), weight.itemsize, *weight.shape, out.data_ptr()
    )
    return out


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()
