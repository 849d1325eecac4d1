"""Any program that drives a model over the OpenAI API as an environment: `program:CMD`.

The command runs once an episode, with OPENAI_BASE_URL and OPENAI_API_KEY set so that all that it asks is this episode,
and the task as a line of JSON on its standard input: {"prompt": …, "facts": {…}, "seed": …}. What it prints last is the
reward: a number, or {"reward": …}, with {"parts": {name: …}} if it likes. It is run as it is, with your rights: a
sandbox is your affair.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import signal
from typing import Any

from heedful.envs.chat import Chat, Env
from heedful.envs.limits import finite
from heedful.envs.served import MODEL, door
from heedful.envs.session import Session
from heedful.errors import UserError
from heedful.registry import register
from heedful.types import Task
from heedful.types.messages import message_to_json

SECONDS = 600.0  # that an episode's program may take
KEPT = 1 << 16  # bytes of what it prints that are looked at, the last ones


@register("adapter", "program", help="CMD: a command that drives the policy over the OpenAI API")
def program(command: str, *, seconds: float = SECONDS) -> Env:
    """The environment of a command. A program that takes longer than `seconds` is ended, its episode truncated; one
    that fails is an error, as of any environment."""
    words = shlex.split(command)
    if not words:
        raise UserError("program: needs a command, such as --env 'program:python agent.py'")
    if shutil.which(words[0]) is None:
        raise UserError(f"program:{command}: there is no program {words[0]}")

    async def run(task: Task, chat: Chat) -> float | None:
        async with door(chat) as (session, url, key):
            given = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": key, "OPENAI_MODEL": MODEL}
            printed = await _run(words, given, _told(task, chat), session, chat, seconds)
        return _reward(printed, command, chat)

    run.__name__ = f"program:{command}"
    return run


def _told(task: Task, chat: Chat) -> bytes:
    prompt: Any = task.prompt
    if not isinstance(prompt, str):
        prompt = [message_to_json(message) for message in prompt]
    told = {"prompt": prompt, "facts": dict(task.facts), "seed": chat.rng.getrandbits(31)}
    return json.dumps(told, ensure_ascii=False, default=str).encode() + b"\n"


async def _run(
    words: list[str],
    given: dict[str, str],
    told: bytes,
    session: Session,
    chat: Chat,
    seconds: float,
) -> bytes:
    """What the program has printed, the end of it. It is no more when this returns or raises."""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | given,
        start_new_session=True,
    )
    over = asyncio.Event()
    session.failed = over.set
    work = asyncio.ensure_future(_talked(process, told))
    stopped = asyncio.ensure_future(over.wait())
    try:
        await asyncio.wait([work, stopped], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if session.error is not None:
            raise session.error
        if chat.over is not None:
            raise chat.truncate(chat.over)
        if not work.done():
            raise chat.truncate("time")
        printed, complaint = await work
    finally:
        stopped.cancel()
        await _ended(process, work)
    if process.returncode:
        last = complaint.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
        raise RuntimeError(f"{words[0]} ended with {process.returncode}: {last[0][:300]}")
    return printed


async def _talked(process: asyncio.subprocess.Process, told: bytes) -> tuple[bytes, bytes]:
    assert process.stdin and process.stdout and process.stderr
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not read
        process.stdin.write(told)
        await process.stdin.drain()
    process.stdin.close()
    said = await asyncio.gather(_last_of(process.stdout), _last_of(process.stderr))
    await process.wait()
    return said[0], said[1]


async def _last_of(stream: asyncio.StreamReader) -> bytes:
    """The end of what is said there, however much it is."""
    kept = b""
    while piece := await stream.read(KEPT):
        kept = (kept + piece)[-KEPT:]
    return kept


async def _ended(process: asyncio.subprocess.Process, work: asyncio.Future[Any]) -> None:
    """The program and what it has started are gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await process.wait()


def _reward(printed: bytes, command: str, chat: Chat) -> float | None:
    lines = printed.decode(errors="replace").strip().splitlines()
    if not lines:
        return None
    try:
        said = json.loads(lines[-1])
    except ValueError:
        said = lines[-1]
    what = f"the last line that program:{command} printed"
    if not isinstance(said, dict):
        return finite(said, what)
    for name, value in (said.get("parts") or {}).items():
        chat.reward(finite(value, f"{what}, part '{name}',"), str(name))
    value = said.get("reward")
    return None if value is None else finite(value, what)
