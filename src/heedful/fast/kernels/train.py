"""What training does between its matrix products on a CPU, forward and backward; attention.c, train.c."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from heedful.fast.kernels.calls import functions


@dataclass(frozen=True)
class Sequences:
    """Sequence r of a packed batch has the tokens `cells[starts[r] : starts[r + 1]]`, of which the first `borrowed[r]`
    are another sequence's, which computes them: each token belongs to one sequence."""

    cells: Tensor
    starts: Tensor
    borrowed: Tensor

    @cached_property
    def longest(self) -> int:
        return int(self.starts.diff().max())

    @cached_property
    def shared(self) -> int:
        return int(self.borrowed.sum())


def attention(
    qkv: Tensor, rope: Tensor | None, seqs: Sequences, heads: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Causal attention of tokens' queries, keys and values `[N, heads + 2 · kv, dim]` → `[N, heads, dim]`, and the
    logarithms of the sums of exponentials `[N, heads]`. rope `[N, dim]`: cosines, then sines of the angles by which
    queries and keys are rotated first."""
    n, _, dim = qkv.shape
    out, sums = qkv.new_empty(n, heads, dim), qkv.new_empty(n, heads)
    functions().attention(*_inputs(qkv, rope, seqs, heads, scale), out, sums)
    return out, sums


def attention_back(qkv, rope, seqs: Sequences, scale: float, out: Tensor, sums, grad) -> Tensor:
    """The gradient of `qkv` from that of `out` `[N, heads, dim]`; out and sums are what `attention` gave."""
    heads, dim = out.shape[1:]
    assert grad.is_contiguous() and grad.dtype == torch.float32
    gradient = torch.empty_like(qkv)
    shared = qkv.new_empty(seqs.shared, qkv.shape[1] - heads, dim)
    inputs = _inputs(qkv, rope, seqs, heads, scale)
    functions().attention_back(*inputs, out, sums, grad, gradient, shared)
    return gradient


def _inputs(qkv: Tensor, rope: Tensor | None, seqs: Sequences, heads: int, scale: float) -> tuple:
    assert qkv.is_contiguous() and qkv.dtype == torch.float32
    assert rope is None or (rope.is_contiguous() and rope.dtype == torch.float32)
    return (
        qkv, rope, seqs.cells, seqs.starts, seqs.borrowed,
        len(seqs.borrowed), seqs.longest, heads, (qkv.shape[1] - heads) // 2, qkv.shape[2], scale,
    )  # fmt: skip


def norm(h: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """h / √(mean h² + ε) · w of h `[n, width]`, and the factors 1 / √… `[n]`."""
    h, out, factor = h.contiguous(), h.new_empty(h.shape), h.new_empty(len(h))
    functions().norm(h, weight, eps, *h.shape, out, factor)
    return out, factor


def norm_back(
    grad: Tensor, residual: Tensor, h: Tensor, weight: Tensor, factor: Tensor, weighted: bool
) -> tuple[Tensor, Tensor | None]:
    """The gradient of h, to which `more` `[n, width]` is added, and that of the weight if it is asked for."""
    n, width = h.shape
    grad, residual, h = grad.contiguous(), residual.contiguous(), h.contiguous()
    for_h, for_weight = h.new_empty(h.shape), h.new_empty(width) if weighted else None
    functions().norm_back(grad, residual, h, weight, factor, n, width, for_h, for_weight)
    return for_h, for_weight


def gate(joint: Tensor) -> Tensor:
    """silu(gate) · up of gate and up side by side, `[n, 2 · size]` → `[n, size]`."""
    joint, (n, width) = joint.contiguous(), joint.shape
    out = joint.new_empty(n, width // 2)
    functions().gate(joint, *out.shape, out)
    return out


def gate_back(grad: Tensor, joint: Tensor) -> Tensor:
    """The gradient of both, side by side, from that `[n, size]` of what `gate` gave."""
    grad, joint = grad.contiguous(), joint.contiguous()
    out = joint.new_empty(joint.shape)
    functions().gate_back(grad, joint, *grad.shape, out)
    return out


def odds(z: Tensor, y: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Write exp(f·z − max f·z) over logits z `[n, V]`; log softmax(f·z)[y] `[n]`, and the sums of what is left."""
    assert z.is_contiguous() and y.is_contiguous()
    logps, totals = z.new_empty(len(z)), z.new_empty(len(z))
    functions().odds(z, y, *z.shape, factor, logps, totals)
    return logps, totals


def odds_back(z: Tensor, y: Tensor, grad: Tensor, totals: Tensor) -> None:
    """Write the gradients of f·z over what `odds` left there, from those of the log-probs `[n]`."""
    grad, totals = grad.contiguous(), totals.contiguous()
    functions().odds_back(z, y, *z.shape, grad, totals)
