"""Waiting for a database that is locked, restarts or cannot be reached: say so once, try again, go on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from heedful.errors import Unavailable, UserError

HOUR = 3600.0  # seconds for which a command goes on trying
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds between two attempts; each pause is twice as long
T = TypeVar("T")


def patiently(work: Callable[[], T], patience: float) -> T:
    """`work()`, again from its start while the database is away for the moment, for `patience` seconds at most.

    Whoever loses the connection in the middle of a commit cannot know whether it was made. So `work` is one whole
    transaction that does nothing twice: it looks for what it is to add. Raises what will not pass by itself (a full
    disk) at once, and UserError when the time is over.
    """
    pause, began = FIRST_PAUSE, None
    while True:
        try:
            result = work()
        except Unavailable as error:
            now = time.monotonic()
            if not error.passes or not patience:
                raise
            if began is None:
                began = now
                _say(f"the database is away ({error}); nothing is lost, and it is tried again")
            elif now - began > patience:
                raise UserError(
                    f"the database has been away for {(now - began) / 60:.0f} minutes ({error}); what was done is "
                    "kept, and the same command goes on"
                ) from error
            time.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)
            continue
        if began is not None:
            _say(f"the database is back after {time.monotonic() - began:.0f} s")
        return result


def _say(sentence: str) -> None:
    print(f"heedful: {sentence}", file=sys.stderr, flush=True)
