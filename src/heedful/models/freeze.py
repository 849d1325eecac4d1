"""Which layers of a model stay as they are."""

from __future__ import annotations

from itertools import takewhile

from transformers import PreTrainedModel

from heedful.errors import UserError
from heedful.fast.layers import layers_of


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
