"""Matrix products of few rows with a matrix that is used again and again.

A step of decoding reads each weight once and does little with it, so a product costs what reading the matrix
costs, and the call. `nn.Linear` keeps matrices `[out, in]`, which suits neither library at so few rows. A copy can
stand as oneDNN's kernels read it, which costs ten microseconds a call and a kernel for each number of rows, or as
`[in, out]`, which MKL multiplies faster up to matrices of about the size of a core's cache, on Intel's processors.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

ROWS = 32  # a hint: the order that suits so many rows suits fewer and more
SMALL = 1 << 19  # numbers of a matrix up to which `[in, out]` is read faster


class Product(Protocol):
    """Of rows `[n, in]` with a weight `[out, in]` and its bias; float32 in and out."""

    def __call__(self, x: Tensor) -> Tensor:
        """x Wᵀ + b, `[n, out]`."""
        ...

    def plus(self, h: Tensor, x: Tensor) -> Tensor:
        """h + x Wᵀ + b, `[n, out]`."""
        ...


def product(weight: Tensor, bias: Tensor | None) -> Product:
    """The product with a copy of this weight, in the order that is read fastest.

    Chosen by size and processor, not by a stopwatch: whoever runs the same again is to get the same bits.
    """
    small = weight.numel() <= SMALL and weight.dtype == torch.float32
    return (Transposed if small and mkl_at_home() else Reordered)(weight, bias)


class Transposed:
    """The matrix as `[in, out]`."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.weight, self.bias = weight.detach().T.contiguous(), bias

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.weight if self.bias is None else torch.addmm(self.bias, x, self.weight)

    def plus(self, h: Tensor, x: Tensor) -> Tensor:
        out = torch.addmm(h, x, self.weight)
        return out if self.bias is None else out.add_(self.bias)


class Reordered:
    """The matrix in oneDNN's order, of its own type."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), ROWS)
        self.bias, self.dtype = bias, weight.dtype
        self.multiply = torch.ops.mkldnn._linear_pointwise.default

    def __call__(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        return self.multiply(x, self.weight, self.bias, "none", [], "").float()

    def plus(self, h: Tensor, x: Tensor) -> Tensor:
        return h + self(x)


@cache
def available() -> bool:
    """Whether PyTorch was built with the oneDNN product and it multiplies."""
    g = torch.Generator().manual_seed(0)
    x, w = torch.randn(3, 16, generator=g), torch.randn(32, 16, generator=g)
    try:
        return torch.allclose(Reordered(w, None)(x), x @ w.T, atol=1e-4)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False


@cache
def mkl_at_home() -> bool:
    """Whether products are MKL's and the processor is Intel's; on others it has not been measured."""
    try:
        processor = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return torch.backends.mkl.is_available() and "GenuineIntel" in processor
