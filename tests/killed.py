"""A death within one process, for tests in which it happens in the middle of something."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class Killed(SystemExit):
    """In place of SIGKILL, within one process: an event loop, too, ends at once, with whatever it was about to do."""


@contextmanager
def killed_after(number: int, owner: object, name: str) -> Iterator[None]:
    """The process dies when it has done this so many times."""
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
        with pytest.raises(Killed):
            yield
    gc.collect()  # what was cut off in the middle is torn down now, not in the middle of what comes next
