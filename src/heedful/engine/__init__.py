"""Prompts to completions, with the log-probs of what was sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heedful import registry
from heedful.configs.engines import servers_of
from heedful.types import Engine

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_engine(model: PreTrainedModel, spec: str = "local", **options: Any) -> Engine:
    """The engine of this name (`registry`), or `package.module:function`, that samples from a model; with addresses,
    `vllm:http://HOST:8000`, these are its option `servers`."""
    name, servers = servers_of(spec)
    more = {"servers": servers} if servers else {}
    return registry.load("engine", name)(model, **more, **options)
