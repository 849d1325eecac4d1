"""Replies of models in conversations, from a separate process that is started with the first message.

The server itself does not import torch, and a model that runs out of memory ends only that process.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

from heedful.errors import UserError
from heedful.web.models import Models

PATIENCE = 180.0  # seconds without a line from the process; the first includes loading
ENDED = "the models' process has ended; say it again"
WORKER = (sys.executable, "-m", "heedful.engine.talk")


def _without_paths(text: str, paths: Sequence[str], models: Sequence[str]) -> str:
    """Where the server keeps a model is nobody's business."""
    for path, model in zip(paths, models, strict=True):
        text = text.replace(path, model)
    return text


class Talk:
    """The process, and a queue for each reply that is awaited."""

    def __init__(self, models: Models, command: Sequence[str] = WORKER):
        self._models, self._command = models, tuple(command)
        self._process: asyncio.subprocess.Process | None = None
        self._waiting: dict[int, asyncio.Queue[dict[str, Any]]] = {}
        self._next = 0
        self._starting = asyncio.Lock()
        self._reader: asyncio.Task | None = None

    async def replies(
        self,
        models: Sequence[str],
        messages: Sequence[dict[str, str]],
        *,
        max_tokens: int,
        temperature: float,
        seeds: Sequence[int],
    ) -> AsyncIterator[int | list[dict[str, Any]]]:
        """Yield the number of tokens of all replies so far, now and then; at last the list of replies.

        A reply is {text, tokens, logprobs, finish_reason}. Raises `UserError` with what a model could not do.
        """
        paths = [self._models.path(model) for model in models]
        waiting = await self._start()
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        keys = list(range(self._next, self._next + len(models)))
        self._next += len(models)
        try:
            for key, path, seed in zip(keys, paths, seeds, strict=True):
                waiting[key] = queue
                await self._write(
                    {
                        "id": key,
                        "model": path,
                        "messages": list(messages),
                        "max_tokens": max_tokens,
                        "temperature": temperature,
                        "seed": seed,
                    }
                )
            counts: dict[int, int] = {}
            replies: dict[int, dict[str, Any]] = {}
            while len(replies) < len(keys):
                try:
                    line = await asyncio.wait_for(queue.get(), PATIENCE)
                except TimeoutError:
                    await self.close()
                    raise UserError("the model did not reply in time; say it again") from None
                if "error" in line:
                    raise UserError(_without_paths(line["error"], paths, models))
                if "heard" in line:
                    counts[line["id"]] = line["heard"]
                    yield sum(counts.values())
                else:
                    replies[line["id"]] = {k: v for k, v in line.items() if k != "id"}
            yield [replies[key] for key in keys]
        finally:
            for key in keys:
                waiting.pop(key, None)

    async def close(self) -> None:
        """End the process; the next message starts another."""
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
            raise UserError(ENDED)
        process.stdin.write(json.dumps(line).encode("ascii") + b"\n")
        try:
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise UserError(ENDED) from None

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
                queue.put_nowait({"id": key, "error": ENDED})
            if process.returncode is None:
                process.kill()
