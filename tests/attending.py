"""Attention by kernels and, in float64, by tiles, on sequences that share beginnings."""

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import rounding
from heedful.fast import kernels, tiles
from heedful.fast.attend import attend
from heedful.fast.kernels import build
from heedful.fast.packed import Layout, lay_out

# Where there is a compiler and yet no kernels, tests fail: a mistake in C must not skip what would show it.
needs_kernels = pytest.mark.skipif(
    not (sys.platform.startswith("linux") and build.c_compilers() and build.kind() != "off"),
    reason="no C compiler, or kernels are switched off",
)


def layout(seed: int = 0, width: int = 90, spare: bool = False) -> Layout:
    """Twelve rows of 1 to `width` tokens; some begin alike, in two generations, one is the beginning of another."""
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 50, (12, width), generator=g)
    lengths = torch.randint(1, width + 1, (12,), generator=g)
    lengths[:6] = torch.tensor([width, width - 1, width // 2 + 3, 33, 13, 1])
    tokens[1, : width // 2] = tokens[0, : width // 2]
    tokens[2, : width // 2 + 1] = tokens[1, : width // 2 + 1]
    tokens[3, :3] = tokens[0, :3]
    tokens[4] = tokens[3]
    return lay_out(tokens, torch.arange(width) < lengths[:, None], spare=spare)


def both(at: Layout, heads: int, kv: int, dim: int, turned: bool, dtype=torch.float32, upto=1.0):
    """Outputs and gradients: by kernels, and by tiles in float64."""
    assert kernels.available()
    g = torch.Generator().manual_seed(1)
    n = len(at.tokens)
    qkv = (upto * torch.randn(n, heads + 2 * kv, dim, generator=g)).to(dtype)
    upstream = torch.randn(n, heads, dim, generator=g).to(dtype)
    angles = 6 * torch.rand(n, dim // 2, generator=g)
    turns = torch.cat([angles.cos(), angles.sin()], 1) if turned else None
    leaf = qkv.clone().requires_grad_()
    got = attend(leaf, at.sequences, at.plan, heads, 0.4, turns)
    ours = got, torch.autograd.grad(got, leaf, upstream)[0]
    exact = qkv.double().requires_grad_()
    wide = None if turns is None else turns.double()
    want = tiles.attend(exact * 1, at.plan(heads, kv), 0.4, wide)
    theirs = want, torch.autograd.grad(want, exact, upstream.double())[0]
    return tuple((a.detach(), b) for a, b in (ours, theirs))


def close(ours, theirs) -> bool:
    """Output and gradient, to float32's rounding."""
    return all(rounding.close(a, b) for a, b in zip(ours, theirs, strict=True))


def kept(attend: Callable[[Tensor, Layout], Tensor], width: int) -> int:
    """How many numbers two sequences of this width leave for the backward pass."""
    saved: list[int] = []

    def note(x: Tensor) -> Tensor:
        saved.append(x.numel())
        return x

    tokens = torch.arange(2 * width).view(2, width)
    at = lay_out(tokens, torch.ones_like(tokens, dtype=torch.bool))
    qkv = torch.randn(2 * width, 8, 6, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        attend(qkv, at)
    return sum(saved)
