"""What a process is told before it computes: to keep freed memory, and that next to nothing is nothing.

By default glibc returns every large block to the system when it is freed and asks for it again in the next
step, page by page: up to half of a step's time on a CPU. What is kept is the peak of one step, no more.

Numbers below 10⁻³⁸ have fewer digits than others and make a processor a hundred times slower: the gradients of pairs
that DPO has long told apart, running means of gradients that have not come for a thousand steps.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

import torch

# mallopt's names for them, malloc.h, and what it is told: never, and for hardly any block.
TRIM_THRESHOLD, MMAP_THRESHOLD = (-1, -1), (-3, (1 << 31) - 1)


def rounded(n: int, octave: int = 4) -> int:
    """n or a little more: one of `octave` numbers (a power of two) between a power of two and the next.

    oneDNN makes a kernel for each number of rows, half a megabyte in some milliseconds, and keeps a thousand. It
    multiplies what is bfloat16, and weights that are kept in its order.
    """
    step = max(1, (1 << n.bit_length()) // (2 * octave))
    return -(-n // step) * step


def tune() -> None:
    """Both. Call it first: the threads of matrix products inherit what held when they were started."""
    keep_freed_memory()
    torch.set_flush_denormal(True)


@functools.cache
def keep_freed_memory() -> bool:
    """Whether glibc now keeps freed blocks; no where there is no glibc, or where MALLOC_… variables say otherwise."""
    if not sys.platform.startswith("linux") or any(
        name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
    ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt) and all([mallopt(*TRIM_THRESHOLD), mallopt(*MMAP_THRESHOLD)])


def give_back() -> None:
    """What is freed goes back to the system this once, also from between what is kept; only glibc can do that."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
