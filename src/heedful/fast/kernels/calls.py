"""The C functions as Python calls them: types of their arguments, tensors as pointers."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from torch import Tensor

from heedful.fast.kernels.build import library

PTR, INT, REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class _Pointer:
    """A tensor or None where C wants a pointer."""

    from_param = staticmethod(lambda x: PTR(pointer(x)))


_LETTERS = {"p": _Pointer, "s": PTR, "i": INT, "f": REAL}
_ARGUMENTS = {  # a letter for each, as in the C files
    "decode": "spppiip",
    "attend": "piipiipiippppiiiiif",
    "attention": "pppppiiiiifpp",
    "attention_back": "pppppiiiiifppppp",
    "norm": "ppfiipp",
    "norm_back": "pppppiipp",
    "gate": "piip",
    "gate_back": "ppiip",
    "odds": "ppiifpp",
    "odds_back": "ppiipp",
    "choose": "ppiipp",
}


@functools.cache
def functions() -> Any:
    kernels = library()
    assert kernels is not None, "ask `available` first"
    for name, arguments in _ARGUMENTS.items():
        function = getattr(kernels, name)
        function.argtypes, function.restype = [_LETTERS[a] for a in arguments], None
    kernels.lanes.restype = INT
    return kernels


def pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()
