"""What the CLI turns into a sentence: what the user can mend (exit code 2), a database that is away, a run that was
asked to stop."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from typing import Any


class UserError(Exception):
    """What the user got wrong, in one plain sentence: file, line, field, what was expected."""


class Unavailable(Exception):
    """The database cannot take this now. Of all that was asked for at most the very last commit may have been made.

    `passes`: locked, restarting, out of reach, which may be over in a while; else full, read-only, broken.
    """

    def __init__(self, why: str, *, passes: bool = True):
        super().__init__(why)
        self.passes = passes


class Stopped(Exception):
    """A run was asked to stop by `signal` and has saved all that it needs to go on."""

    def __init__(self, sentence: str, signal: int):
        super().__init__(sentence)
        self.signal = signal


def one_line(error: BaseException, most: int = 200) -> str:
    """What another library's exception says, on one line; its type where it says nothing."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """` (did you mean 'x'?)` for the nearest known word, or an empty string when none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f" (did you mean '{near[0]}'?)" if near else ""


def of_extra(module: str, extra: str, needs: str) -> Any:
    """A module of an extra; UserError where it is missing, which begins with who `needs` it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise UserError(f"{needs} {package}: pip install 'heedful[{extra}]'") from None
