"""Prompts to completions, with the log-probs of what was sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heedful import registry
from heedful.configs.engines import memory_of, servers_of
from heedful.types import Engine

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_engine(model: PreTrainedModel, spec: str = "local", **options: Any) -> Engine:
    """The engine of this name (`registry`), or `package.module:function`, that samples from a model; with addresses,
    `vllm:http://HOST:8000`, these are its option `servers`; of `vllm:0.5`, half is its option `memory`."""
    name, servers = servers_of(spec)
    more: dict[str, Any] = {"servers": servers} if servers else {}
    if (memory := memory_of(spec)) is not None:
        name, more = "vllm", {"memory": memory}
    return registry.load("engine", name)(model, **more, **options)
