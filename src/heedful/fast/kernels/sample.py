"""Sampling on a CPU: one token's attention, a whole model in one call, the draw of a token; sample.c."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.functional import pad

from heedful.fast.kernels.calls import INT, PTR, REAL, functions, pointer


def lanes() -> int:
    """How many numbers a vector has."""
    return functions().lanes()


def panels(weight: Tensor, beside: Tensor | None = None) -> Tensor:
    """A copy of a weight `[out, in]`, float32 or bfloat16, as `decode` reads it: `[panels, in, 2 · lanes]`, filled up
    with zeros. With another `beside` it half of each panel's columns are of the one, half of the other."""
    weights = [weight] if beside is None else [weight, beside]
    wide = 2 * lanes() // len(weights)
    parts = [
        pad(w.detach(), (0, 0, 0, -len(w) % wide)).unflatten(0, (-1, wide)).mT for w in weights
    ]
    return torch.cat(parts, 2).contiguous()


@dataclass(frozen=True)
class Layer:
    """A layer of the Llama family: weights of norms and biases in float32, or None; matrices as `panels`.

    A head of keys and values stands behind the queries that read it. heads `[group + 1, dim]`: Qwen3's norm of each.
    gate_up: gate beside up; down reads as many columns as these make.
    """

    before: Tensor
    between: Tensor
    heads: Tensor | None
    qkv: Tensor
    out: Tensor
    gate_up: Tensor
    down: Tensor
    qkv_bias: Tensor | None
    out_bias: Tensor | None
    gate_up_bias: Tensor | None
    down_bias: Tensor | None


@dataclass(frozen=True)
class Model:
    """A model of such layers; `kv` heads of keys and values, each read by `group` queries, all of size `dim`."""

    embedding: Tensor
    head: Tensor
    norm: Tensor
    head_bias: Tensor | None
    layers: Sequence[Layer]
    kv: int
    group: int
    dim: int
    vocabulary: int
    eps: float
    scale: float


class _Layer(ctypes.Structure):
    _fields_ = [(name, PTR) for name in (*(f.name for f in fields(Layer)), "keys", "values")]


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, PTR) for name in ("layers", "embedding", "head", "norm", "head_bias")),
        *((name, INT) for name in ("count", "narrow", "width", "kv", "group", "dim", "ffn", "vocabulary")),
        *((name, REAL) for name in ("eps", "scale")),
    ]  # fmt: skip


class Decoder:
    """One token a row through a whole model, in one call."""

    def __init__(self, model: Model):
        self.model = model  # keeps alive what the pointers point to
        structs = [
            _Layer(*(pointer(getattr(layer, f.name)) for f in fields(Layer)))
            for layer in model.layers
        ]
        self.layers, first = (_Layer * len(structs))(*structs), model.layers[0]
        self.struct = _Model(
            ctypes.addressof(self.layers),
            *map(pointer, (model.embedding, model.head, model.norm, model.head_bias)),
            len(structs), model.embedding.dtype != torch.float32, model.embedding.shape[1],
            model.kv, model.group, model.dim, first.down.shape[1], model.vocabulary,
            model.eps, model.scale,
        )  # fmt: skip

    def __call__(
        self, tokens: Tensor, lengths: Tensor, table: Tensor, slots: Sequence[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Tokens `[n]` → logits `[n, V]`. They are appended at places `lengths` `[n]` of each layer's keys and values
        `[≥ n, kv, capacity, dim]`. The table `[≥ capacity, dim]` has cosines, then sines of each place's angles."""
        keys, n = slots[0][0], len(tokens)
        assert tokens.is_contiguous() and lengths.is_contiguous() and table.is_contiguous()
        for struct, (k, v) in zip(self.layers, slots, strict=True):
            assert k.shape == v.shape == keys.shape and k.dtype == v.dtype == torch.float32
            struct.keys, struct.values = k.data_ptr(), v.data_ptr()
        logits = keys.new_empty(n, self.model.vocabulary)
        capacity = keys.shape[2]
        functions().decode(ctypes.byref(self.struct), tokens, lengths, table, n, capacity, logits)
        return logits


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
        q, *q.stride()[:2], k, *k.stride()[:2], v, *v.stride()[:2], lengths, keys, values, out,
        n, kv, group, dim, keys.shape[2], scale,
    )  # fmt: skip
    return out


def choose(logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """See `models.sampling.choose`, whose logits these are after temperature and masks."""
    n, size = logits.shape
    logits, uniforms = logits.contiguous(), uniforms.double().contiguous()
    tokens, logprobs = logits.new_empty(n, dtype=torch.long), logits.new_empty(n)
    functions().choose(logits, uniforms, n, size, tokens, logprobs)
    return tokens, logprobs
