"""Small worlds in which the truth is known: text, prompts and gold scores from a seed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType

from heedful import registry
from heedful.registry import load_function
from heedful.types import Prompt, Scorer


def get(name: str) -> ModuleType:
    """A world's module, with `write`, `gold`, `voice` and `VOICES`; its `write` is what is registered."""
    return importlib.import_module(registry.entry("world", name).target.partition(":")[0])


def is_world(spec: str) -> bool:
    """Whether this names a world."""
    return spec in registry.entries("world")


def scorer(spec: str) -> Scorer:
    """A world's gold score by its name, or the user's own as package.module:function of (prompt, response)."""
    return load_function(spec) if ":" in spec else get(spec).gold


def voices(spec: str) -> Callable[[Prompt, str], str] | None:
    """The world's function that sorts responses into its `VOICES`; None for another score."""
    return get(spec).voice if is_world(spec) else None
