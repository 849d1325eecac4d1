"""Micro-batches, one global normaliser, backward, clip, step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heedful import registry

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from heedful.learner.local import Forward, LocalLearner, Optim


def load_learner(
    model: PreTrainedModel, forward: Forward, optim: Optim, spec: str = "local", **options: Any
) -> LocalLearner:
    """The learner of this name (`registry`), or `package.module:function`, that moves a model's weights."""
    return registry.load("learner", spec)(model, forward, optim, **options)
