"""What of a model is trained, and what it keeps for the backward pass."""

from __future__ import annotations

import functools
from itertools import takewhile

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


def freeze_bottom(model: PreTrainedModel, layers: int) -> None:
    """Freeze the bottom `layers` layers and all that comes before them: embeddings of tokens and positions.

    An output layer that shares its weights with the embeddings is frozen with them.
    """
    stack = layers_of(model)
    if not 0 <= layers <= len(stack):
        raise UserError(f"--freeze {layers} does not fit a model of {len(stack)} layers")
    if layers == 0:
        return
    parent = next(m for m in model.base_model.modules() if stack in m.children())
    for module in [*takewhile(lambda m: m is not stack, parent.children()), *stack[:layers]]:
        module.requires_grad_(False)


def checkpoint_layers(model: PreTrainedModel) -> None:
    """Gradient checkpointing: keep a layer's input only, and compute its inside again in the backward pass.

    transformers' own switch works in training mode alone, where some models drop out inside their layers,
    and it takes the cache away from sampling. Here a layer asks whether a gradient is wanted. Its class
    changes rather than its `forward`, which a deep copy would still call on the old weights.
    """
    for layer in layers_of(model):
        layer.__class__ = _recomputing(type(layer))


@functools.cache
def _recomputing(kind: type[nn.Module]) -> type[nn.Module]:
    def forward(self, *args, **kwargs):
        inside = functools.partial(kind.forward, self)
        if not torch.is_grad_enabled():
            return inside(*args, **kwargs)
        return checkpoint(inside, *args, use_reentrant=False, **kwargs)

    return type(kind.__name__, (kind,), {"forward": forward, "recomputed": kind})


def own_kind(layer: nn.Module) -> tuple[type[nn.Module], bool]:
    """A layer's class, and whether `checkpoint_layers` has had it computed again in the backward pass."""
    kind = getattr(type(layer), "recomputed", None)
    return (type(layer), False) if kind is None else (kind, True)
