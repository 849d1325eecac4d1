"""Attention by kernels and, in float64, by PyTorch, on sequences that share beginnings."""

import sys

import pytest
import torch

import rounding
from heedful.fast import kernels
from heedful.fast.attention import attend, attend_rotated
from heedful.fast.kernels import build
from heedful.fast.layout import Layout, lay_out

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
    """Outputs and gradients: by kernels, and by PyTorch's attention of blocks in float64."""
    assert kernels.available()
    g = torch.Generator().manual_seed(1)
    n = len(at.tokens)
    qkv = (upto * torch.randn(n, heads + 2 * kv, dim, generator=g)).to(dtype)
    upstream = torch.randn(n, heads, dim, generator=g).to(dtype)
    angles = 6 * torch.rand(n, dim // 2, generator=g) * turned
    turns = torch.cat([angles.cos(), angles.sin()], 1)
    found = []
    for leaf in (qkv.clone(), qkv.double()):
        leaf.requires_grad_()
        if turned:
            wide = turns.double() if leaf.dtype == torch.double else turns
            out = attend_rotated(leaf, wide, at, heads, 0.4)
        else:
            q, k, v = leaf.split([heads, kv, kv], 1)
            out = attend(q, k, v, at, 0.4)
        found.append((out.detach(), torch.autograd.grad(out, leaf, upstream.to(leaf.dtype))[0]))
    return found


def close(ours, theirs) -> bool:
    """Output and gradient, to float32's rounding."""
    return all(rounding.close(a, b) for a, b in zip(ours, theirs, strict=True))
