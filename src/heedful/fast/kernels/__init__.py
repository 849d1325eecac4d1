"""Compiled kernels for CPUs: what sampling does at each token (`sample`), and what training does between its matrix
products (`train`).

They are there where a C compiler is; who calls them has a way without. Tensors are on the CPU, float32 if not said
otherwise; what comes in is not checked again in C.
"""

from __future__ import annotations

from torch import Tensor

from heedful.fast.kernels.build import library


def available() -> bool:
    """Whether the kernels could be compiled here; the first call may take a second."""
    return library() is not None


def serves(*tensors: Tensor) -> bool:
    """Whether kernels are here that take these, or what they are in float32 without losing anything."""
    return all(x.device.type == "cpu" and x.dtype.itemsize <= 4 for x in tensors) and available()
