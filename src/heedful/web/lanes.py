"""Lanes: of the requests that take long or wait for others, so many at a time, so that the rest is answered quickly.

The server works in forty threads. Whoever waits here waits on the event loop and takes none of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import anyio
from anyio.lowlevel import RunVar

from heedful.errors import Unavailable

_limiters: RunVar[dict[str, anyio.CapacityLimiter]] = RunVar("heedful lanes")  # of this event loop


@dataclass(frozen=True)
class Lane:
    """At most `places` requests at a time, `queue` more that wait, none for longer than `seconds`."""

    places: int
    queue: int
    seconds: float


Name = Literal["writes", "reports", "imports", "sign-ins"]
LANES: dict[Name, Lane] = {
    "writes": Lane(20, 200, 5.0),  # half of the threads may wait for the database's one writer,
    "reports": Lane(6, 50, 20.0),  # and a few read for seconds
    "imports": Lane(2, 10, 30.0),
    "sign-ins": Lane(8, 240, 10.0),  # a class that comes in together, on a slow machine, too
}


@asynccontextmanager
async def place(name: Name) -> AsyncIterator[None]:
    """Have a place in a lane; raises `Unavailable` at once where too many wait, and later where none gets free."""
    lane, limiter = LANES[name], limiter_of(name)
    if limiter.statistics().tasks_waiting >= lane.queue:
        raise Unavailable(f"too many requests wait ({name})")
    borrower = object()  # not the task: it is released by another one where a response streams
    with anyio.move_on_after(lane.seconds) as waiting:
        await limiter.acquire_on_behalf_of(borrower)
    if waiting.cancelled_caught:
        raise Unavailable(f"no place became free in {lane.seconds:g} s ({name})")
    try:
        yield
    finally:
        limiter.release_on_behalf_of(borrower)


def limiter_of(name: Name) -> anyio.CapacityLimiter:
    """What counts the places, one for each event loop."""
    try:
        limiters = _limiters.get()
    except LookupError:
        limiters = {}
        _limiters.set(limiters)
    return limiters.setdefault(name, anyio.CapacityLimiter(LANES[name].places))
