"""Sampling on a CPU: one token's attention, a whole model in one call, the draw of a token; sample.c."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from heedful.fast.kernels.calls import INT, PTR, REAL, functions, pointer


def lanes() -> int:
    """How many numbers a vector has."""
    return functions().lanes()


def panels(weight: Tensor) -> Tensor:
    """A copy of a weight `[out, in]`, float32 or bfloat16, as `decode` reads it: `[panels, in, 2 · lanes]`, filled up
    with zeros."""
    wide = 2 * lanes()
    rows = pad(weight.detach(), (0, 0, 0, -len(weight) % wide)).unflatten(0, (-1, wide))
    return rows.mT.clone(memory_format=torch.contiguous_format)


def interleaved(a: Tensor, b: Tensor) -> Tensor:
    """A vector's rows of a `[out, …]`, as many of b, the next of a …; each filled up with zeros to whole vectors."""
    padding = a.new_zeros(-len(a) % lanes(), *a.shape[1:])
    halves = [torch.cat([x, padding]).unflatten(0, (-1, lanes())) for x in (a, b)]
    return torch.stack(halves, 1).flatten(0, 2)


NORMS = ("before", "between", "heads")  # `[in]`, and Qwen3's of each head `[group + 1, dim]`
MATRICES = ("qkv", "out", "gate_up", "down")  # as `panels`
LAYER = (*NORMS, *MATRICES, *(f"{name}_bias" for name in MATRICES))
MODEL = ("embedding", "head", "norm", "head_bias")  # `[V, in]`, as `panels`, `[in]`, `[V]`
SIZES = ("count", "narrow", "width", "kv", "group", "dim", "ffn", "vocabulary")
Parts = dict[str, Any]


class _Layer(ctypes.Structure):
    _fields_ = [(name, PTR) for name in (*LAYER, "keys", "values")]


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, PTR) for name in ("layers", *MODEL)),
        *((name, INT) for name in SIZES),
        *((name, REAL) for name in ("eps", "scale")),
    ]


class Decoder:
    """One token a row through a whole model of the Llama family, in one call.

    model and layers have the tensors that `MODEL` and `LAYER` name: float32, but for matrices and embedding, or None. A
    head of keys and values stands behind the queries that read it; gate_up is gate and up `interleaved`, and down reads
    as many columns as these make. sizes: kv, group, dim, vocabulary, eps, scale.
    """

    def __init__(self, model: Parts, layers: Sequence[Parts], **sizes: float):
        self.held = model, layers  # keeps alive what the pointers point to
        structs = [_Layer(*(pointer(layer[name]) for name in LAYER)) for layer in layers]
        self.layers = (_Layer * len(structs))(*structs)
        embedding, down = model["embedding"], layers[0]["down"]
        self.struct = _Model(
            ctypes.addressof(self.layers),
            *(pointer(model[name]) for name in MODEL),
            count=len(layers),
            narrow=embedding.dtype != torch.float32,
            width=embedding.shape[1],
            ffn=down.shape[1],
            **sizes,
        )

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
        logits = keys.new_empty(n, self.struct.vocabulary)
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
