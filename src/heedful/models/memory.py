"""The C library's allocator, told to keep what a step gives back.

By default glibc returns every large block to the system when it is freed and asks for it again in the next
step, page by page: up to half of a step's time on a CPU. What is kept is the peak of one step, no more.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # mallopt's names for them, malloc.h
LARGE = (1 << 31) - 1


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
    return all([mallopt(TRIM_THRESHOLD, LARGE), mallopt(MMAP_THRESHOLD, LARGE)])
