"""A process beside the server, which is asked in lines of JSON and answers in such lines (`remote.lines`).

The server itself imports neither torch nor anybody's environment, and what runs out of memory or hangs there ends only
that process.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from heedful.errors import UserError


class Worker:
    """The process, started when it is first asked, and a queue for each answer that is awaited. `ended` says, to
    whoever waits, that it has ended."""

    def __init__(self, command: Sequence[str], ended: str):
        self._command, self._ended = tuple(command), ended
        self._process: asyncio.subprocess.Process | None = None
        self._waiting: dict[int, asyncio.Queue[dict[str, Any]]] = {}
        self._next = 0
        self._starting = asyncio.Lock()
        self._reader: asyncio.Task | None = None

    async def ask(
        self, requests: Sequence[dict[str, Any]], patience: float
    ) -> AsyncGenerator[tuple[int, dict[str, Any]], None]:
        """(place among the requests, line), as the lines come; the caller leaves off when it has what it wants.

        Raises `TimeoutError` after `patience` seconds without a line, and ends the process; `UserError` where that has
        ended.
        """
        waiting = await self._start()
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        keys = range(self._next, self._next + len(requests))
        self._next += len(requests)
        try:
            for key, request in zip(keys, requests, strict=True):
                waiting[key] = queue
                await self._write({"id": key, **request})
            while True:
                try:
                    line = await asyncio.wait_for(queue.get(), patience)
                except TimeoutError:
                    await self.close()
                    raise
                if line.get("ended"):
                    raise UserError(self._ended)
                yield line["id"] - keys.start, line
        finally:
            for key in keys:
                waiting.pop(key, None)

    async def ask_one(self, request: dict[str, Any], patience: float) -> dict[str, Any]:
        """The line that answers a request of one line; raises as `ask` does."""
        async with aclosing(self.ask([request], patience)) as lines:
            return (await anext(lines))[1]

    async def close(self) -> None:
        """End the process; the next question starts another."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
        if self._reader is not None:
            self._reader.cancel()

    async def _start(self) -> dict[int, asyncio.Queue[dict[str, Any]]]:
        """Start the process unless it runs; returns its queues."""
        async with self._starting:
            if self._process is not None and self._process.returncode is None:
                return self._waiting
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=2**24,
                env=os.environ | {"TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "0"},
            )
            self._waiting = {}
            self._reader = asyncio.ensure_future(self._read(self._process, self._waiting))
            return self._waiting

    async def _write(self, line: dict[str, Any]) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise UserError(self._ended)
        process.stdin.write(json.dumps(line).encode("ascii") + b"\n")
        try:
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise UserError(self._ended) from None

    async def _read(
        self,
        process: asyncio.subprocess.Process,
        waiting: dict[int, asyncio.Queue[dict[str, Any]]],
    ) -> None:
        assert process.stdout
        try:
            while raw := await process.stdout.readline():
                line = json.loads(raw)
                if queue := waiting.get(line["id"]):
                    queue.put_nowait(line)
        finally:
            # Its output ends before its exit code is known, and no message may be sent to it in between.
            if self._process is process:
                self._process = None
            for key, queue in list(waiting.items()):
                queue.put_nowait({"id": key, "ended": True})
            if process.returncode is None:
                process.kill()
