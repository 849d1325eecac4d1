"""Signing in, and the queue of passwords: argon2 takes 64 MiB and all cores for each of them, on purpose.

One is hashed at a time. Who waits is a coroutine, not a thread, so the other pages go on; and too many are told to come
again before they cost anything.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import Request

from heedful.store import access, limits, people
from heedful.store.db import Store
from heedful.web import proxy
from heedful.web.security import PAUSED, Denied, refuse

T = TypeVar("T")
WAITING = 240  # for their turn, of everybody; a turn takes some 50 to 100 ms
OF_ADDRESS = 120  # of these from one address, behind which a whole team may be
WRONG = "login or password is wrong"

_turns = ThreadPoolExecutor(1, "passwords")
_lock = threading.Lock()
_waiting: Counter[str] = Counter()


async def in_turn(request: Request, work: Callable[[], T]) -> T:
    """What `work`, which hashes or verifies a password, returns when it is its turn."""
    place = proxy.network(proxy.address(request))
    with _lock:
        if _waiting.total() >= WAITING or _waiting[place] >= OF_ADDRESS:
            text = "too many people are signing in at this moment; try again in a few seconds"
            raise Denied(503, text, 5.0)
        _waiting[place] += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(_turns, work)
    finally:
        with _lock:
            _waiting[place] -= 1
            if not _waiting[place]:
                del _waiting[place]


def sign_in(
    store: Store, login: str, password: str, *, place: str, device: str | None = None
) -> Any:
    """The account of a login and its password; `Denied` where they are wrong, or guessed too often.

    Taken before the password is looked at, and given back if it is right: guesses made at once count as well. A
    `device` from which somebody has signed in to this account has a bucket of its own, which no guesser empties.
    """
    with store.write() as connection:
        if device and access.knows_device(connection, device, login):
            buckets = [(f"device:{access.sha256(device)}", limits.ACCOUNT_AT_ADDRESS)]
            wait = limits.take_all(connection, buckets)
        else:
            wait, buckets = limits.sign_in(connection, login, place)
    refuse(wait)
    with store.read() as connection:
        account = people.by_login(connection, login)
    verified = people.verify_password(account.password_hash if account else None, password)
    if not account or not verified or account.status == "gone":
        raise Denied(401, WRONG)
    with store.write() as connection:
        limits.give_back(connection, buckets)
    if account.status != "active":
        raise Denied(403, PAUSED)
    return account
