"""Waiting for several things at once, so that the failure of one is told alone."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Result = TypeVar("Result")


async def all_of(
    awaitables: Iterable[Awaitable[Result]], tick: Callable[[int], None] | None = None
) -> list[Result]:
    """What each returns, in their order, all awaited at the same time; `tick` is told how many are done.

    When one raises, the others are cancelled and waited for before its exception is: `asyncio.gather` leaves them
    running, and their own exceptions are printed as tracebacks when the event loop is closed.
    """
    import asyncio  # help and refusals need not pay for it

    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    done = itertools.count(1)

    def count(task: asyncio.Task[Result] | asyncio.Future[Result]) -> None:
        if tick is not None and not task.cancelled() and task.exception() is None:
            tick(next(done))

    for task in tasks:
        task.add_done_callback(count)
    try:
        return await asyncio.gather(*tasks)
    except GeneratorExit:  # nobody waits for this any more, and its event loop may be gone
        raise
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
