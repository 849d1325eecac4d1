"""The C functions as Python calls them: types of their arguments, pointers to tensors."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from torch import Tensor

from heedful.kernels.build import library

PTR, INT, REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_ARGUMENTS = {
    "pack": [PTR, PTR, INT, INT, INT, PTR],
    "decode": [PTR, PTR, PTR, PTR, INT, INT, PTR],
    "product": [PTR, PTR, INT, PTR, PTR, REAL, PTR, INT, INT, INT, INT],
    "turn": [PTR, PTR, PTR, PTR, REAL, INT, INT, INT, INT, INT],
    "attend": [
        PTR,
        INT,
        INT,
        PTR,
        INT,
        INT,
        PTR,
        INT,
        INT,
        PTR,
        PTR,
        PTR,
        PTR,
        INT,
        INT,
        INT,
        INT,
        INT,
        REAL,
    ],
    "attention": [PTR, PTR, PTR, PTR, PTR, INT, INT, INT, INT, INT, REAL, PTR, PTR],
    "attention_back": [
        PTR,
        PTR,
        PTR,
        PTR,
        PTR,
        INT,
        INT,
        INT,
        INT,
        INT,
        REAL,
        PTR,
        PTR,
        PTR,
        PTR,
        PTR,
    ],
    "norm": [PTR, PTR, REAL, INT, INT, PTR, PTR],
    "norm_back": [PTR, PTR, PTR, PTR, PTR, INT, INT, PTR, PTR, PTR],
    "gate": [PTR, INT, INT, PTR],
    "gate_back": [PTR, PTR, INT, INT, PTR],
    "odds": [PTR, PTR, INT, INT, REAL, PTR, PTR],
    "odds_back": [PTR, PTR, INT, INT, PTR, PTR],
    "choose": [PTR, PTR, INT, INT, PTR, PTR],
}


@functools.cache
def functions() -> Any:
    found = library()
    assert found is not None, "ask `available` first"
    for name, arguments in _ARGUMENTS.items():
        function = getattr(found, name)
        function.argtypes, function.restype = arguments, None
    found.lanes.restype = found.depth.restype = INT
    found.depth.argtypes = [INT, INT]
    return found


def pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def pointers(*given: Tensor | None) -> list[int | None]:
    return [pointer(x) for x in given]
