"""The door to episodes for programs: one server in the event loop, on this machine only, a key for each."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from heedful.endpoint.app import create_app
from heedful.endpoint.errors import Refused
from heedful.endpoint.server import listen, serving
from heedful.envs.chat import Chat
from heedful.envs.session import Session

PREFIX = "heedful-episode-"
MODEL = "policy"  # by this name programs may ask for it, and by any other


class Sessions:
    """`endpoint.app.Desk`: who has the key of an open episode speaks in it."""

    models: tuple[str, ...] = (MODEL,)

    def __init__(self) -> None:
        self.url = ""
        self._open: dict[str, Session] = {}

    def open(self, session: Session, key: str | None = None) -> str:
        """The key by which requests speak in it from now on."""
        key = key or PREFIX + secrets.token_urlsafe(24)
        self._open[key] = session
        return key

    def close(self, key: str) -> None:
        """Requests with this key are refused from now on."""
        self._open.pop(key, None)

    def speaker(self, headers: Mapping[str, str], model: str) -> Session:
        """See `Desk`."""
        self.check(headers)
        return self._open[key_of(headers)]

    def check(self, headers: Mapping[str, str]) -> None:
        """See `Desk`."""
        if key_of(headers) not in self._open:
            raise Refused("this key has no open episode", status=401, code="invalid_api_key")


def key_of(headers: Mapping[str, str]) -> str:
    """The episode's key that a request names."""
    return headers.get("x-heedful-episode") or bearer(headers)


def bearer(headers: Mapping[str, str]) -> str:
    """The key of `Authorization: Bearer KEY`."""
    kind, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else ""


_running: WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = WeakKeyDictionary()


class _Shared:
    """A server that runs while somebody needs it."""

    def __init__(self) -> None:
        self.desk, self.users, self.lock = Sessions(), 0, asyncio.Lock()
        self.server = serving(create_app(self.desk), listen("127.0.0.1", 0))

    async def enter(self) -> None:
        async with self.lock:
            if not self.desk.url:
                self.desk.url = await self.server.__aenter__()

    async def leave(self) -> None:
        await self.server.__aexit__(None, None, None)


@asynccontextmanager
async def door(chat: Chat) -> AsyncIterator[tuple[Session, str, str]]:
    """An episode that is open while the block runs: its session, the server's address, the key."""
    loop = asyncio.get_running_loop()
    shared = _running.get(loop)
    if shared is None:
        shared = _running[loop] = _Shared()
    shared.users += 1
    session = Session(chat)
    key = shared.desk.open(session)
    try:
        await shared.enter()
        yield session, shared.desk.url, key
    finally:
        shared.desk.close(key)
        shared.users -= 1
        if not shared.users:
            del _running[loop]
            await shared.leave()
