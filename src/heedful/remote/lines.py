"""A process that is asked in lines of JSON and answers in such lines: what a server starts beside itself."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

Send = Callable[[dict[str, Any]], None]


async def answer_lines(reply: Callable[[dict[str, Any], Send], Awaitable[None]]) -> None:
    """Let `reply` answer each line, all of them at the same time, until the input ends."""
    # Whatever libraries print must not end up between the answers.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    sys.stdout = sys.stderr
    reader = asyncio.StreamReader(limit=2**24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    def send(line: dict[str, Any]) -> None:
        out.write(json.dumps(line) + "\n")
        out.flush()

    running = set()
    while line := await reader.readline():
        task = asyncio.ensure_future(reply(json.loads(line), send))
        running.add(task)
        task.add_done_callback(running.discard)
