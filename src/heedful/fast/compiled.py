"""`torch.compile` for what a layer does between its matrix products: norms, rotations, gates, sums.

Attention over ragged blocks stays as it is (it would be compiled anew for each batch), and so do calls that
bring no packed batch: the engine's, and those of whoever has been given a copy.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from types import MethodType
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from heedful.errors import UserError
from heedful.fast import packed
from heedful.fast.layers import around, layers_of


def compile_layers(model: PreTrainedModel, backend: str = "inductor") -> None:
    """Compile each layer for packed batches of any size, when the first one comes: seconds, once a process."""
    if not packed.can_pack(model):
        raise UserError(
            f"--compile would have no effect: {type(model).__name__} cannot be run on packed batches; leave it out"
        )
    if model.device.type == "cpu" and backend == "inductor" and not cpp_compiler():
        raise UserError(
            "--compile needs a C++ compiler, and there is neither g++ nor clang++; install one, or leave it out"
        )
    # Compiled layers call the packed attention as it is.
    AttentionInterface.register(packed.NAME, torch.compiler.disable(packed.attention))
    layer: Any
    for layer in layers_of(model):
        forward = MethodType(_compiled(type(layer), backend), layer)
        layer.forward = replace(around(layer), forward=forward, compiled=True)


def cpp_compiler() -> str | None:
    """What compiles for CPUs, if anything does: $CXX, g++ or clang++."""
    named = filter(None, (os.environ.get("CXX"), "g++", "clang++"))
    return next(filter(None, map(shutil.which, named)), None)


@functools.cache
def _compiled(kind: type[nn.Module], backend: str) -> Callable[..., Any]:
    # transformers' wrapper has one code for all architectures, and of one code only so many versions are compiled.
    plain: Any = kind.forward
    code = plain.__wrapped__ if issubclass(kind, GradientCheckpointingLayer) else plain
    compiled = torch.compile(code, dynamic=True, backend=backend)

    def forward(layer, *args, **kwargs):
        inside = any(isinstance(x, packed.Layout) for x in (*args, *kwargs.values()))
        return (compiled if inside else plain)(layer, *args, **kwargs)

    return forward
