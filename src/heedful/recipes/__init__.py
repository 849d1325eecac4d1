"""One file a job: `run(config)`, to be read from top to bottom."""

from __future__ import annotations

import importlib
from typing import Any


def recipe_of(config: Any) -> Any:
    """The module whose `run` takes this config; imported here, for it is heavy."""
    name = type(config).__module__.rpartition(".")[2]
    return importlib.import_module(f"heedful.recipes.{name}")
