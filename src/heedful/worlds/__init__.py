"""Small worlds in which the truth is known: text, prompts and gold scores from a seed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType

from heedful.errors import UserError, did_you_mean
from heedful.registry import load_function
from heedful.types import Prompt, Scorer

NAMES = ("capitals", "reviews", "arithmetic")


def get(name: str) -> ModuleType:
    """A world's module, with `write`, `gold`, `voice` and `VOICES`."""
    if name not in NAMES:
        raise UserError(
            f"there is no world '{name}'{did_you_mean(name, NAMES)}: {', '.join(NAMES)}"
        )
    return importlib.import_module(f"heedful.worlds.{name}")


def scorer(spec: str) -> Scorer:
    """A world's gold score by its name, or the user's own as package.module:function of (prompt, response)."""
    return load_function(spec) if ":" in spec else get(spec).gold


def voices(spec: str) -> Callable[[Prompt, str], str] | None:
    """What sorts responses into kinds, where a world has it."""
    return None if ":" in spec else get(spec).voice
