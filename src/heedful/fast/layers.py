"""A model's layers and wrappers of their `forward`: gradient checkpointing, compilation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from heedful.errors import UserError


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """The transformer layers, bottom first."""
    depth = model.config.get_text_config().num_hidden_layers
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise UserError(f"heedful does not know where {type(model).__name__} keeps its layers")


@dataclass
class Around:
    """A wrapper that replaces a layer's `forward`. A deep copy of the layer has one with its own weights."""

    forward: Callable[..., Any]
    compiled: bool = False
    recomputes: bool = False

    def __call__(self, *args, **kwargs):
        if self.recomputes and torch.is_grad_enabled():
            return checkpoint(self.forward, *args, use_reentrant=False, **kwargs)
        return self.forward(*args, **kwargs)


def around(layer: Any) -> Around:
    """The layer's wrapper, or a new one around its `forward`."""
    return layer.forward if isinstance(layer.forward, Around) else Around(layer.forward)


def checkpoint_layers(model: PreTrainedModel) -> None:
    """Gradient checkpointing: keep a layer's input only, and compute its inside again in the backward pass.

    transformers' own switch works in training mode alone, where some models drop out inside their layers,
    and it takes the cache away from sampling. Here a layer asks whether a gradient is wanted.
    """
    layer: Any
    for layer in layers_of(model):
        layer.forward = replace(around(layer), recomputes=True)


def unwatched(module: nn.Module) -> bool:
    """Whether the module has no hooks and its `forward` is its class's (or compiled by heedful)."""
    if module._forward_hooks or module._forward_pre_hooks:
        return False
    outer = around(module)
    return outer.compiled or outer.forward == MethodType(type(module).forward, module)
