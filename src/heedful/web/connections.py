"""Connections that say nothing must not keep others out.

uvicorn waits for ever for a request's first line, for its headers and for somebody who does not take a response, and
accepts connections until the system has no more. A proxy knows better; this is for where there is none.
"""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = (
    10.0  # from a connection, or the response before, to the end of a request's headers
)
TAKE_SECONDS = 60.0  # in which a client must take something of a response that waits for it
MOST = 1000  # connections
HEADERS = 65_536  # bytes of a request's headers
SPARE = 128  # files that are left for everything else


class Connection(H11Protocol):
    """uvicorn's protocol with deadlines; where there are too many, the one that has been silent for longest goes."""

    heard = 0.0  # when the client last sent something, by the loop's clock
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.heard = self.loop.time()
        self._expect_headers()
        if len(self.connections) > most_connections():
            self._make_room()

    def data_received(self, data: bytes) -> None:
        self.heard = self.loop.time()
        super().data_received(data)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_headers()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taking = self.loop.call_later(TAKE_SECONDS, self._drop)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._taking is not None:
            self._taking.cancel()

    @property
    def waits(self) -> bool:
        """It is the client's turn: no request has come, or its body is not whole."""
        cycle = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body

    def _expect_headers(self) -> None:
        # A timer is not cancelled: what it was for is over if there is another request by then.
        self.loop.call_later(HEADER_SECONDS, self._late, self.cycle)

    def _late(self, cycle: Any) -> None:
        if self.cycle is cycle and (cycle is None or cycle.response_complete):
            self._drop()

    def _make_room(self) -> None:
        """End the connection that has been silent for longest, this one at worst; nobody's request is cut off."""
        live: list[Any] = [c for c in self.connections if not c.transport.is_closing()]
        if len(live) > most_connections():
            min((c for c in live if c.waits), key=lambda c: c.heard)._drop()

    def _drop(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()


@cache
def most_connections() -> int:
    """As many as the system has files for, after asking for more; at most `MOST`."""
    try:
        import resource
    except ImportError:  # no Unix
        return MOST
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST + SPARE if hard == resource.RLIM_INFINITY else min(MOST + SPARE, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return MOST if soft == resource.RLIM_INFINITY else max(8, min(MOST, soft - SPARE))
