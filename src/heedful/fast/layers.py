"""A model's layers, and what stands around them: kept inputs instead of insides, compiled insides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
    """What stands in place of a layer's `forward`. A deep copy of the layer has one with its own weights."""

    layer: nn.Module
    compiled: Callable[..., Any] | None = None
    recomputes: bool = False

    def __call__(self, *args, **kwargs):
        inside = partial(self.compiled or type(self.layer).forward, self.layer)
        if self.recomputes and torch.is_grad_enabled():
            return checkpoint(inside, *args, use_reentrant=False, **kwargs)
        return inside(*args, **kwargs)


def around(layer: nn.Module) -> Around | None:
    """What stands around the layer, if anything does."""
    forward = vars(layer).get("forward")
    return forward if isinstance(forward, Around) else None


def set_around(layer: Any, **what: Any) -> None:
    layer.forward = around(layer) or Around(layer)
    vars(layer.forward).update(what)


def checkpoint_layers(model: PreTrainedModel) -> None:
    """Gradient checkpointing: keep a layer's input only, and compute its inside again in the backward pass.

    transformers' own switch works in training mode alone, where some models drop out inside their layers,
    and it takes the cache away from sampling. Here a layer asks whether a gradient is wanted.
    """
    for layer in layers_of(model):
        set_around(layer, recomputes=True)


def unwatched(module: nn.Module) -> bool:
    """Whether calling it is all that happens: nobody listens to the module and nobody else has replaced its forward."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    return not hooks and ("forward" not in vars(module) or around(module) is not None)
