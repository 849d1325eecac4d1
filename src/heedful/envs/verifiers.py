"""Environments of the `verifiers` library, `verifiers:ID`, unchanged: they ask the policy over the OpenAI API.

Tasks, harness, tools, users and rewards are the environment's own; its programs are sent to this process, each episode
with a key of its own. The reward is that of its traces. With the option `config`, a JSON object, its taskset is set up
(`config={"game": "Wordle-v0"}`); `limit` is how many tasks of an endless one are used.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from heedful.envs.chat import Chat, Env
from heedful.envs.openings import GAMES, package
from heedful.envs.served import MODEL, door
from heedful.envs.specs import Environment, Rows, Split
from heedful.errors import UserError
from heedful.registry import register
from heedful.types import Task

HELD_OUT = 5  # every so many-th task is one to evaluate on


@register(
    "adapter",
    "verifiers",
    help="ID: an environment of the verifiers library",
    source="verifiers 0.4",
)
def verifiers(
    name: str, *, config: Mapping[str, Any] | None = None, harness: str = "null", limit: int = GAMES
) -> Env:
    """The environment of an id, as `pip` or `prime env install` has installed it."""
    vf = package("verifiers.v1", "verifiers", f"verifiers:{name}")
    env = _made(name, config or {}, harness)
    loaded = list(itertools.islice(env.taskset.load(), limit))
    if not loaded:
        raise UserError(f"--env verifiers:{name}: it has no tasks")
    serving = _Serving(env)

    async def play(task: Task, chat: Chat) -> float | None:
        number = task.facts.get("task")
        if not isinstance(number, int) or not 0 <= number < len(loaded):
            raise UserError(
                f"verifiers:{name} plays its own tasks: leave the data away, or give rows a column `task` from 0 to "
                f"{len(loaded) - 1}"
            )
        async with serving.running(), door(chat) as (session, url, key):
            over = asyncio.Event()
            session.failed = over.set
            client = vf.EvalClientConfig(
                base_url=url, api_key_var="HEEDFUL_NO_KEY", headers={"X-Heedful-Episode": key}
            )
            context = vf.ModelContext(model=MODEL, client=client)
            episode = await _until(over, env.run_episode(loaded[number], context))
            if session.error is not None:
                raise session.error
            if chat.over is not None or episode is None:
                raise chat.truncate(chat.over or "turns")
        return _reward(episode, name)

    def tasks(split: Split, seed: int) -> Rows:
        held_out = split == "held_out"
        mine = [i for i in range(len(loaded)) if (i % HELD_OUT == HELD_OUT - 1) is held_out]
        return [{"prompt": _prompt(loaded[i]), "task": i} for i in mine or range(len(loaded))]

    return Environment(play, tasks, f"verifiers:{name}")


def _made(name: str, config: Mapping[str, Any], harness: str) -> Any:
    """The environment, all its agents' programs run here as processes."""
    loaders = package("verifiers.v1.utils.loaders", "verifiers", f"verifiers:{name}")
    try:
        roles = _roles(loaders.env_config_type(name)())
        here = {
            "runtime": {"type": "subprocess"},
            **({"harness": {"id": harness}} if harness else {}),
        }
        taskset = {"id": name, **config}
        made = {"taskset": taskset, **{role: dict(here) for role in roles}}
        return loaders.load_environment(loaders.resolve_env_config(made))
    except ModuleNotFoundError as error:
        raise UserError(f"--env verifiers:{name}: it is not installed ({error})") from error
    except (ValueError, TypeError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--env verifiers:{name}: {reason[:300]}") from error


def _roles(config: Any) -> list[str]:
    """The names of an environment's agents."""
    fields = package("verifiers.v1.configs.agent", "verifiers", "verifiers").agent_config_fields
    return list(fields(config))


class _Serving:
    """What an environment shares among its episodes, up while one of them is played."""

    def __init__(self, env: Any):
        self._env = env
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Up] = WeakKeyDictionary()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        up = self._loops.setdefault(asyncio.get_running_loop(), _Up())
        async with up.lock:
            if not up.users:
                up.context = self._env.serving()
                await up.context.__aenter__()
            up.users += 1
        try:
            yield
        finally:
            async with up.lock:
                up.users -= 1
                if not up.users:
                    await up.context.__aexit__(None, None, None)


@dataclass
class _Up:
    users: int = 0
    context: Any = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


async def _until(over: asyncio.Event, episode: Coroutine[Any, Any, Any]) -> Any:
    """What an episode of theirs is at its end; None where ours is over before."""
    work, stopped = asyncio.ensure_future(episode), asyncio.ensure_future(over.wait())
    try:
        await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
        return await work if work.done() else None
    finally:
        stopped.cancel()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


def _reward(episode: Any, name: str) -> float:
    errors = [*episode.errors, *(e for t in episode.traces for e in t.errors)]
    if not episode.ok:
        told = f"{errors[-1].type}: {errors[-1].message}" if errors else "it says not why"
        raise RuntimeError(f"verifiers:{name}: the episode failed: {told[:500]}")
    trained = [t for t in episode.traces if t.agent.trainable]
    return math.fsum(t.reward for t in trained) / max(1, len(trained))


def _prompt(task: Any) -> Any:
    """What a task says, for those who read the rows; the environment itself tells it to the policy."""
    data = task.data
    said = data.prompt if isinstance(data.prompt, str) else ""
    system = [{"role": "system", "content": data.system_prompt}] if data.system_prompt else []
    return [*system, {"role": "user", "content": said}]
