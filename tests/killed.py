"""A death within one process, for tests in which it happens in the middle of something."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest


class Killed(SystemExit):
    """In place of SIGKILL, within one process: an event loop, too, ends at once, with whatever it was about to do."""


def killed_after(number: int, owner: object, name: str, work: Callable[..., Any], *args) -> None:
    """`work(*args)` in a process that dies when it has done this so many times.

    A call, not a context: what was cut off in the middle lives as long as the exception, which an `__exit__` still
    holds, and would be torn down in the middle of a later test. There asyncio prints tracebacks, for which Python 3.11
    parses code; where that test parses code itself, its parser fails ("AST constructor recursion depth mismatch").
    """
    real, calls = getattr(owner, name), 0

    def dies(*args, **kwargs):
        nonlocal calls
        result = real(*args, **kwargs)
        calls += 1
        if calls == number:
            raise Killed
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, dies)
        try:
            work(*args)
        except Killed:
            pass
        else:
            pytest.fail(f"{name} was called {calls} times only")
    gc.collect()
