"""What a process is told before it computes: to keep freed memory in huge pages, and that next to nothing is nothing.

By default glibc returns every large block to the system when it is freed and asks for it again in the next
step, page by page: up to half of a step's time on a CPU. What is kept is the peak of one step, no more. Where Linux
gives pages of 2 MiB only to who asks, which most distributions do, we ask: looking up small ones takes time, too.

Numbers below 10⁻³⁸ have fewer digits than others and make a processor a hundred times slower: the gradients of pairs
that DPO has long told apart, running means of gradients that have not come for a thousand steps.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from pathlib import Path

import torch

# mallopt's names for them, malloc.h, and what it is told: never, and for hardly any block.
TRIM_THRESHOLD, MMAP_THRESHOLD = (-1, -1), (-3, (1 << 31) - 1)
HUGEPAGE = 14  # madvise's name for it, mman.h
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
GIB = 1 << 30


def rounded(n: int, octave: int = 4) -> int:
    """n or a little more: one of `octave` numbers (a power of two) between a power of two and the next.

    oneDNN makes a kernel for each number of rows, half a megabyte in some milliseconds, and keeps a thousand. It
    multiplies what is bfloat16, and weights that are kept in its order.
    """
    step = max(1, (1 << n.bit_length()) // (2 * octave))
    return -(-n // step) * step


def tune() -> None:
    """All three. Call it first: the threads of matrix products inherit what held when they were started."""
    if keep_freed_memory():
        ask_for_huge_pages()
    torch.set_flush_denormal(True)


@functools.cache
def keep_freed_memory() -> bool:
    """Whether glibc now keeps freed blocks; no where there is no glibc, or where MALLOC_… variables say otherwise."""
    if not sys.platform.startswith("linux") or any(
        name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
    ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all([mallopt(*TRIM_THRESHOLD), mallopt(*MMAP_THRESHOLD)])


@functools.cache
def ask_for_huge_pages() -> int:
    """Reserve addresses, not memory, for the heap to grow into; the system is to fill them with huge pages.

    Half as many GiB as the machine has memory, none where addresses are counted or huge pages not to be had by
    asking. Returns how many. Presumes that freed blocks are kept.
    """
    try:
        asked = "[madvise]" in HUGE_PAGES.read_text(encoding="ascii")
        counted = OVERCOMMIT.read_text(encoding="ascii").strip() == "2"
    except OSError:
        return 0
    import resource  # only Linux comes this far; Windows has none

    if not asked or counted or resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return 0
    libc, page = ctypes.CDLL(None), os.sysconf("SC_PAGE_SIZE")
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    blocks: list[int] = []
    for _ in range(os.sysconf("SC_PHYS_PAGES") * page // GIB // 2):
        if (block := libc.malloc(GIB)) is None:
            break
        first = -(-block // page) * page
        libc.madvise(first, GIB - page, HUGEPAGE)
        blocks.append(block)
    for block in blocks:
        libc.free(block)
    return len(blocks)
