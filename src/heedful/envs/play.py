"""One episode, from its task to its record."""

from __future__ import annotations

import asyncio
import logging
from typing import Literal

from heedful.envs.chat import Chat, Env, EpisodeOver, Record, finite
from heedful.envs.clock import Clock
from heedful.envs.specs import name_of
from heedful.errors import UserError
from heedful.types import Episode, Task

log = logging.getLogger("heedful")
OnError = Literal["stop", "drop"]


async def play(env: Env, record: Record, on_error: OnError = "stop") -> Episode | None:
    """The episode of `record.task`. What the environment returns is the reward at its end.

    An error of the environment's goes on, with the task named; with "drop" it is logged and there is no episode.
    """
    record.clock = Clock(record.limits.env_seconds)
    chat, task = Chat(record), record.task
    value: float | None = None
    try:
        async with asyncio.timeout(record.limits.seconds) as clock, record.clock.running:
            value = await env(task, chat)
    except EpisodeOver:
        pass
    except Exception as error:
        if clock.expired() or record.clock.running.expired():
            record.end("time")
        elif on_error == "drop":
            log.warning("dropped an episode: %s: %s (%s)", type(error).__name__, error, _name(task))
            return None
        else:
            error.add_note(f"in the environment {name_of(env)}, {_name(task)}")
            raise
    if not record.over and not any(c.spoken for c in record.chats):
        reason = (
            f"the environment {name_of(env)} ended before the policy said anything ({_name(task)})"
        )
        if on_error == "stop":
            raise UserError(reason)
        log.warning("dropped an episode: %s", reason)
        return None
    return ended(record, value)


def ended(record: Record, value: float | None = None) -> Episode:
    """What has been recorded, as an episode; `value` is the reward at its end."""
    task, reward = record.task, 0.0
    if value is not None and not record.over:
        reward = finite(value, f"what an environment returned ({_name(task)})")
        record.parts["env"] = record.parts.get("env", 0.0) + reward
    return Episode(
        prompt=task.prompt,
        branches=record.branches(),
        ended="truncated" if record.over else "terminated",
        cause=record.over,
        reward=reward,
        parts=dict(record.parts),
        facts=dict(task.facts),
        counts=dict(record.counts),
        tools=tuple(record.tools),
        shown=record.shown,
    )


def _name(task: Task) -> str:
    prompt = task.prompt
    last = prompt if isinstance(prompt, str) else "".join(m.content for m in prompt[-1:])
    return f"at the task {last[:80]!r}"
