"""Products of matrices by tiles of bfloat16 where a CPU has them (matmul.c), else PyTorch's."""

from __future__ import annotations

import torch
from torch import Tensor

from heedful.fast import kernels
from heedful.fast.kernels.calls import functions, pointer

# What is worth packing in float32: how often each number is multiplied, and how many multiplications there are.
OFTEN, MANY = 112, 1 << 24


def tiles() -> bool:
    """Whether this CPU multiplies tiles of bfloat16 (Intel's AMX), and there are kernels."""
    return kernels.available() and bool(functions().tiles())


def keeps_sums(x: Tensor) -> bool:
    """Whether `matmul` gives products of x's type, bfloat16, in float32 as they were added up."""
    return x.dtype == torch.bfloat16 and x.device.type == "cpu" and tiles()


def matmul(a: Tensor, b: Tensor, to: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """a b, added to `to` where that is given: a `[m, k]`, b `[k, n]`, to `[m, n]` or `[n]` → `[m, n]`, written to `out`
    where that is given, which may be `to`.

    In float32 it is as exact by tiles (`tests/kernels/test_matmul.py`): the numbers of a and b are sums of three of
    bfloat16 each. Numbers above 3.39·10³⁸ become NaN there. Where a or b is narrower, the other is rounded to its type;
    `out` in float32 then has by tiles the sums themselves, however few they are, so that a row's do not depend on the
    rows beside it; else PyTorch's, which are rounded. Autograd sees nothing of it:
    where a gradient would be asked for, and for shapes that do not fit, it is PyTorch's product, or PyTorch's error.
    """
    if not _by_tiles(a, b, to, out):
        return _plain(a, b, to, out)
    (m, k), n = a.shape, b.shape[1]
    out = a.new_empty(m, n) if out is None else out
    apart = 0 if to is None or to.dim() == 1 else to.stride(0)
    functions().matmul(
        a.data_ptr(), *a.stride(), a.dtype == torch.bfloat16,
        b.data_ptr(), *b.stride(), b.dtype == torch.bfloat16,
        pointer(to), apart, out.data_ptr(), out.stride(0), m, n, k,
    )  # fmt: skip
    return out


def _plain(a: Tensor, b: Tensor, to: Tensor | None, out: Tensor | None) -> Tensor:
    if out is None or a.dtype == b.dtype == out.dtype:
        if to is None:
            return torch.mm(a, b, out=out)
        return to.addmm_(a, b) if out is to else torch.addmm(to, a, b, out=out)
    narrow = min(a.dtype, b.dtype, key=lambda t: t.itemsize)
    product = torch.mm(a.to(narrow), b.to(narrow))
    if to is None:
        return out.copy_(product)
    return out.add_(product) if out is to else out.copy_(to).add_(product)


def _by_tiles(a: Tensor, b: Tensor, to: Tensor | None, out: Tensor | None) -> bool:
    given = [x for x in (a, b, to, out) if x is not None]
    (m, k), n = a.shape, b.shape[1]
    whole = torch.bfloat16 in (a.dtype, b.dtype)
    return (
        m * n * k > 0
        and (whole or (m * n * k >= MANY and m * n >= OFTEN * (m + n)))
        and b.shape[0] == k
        and (to is None or to.shape in ((m, n), (n,)))
        and (out is None or (out.shape == (m, n) and out.stride(0) >= n))
        and not (torch.is_grad_enabled() and any(x.requires_grad for x in given))
        and all(x.device.type == "cpu" for x in given)
        and all(x.dtype in (torch.float32, torch.bfloat16) for x in (a, b))
        and all(x.dtype == torch.float32 for x in given[2:])
        and not (whole and out is None)
        and all(1 in x.stride() for x in (a, b))
        and all(x.stride(-1) == 1 for x in given[2:])
        and tiles()
    )
