"""The time that an environment takes for itself: it stands still while the policy speaks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Within `running`, a TimeoutError comes after so many seconds outside of `stopped`; None: never."""

    def __init__(self, seconds: float | None = None):
        # Without a limit there need be no event loop.
        self.running = asyncio.Timeout(None) if seconds is None else asyncio.timeout(seconds)
        self._left, self._speaking = seconds, 0

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """While this lasts, also several times at once, no time is taken."""
        if self._left is None:
            yield
            return
        loop, when = asyncio.get_running_loop(), self.running.when()
        if not self._speaking and when is not None:
            self._left = when - loop.time()
            self.running.reschedule(None)
        self._speaking += 1
        try:
            yield
        finally:
            self._speaking -= 1
            if not self._speaking and not self.running.expired():
                self.running.reschedule(loop.time() + self._left)
