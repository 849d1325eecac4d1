"""Prompts to completions, with the log-probs of what was sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heedful import registry
from heedful.types import Engine

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_engine(model: PreTrainedModel, spec: str = "local", **options: Any) -> Engine:
    """The engine of this name (`registry`), or `package.module:function`, that samples from a model."""
    return registry.load("engine", spec)(model, **options)
