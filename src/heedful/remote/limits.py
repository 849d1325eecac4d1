"""Asking somebody over the network: how many at once, how long, how often again, and what is kept of the answers."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from heedful.errors import UserError

FIRST_PAUSE, LONGEST_PAUSE = (
    0.5,
    30.0,
)  # seconds before the first retry; each next one is twice as long


class Again(Exception):
    """What was asked may be asked again, after so many seconds if the one who was asked said so."""

    def __init__(self, why: str, after: float | None = None):
        super().__init__(why)
        self.after = after


@dataclass(eq=False)
class Limits:
    """`concurrency` calls at once, each `timeout` seconds at most and tried `retries` times more, pauses doubling.

    With a `cache`, a file of JSON lines, an answer is on disk before anybody sees it, and nobody is asked twice.
    When one call has failed for good, no other is begun, and those on their way are waited for: what was paid for
    is kept.
    """

    concurrency: int = 32
    timeout: float | None = None
    retries: int = 0
    cache: Path | None = None
    _free: WeakKeyDictionary[Any, asyncio.Semaphore] = field(default_factory=WeakKeyDictionary)
    _known: dict[str, Any] | None = None
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

    async def awaited(self, ask: Callable[[], Any], key: Any, name: str) -> Any:
        """What `ask` returns, awaited within the limits if it must be; `key`, JSON's kinds, says what was asked,
        `name` who."""
        digest = None
        if self.cache is not None:
            text = json.dumps(key, sort_keys=True, default=repr, ensure_ascii=True)
            digest = hashlib.sha256(text.encode()).hexdigest()
            if digest in self.known():
                return self.known()[digest]
        value = ask()
        if not inspect.isawaitable(value):
            return value
        free = self._free.setdefault(
            asyncio.get_running_loop(), asyncio.Semaphore(self.concurrency)
        )
        self._inside += 1
        try:
            async with free:
                answer = await self._asked(value, ask, name)
        finally:
            if inspect.iscoroutine(value):
                value.close()  # nothing where it was awaited; who is cancelled in the queue never awaits it
            self._inside -= 1
            if not self._inside:  # everybody has heard of it: who asks again may try
                self._error = None
        if digest is not None:
            self.keep(digest, answer)
        return answer

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
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * (0.5 + random.random() / 2)
                after = error.after if isinstance(error, Again) else None
                await asyncio.sleep(pause if after is None else min(after, 10 * LONGEST_PAUSE))

    def known(self) -> dict[str, Any]:
        """What the cache has; a last line that was cut off is no answer."""
        if self._known is None:
            self._known = {}
            assert self.cache is not None
            if self.cache.exists():
                for line in self.cache.read_bytes().split(b"\n"):
                    try:
                        row = json.loads(line)
                        key, answer = row["key"], row["answer"]
                        if row.get("sum", _sum(key, answer)) == _sum(key, answer):
                            self._known[key] = answer
                    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                        continue  # cut off, or damaged: it is asked again
        return self._known

    def keep(self, digest: str, answer: Any) -> None:
        """An answer, on disk at once: a line is one write, so that several processes may share the file."""
        assert self.cache is not None
        self.known()[digest] = answer
        self.cache.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"key": digest, "answer": answer, "sum": _sum(digest, answer)})
        with open(self.cache, "a+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            # A line that was cut off takes no other with it.
            file.write((("" if file.read(1) in (b"", b"\n") else "\n") + line + "\n").encode())


def _sum(key: str, answer: Any) -> str:
    text = json.dumps([key, answer], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
