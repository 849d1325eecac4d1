"""Signing in, and the queue of passwords: argon2 takes 64 MiB and all cores for each of them, on purpose.

One is hashed at a time. Who waits is a coroutine, not a thread, so the other pages go on; and too many are told to come
again before they cost anything. The database is asked before and afterwards: when it is slow, nobody else's turn waits.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from heedful.store.database import limits
from heedful.store.database.db import Store
from heedful.store.membership import access, people
from heedful.store.tables.columns import sha256
from heedful.web import lanes, proxy
from heedful.web.security import Denied, refuse

T = TypeVar("T")
WAITING = 240  # for their turn, of everybody; a turn takes some 50 to 200 ms
OF_ADDRESS = 120  # of these from one address, behind which a whole team may be
# Seconds for others who write: whoever signs in sits in front of a form that does nothing.
PATIENCE = 3.0
WRONG = "login or password is wrong"

_turns = ThreadPoolExecutor(1, "passwords")
_lock = threading.Lock()
_waiting: Counter[str] = Counter()


@dataclass(frozen=True)
class Attempt:
    """To sign in: the account, if there is one, and what is given back if the password is right."""

    account: Any
    buckets: list[limits.Bucket]

    @property
    def password_hash(self) -> str | None:
        return self.account.password_hash if self.account else None


@asynccontextmanager
async def queue(request: Request) -> AsyncIterator[None]:
    """A place among those whose passwords are to be hashed; `Denied` where there are too many."""
    place = proxy.network(proxy.address(request))
    with _lock:
        if _waiting.total() >= WAITING or _waiting[place] >= OF_ADDRESS:
            text = "too many people are signing in at this moment; try again in a few seconds"
            raise Denied(503, text, 5.0)
        _waiting[place] += 1
    try:
        yield
    finally:
        with _lock:
            _waiting[place] -= 1
            if not _waiting[place]:
                del _waiting[place]


async def in_turn(work: Callable[[], T]) -> T:
    """What `work`, which hashes or verifies a password, returns when it is its turn."""
    return await asyncio.get_running_loop().run_in_executor(_turns, work)


async def written(work: Callable[[], T]) -> T:
    """What `work`, which writes into the database, returns, in a thread that such work may take."""
    async with lanes.place("sign-ins"):
        return await run_in_threadpool(work)


def impatient(store: Store) -> Store:
    """The store as those who sign in have it."""
    return replace(store, busy_seconds=min(PATIENCE, store.busy_seconds))


def begin(store: Store, login: str, *, place: str, device: str | None) -> Attempt:
    """An attempt to sign in to the account of a login; `Denied` where it was guessed at too often.

    Counted before the password is looked at, and given back if it is right: guesses made at once count as well. A
    `device` from which somebody has signed in to this account has a bucket of its own, which no guesser empties.
    """
    with store.write() as connection:
        if device and access.knows_device(connection, device, login):
            buckets = [(f"device:{sha256(device)}", limits.ACCOUNT_AT_ADDRESS)]
            wait = limits.take_all(connection, buckets)
        else:
            wait, buckets = limits.sign_in(connection, login, place)
        account = people.by_login(connection, login)
    refuse(wait)
    return Attempt(account, buckets)
