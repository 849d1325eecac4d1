"""Attention over a packed batch: by compiled kernels on a CPU that has them, else by tiles of matrix products."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from heedful import kernels
from heedful.models import tiles


class Laid(Protocol):
    """What attention asks of a `packed.Layout`."""

    @property
    def sequences(self) -> kernels.Sequences: ...

    def plan(self, heads: int, kv_heads: int) -> tiles.Plan: ...


def attend(
    qkv: Tensor, layout: Laid, heads: int, scale: float, turns: Tensor | None = None
) -> Tensor:
    """Tokens' queries, keys and values `[N, heads + 2 · key heads, d]` → `[N, heads, d]`, in their type.

    turns `[N, 1, d / 2]` complex: rotary positions e^{iθ} by which queries and keys are turned first, the two numbers
    of a pair side by side; qkv may then be written over. Sums are in float32 at least.
    """
    if qkv.dtype != torch.float64 and kernels.available():
        angles = None if turns is None else torch.view_as_real(turns).flatten(1).float()
        return _Attend.apply(qkv, angles, layout.sequences, heads, scale)
    plan = layout.plan(heads, (qkv.shape[1] - heads) // 2)
    return tiles.attend(qkv, plan, scale, turns)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, qkv: Tensor, turns: Tensor | None, at, heads: int, scale: float) -> Tensor:
        x = qkv.float().contiguous()
        out, sums = kernels.attention(x, turns, at, heads, scale)
        ctx.save_for_backward(x, turns, out, sums)
        ctx.at, ctx.scale, ctx.dtype = at, scale, qkv.dtype
        return out.to(qkv.dtype)

    @staticmethod
    def backward(ctx, *grads: Tensor):
        x, turns, out, sums = ctx.saved_tensors
        grad = grads[0].float().contiguous()
        found = kernels.attention_back(x, turns, ctx.at, ctx.scale, out, sums, grad)
        return found.to(ctx.dtype), None, None, None, None
