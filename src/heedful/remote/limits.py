"""Asking somebody over the network: how many at once, how long, how often again, and what is kept of the answers."""

from __future__ import annotations

import asyncio
import inspect
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from heedful.errors import UserError
from heedful.remote.journal import MISSING, Journal, digest, recording

SLOW = 0.02  # seconds: a function that is not awaited and takes longer may well have asked somebody
FIRST_PAUSE, LONGEST_PAUSE = (
    0.5,
    30.0,
)  # seconds before the first retry; each next one is twice as long
_jitter = random.Random()  # of its own: the global generator belongs to the user's functions


class Again(Exception):
    """What was asked may be asked again, after so many seconds if the one who was asked said so."""

    def __init__(self, why: str, after: float | None = None):
        super().__init__(why)
        self.after = after


@dataclass(eq=False)
class Limits:
    """`concurrency` calls at once, each `timeout` seconds at most and tried `retries` times more, pauses doubling.

    With a `cache`, a file of JSON lines, an answer is on disk before anybody sees it, and nobody is asked twice; so it
    is without one within `journal.recorded`, unless what is asked is a calculation of ours (not `recorded`).
    When one call has failed for good, no other is begun, and those on their way are waited for: what was paid for
    is kept.
    """

    concurrency: int = 32
    timeout: float | None = None
    retries: int = 0
    cache: Path | None = None
    recorded: bool = True
    _journal: Journal | None = None
    _pending: dict[str, asyncio.Event] = field(default_factory=dict)
    _free: WeakKeyDictionary[Any, asyncio.Semaphore] = field(default_factory=WeakKeyDictionary)
    _error: Exception | None = None
    _asking: int = 0
    _inside: int = 0

    def __post_init__(self) -> None:
        if (
            self.concurrency < 1
            or self.retries < 0
            or (self.timeout is not None and self.timeout <= 0)
        ):
            raise ValueError("concurrency counts from 1, retries from 0, timeout is in seconds")

    async def awaited(
        self,
        ask: Callable[[], Any],
        key: Any,
        name: str,
        *,
        of: str = "",
        kept: Callable[[Any], Any] = lambda answer: answer,
    ) -> Any:
        """What `ask` returns, awaited within the limits if it must be, as `kept` has it.

        `key`, JSON's kinds, says what was asked, `name` who, for messages, and `of` who, for good: a name may come to
        mean somebody else. What is found in the cache, or in the recording of this piece of work, is not asked.
        """
        self._inside += 1
        try:
            if self.cache is not None:
                return await self._from_cache(ask, key, name, kept)
            past = recording() if self.recorded else None
            if past is None:
                return kept((await self._answer(ask, name))[0])
            place = past.key([of, key])
            if (answer := past.find(place)) is not MISSING:
                return answer
            answer, costly = await self._answer(ask, name)
            answer = kept(answer)
            if costly and (told := plain(answer)) is not MISSING:
                past.write(place, told)
            return answer
        finally:
            self._inside -= 1
            if not self._inside:  # everybody has heard of it: who asks again may try
                self._error = None

    async def _from_cache(
        self, ask: Callable[[], Any], key: Any, name: str, kept: Callable[[Any], Any]
    ) -> Any:
        assert self.cache is not None
        if self._journal is None:
            self._journal = Journal(self.cache)
        place = digest(key)
        while place in self._pending:  # somebody here is asking just this
            await self._pending[place].wait()
        if (answer := self._journal.find(place)) is not MISSING:
            return answer
        self._pending[place] = asyncio.Event()
        try:
            answer, costly = await self._answer(ask, name)
            answer = kept(answer)
            if costly and (told := plain(answer)) is not MISSING:
                self._journal.write(place, told)
            return answer
        finally:
            self._pending.pop(place).set()

    async def _answer(self, ask: Callable[[], Any], name: str) -> tuple[Any, bool]:
        """What `ask` returns, and whether it took long enough to be kept: what does not wait is a calculation."""
        began = time.monotonic()
        value = ask()
        if not inspect.isawaitable(value):
            return value, time.monotonic() - began >= SLOW
        free = self._free.setdefault(
            asyncio.get_running_loop(), asyncio.Semaphore(self.concurrency)
        )
        try:
            async with free:
                return await self._asked(value, ask, name), True
        finally:
            if inspect.iscoroutine(value):
                value.close()  # nothing where it was awaited; who is cancelled in the queue never awaits it

    async def _asked(self, begun: Awaitable[Any], ask: Callable[[], Any], name: str) -> Any:
        if self._error is None:
            first = [begun]
            self._asking += 1
            try:
                return await self._tried(lambda: first.pop() if first else ask(), name)
            except Exception as error:
                self._error = self._error or error
            finally:
                self._asking -= 1
        while self._asking:  # others are on their way, and paid for
            await asyncio.sleep(0.01)
        raise self._error

    async def _tried(self, ask: Callable[[], Awaitable[Any]], name: str) -> Any:
        for attempt in range(self.retries + 1):
            try:
                return await asyncio.wait_for(ask(), self.timeout)
            except UserError:
                raise
            except Exception as error:
                if attempt == self.retries:
                    if isinstance(error, TimeoutError | Again):
                        why = str(error) or f"no answer within {self.timeout:g} seconds"
                        tries = f", {attempt + 1} times" if attempt else ""
                        raise UserError(f"{name}: {why}{tries}") from error
                    raise
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * (0.5 + _jitter.random() / 2)
                after = error.after if isinstance(error, Again) else None
                await asyncio.sleep(pause if after is None else min(after, 10 * LONGEST_PAUSE))


def plain(answer: Any) -> Any:
    """An answer as JSON's kinds, numbers of numpy and torch as Python's; MISSING of what is no answer to go by again: a
    word, what is not finite, what has no such form."""
    if isinstance(answer, str):
        return MISSING
    try:
        text = json.dumps(answer, default=lambda value: value.tolist(), allow_nan=False)
    except (TypeError, ValueError, AttributeError):
        return MISSING
    return json.loads(text)
