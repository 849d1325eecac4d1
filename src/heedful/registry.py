"""`package.module:function` on the command line."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from heedful.errors import UserError, did_you_mean


def load_function(spec: str) -> Callable[..., Any]:
    """Import a user's function; the current folder is searched too, as `python -m` would."""
    module_name, _, name = spec.partition(":")
    if not module_name or not name:
        raise UserError(f"'{spec}' is not of the form package.module:function")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise UserError(f"'{spec}': there is no module {module_name}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(
            f"'{spec}': module {module_name} has no function {name}{did_you_mean(name, vars(module))}"
        )
    return function
