"""Products of matrices: float32 by tiles of bfloat16 where a CPU has them (matmul.c), else PyTorch's."""

from __future__ import annotations

import torch
from torch import Tensor

from heedful import kernels
from heedful.kernels.calls import functions, pointer

# What is worth packing: how often each number is multiplied, and how many multiplications there are.
OFTEN, MANY = 112, 1 << 24


def tiles() -> bool:
    """Whether this CPU multiplies tiles of bfloat16 (Intel's AMX), and there are kernels."""
    return kernels.available() and bool(functions().tiles())


def matmul(a: Tensor, b: Tensor, to: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """a b, added to `to` where that is given: a `[m, k]`, b `[k, n]`, to `[m, n]` or `[n]` → `[m, n]`, written to `out`
    where that is given, which may be `to`.

    By tiles it is as exact as in float32 (`tests/kernels/test_matmul.py`): the numbers of a and b are sums of three of
    bfloat16 each. Numbers above 3.39·10³⁸ become NaN there. Autograd sees nothing of it: where a gradient would be
    asked for, and for shapes that do not fit, it is PyTorch's product, or PyTorch's error.
    """
    if not _by_tiles(a, b, to, out):
        if to is None:
            return torch.mm(a, b, out=out)
        return to.addmm_(a, b) if out is to else torch.addmm(to, a, b, out=out)
    (m, k), n = a.shape, b.shape[1]
    out = a.new_empty(m, n) if out is None else out
    apart = 0 if to is None or to.dim() == 1 else to.stride(0)
    functions().matmul(
        a.data_ptr(), *a.stride(), b.data_ptr(), *b.stride(), pointer(to), apart,
        out.data_ptr(), out.stride(0), m, n, k,
    )  # fmt: skip
    return out


def _by_tiles(a: Tensor, b: Tensor, to: Tensor | None, out: Tensor | None) -> bool:
    given = [x for x in (a, b, to, out) if x is not None]
    (m, k), n = a.shape, b.shape[1]
    return (
        m * n * k >= MANY
        and m * n >= OFTEN * (m + n)
        and b.shape[0] == k
        and (to is None or to.shape in ((m, n), (n,)))
        and (out is None or (out.shape == (m, n) and out.stride(0) >= n))
        and not (torch.is_grad_enabled() and any(x.requires_grad for x in given))
        and all(x.device.type == "cpu" and x.dtype == torch.float32 for x in given)
        and all(1 in x.stride() for x in (a, b))
        and all(x.stride(-1) == 1 for x in given[2:])
        and tiles()
    )
