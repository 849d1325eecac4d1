"""Attention over a packed batch: by compiled kernels on a CPU that has them, else by tiles of matrix products."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from heedful.fast import kernels, tiles
from heedful.fast.kernels import train


def attend(
    qkv: Tensor,
    at: train.Sequences,
    plan: Callable[[int, int], tiles.Plan],
    heads: int,
    scale: float,
    turns: Tensor | None = None,
) -> Tensor:
    """Tokens' queries, keys and values `[N, heads + 2 · key heads, d]` → `[N, heads, d]`, in their type.

    at and plan are what a `packed.Layout` says of the same sequences, to kernels and to tiles.
    turns `[N, d]`: cosines, then sines of the angles by which queries and keys are turned first, number i of a head
    with number i + d / 2; qkv may then be written over. Sums are in float32 at least.
    """
    if qkv.dtype != torch.float64 and kernels.available():
        return _Attend.apply(qkv, turns, at, heads, scale)
    return tiles.attend(qkv, plan(heads, (qkv.shape[1] - heads) // 2), scale, turns)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, qkv: Tensor, turns: Tensor | None, at, heads: int, scale: float) -> Tensor:
        x = qkv.float().contiguous()
        out, sums = train.attention(x, turns, at, heads, scale)
        ctx.save_for_backward(x, turns, out, sums)
        ctx.at, ctx.scale, ctx.dtype = at, scale, qkv.dtype
        return out.to(qkv.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        x, turns, out, sums = ctx.saved_tensors
        grad = grads[0].float().contiguous()
        found = train.attention_back(x, turns, ctx.at, ctx.scale, out, sums, grad)
        return found.to(ctx.dtype), None, None, None, None
