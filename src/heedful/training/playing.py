"""What a config says of an environment → how its episodes are played, and the tasks that they begin with."""

from __future__ import annotations

import functools
import traceback
from typing import Any, TypedDict

from heedful.configs.playing import Playing
from heedful.data.reading import Reading, Source
from heedful.data.shown import Judged
from heedful.data.sources import facts_of, prompt_of, stream_questions
from heedful.envs import Chat, Env, Limits, load_env
from heedful.envs.play import OnError
from heedful.envs.specs import Split, name_of, tasks_of
from heedful.envs.tools import load_tools, tool_env
from heedful.errors import UserError
from heedful.training.rows import Rows, read
from heedful.types import Facts, Prompt, Task


class Played(TypedDict, total=False):
    """What `rollout` is told besides; empty where the policy answers once."""

    env: Env
    limits: Limits
    on_error: OnError
    tool_format: str
    judged: Judged


def env_of(config: Playing) -> Env | None:
    """The environment that a config names, whose errors are told in a sentence; None where there is none."""
    if config.tools:
        return told(tool_env(*load_tools(config.tools)), " ".join(config.tools))
    if not config.env:
        return None
    return told(load_env(config.env, config.env_options), config.env)


def played(config: Playing, env: Env | None) -> Played:
    """How episodes are played with it."""
    if env is None:
        return {}
    limits = Limits(
        turns=config.max_turns, tokens=config.max_episode_tokens, env_seconds=config.env_seconds
    )
    return {
        "env": env,
        "limits": limits,
        "on_error": config.on_env_error,
        "tool_format": config.tool_format,
        "judged": config.judged,
    }


def asked(
    config: Any, env: Env | None, split: Split, source: Source | None = None
) -> Rows[tuple[Prompt, Facts]]:
    """The prompts of a config's data, or of another source, or the tasks that the environment brings along."""
    if config.data:
        return read(config, stream_questions, source)
    items = own_tasks(config, env, split)
    if items is None:
        raise UserError(f"--data is missing: the environment {config.env} has no tasks of its own")
    reading = Reading(rows=len(items))
    return Rows(f"env:{config.env}", config.on_bad_row, items, reading)


def own_tasks(
    config: Any, env: Env | None, split: Split
) -> list[tuple[str, tuple[Prompt, Facts]]] | None:
    """The tasks that an environment brings along, each with its place in words; None where it has none."""
    rows = tasks_of(env, split, config.seed)
    if rows is None:
        return None
    places = (f"task {number} of {config.env}" for number in range(1, len(rows) + 1))
    return [
        (place, (prompt_of(place, row), facts_of(row)))
        for place, row in zip(places, rows, strict=True)
    ]


def told(env: Env, spec: str) -> Env:
    """The environment, of whose errors one sentence says what and where."""

    @functools.wraps(env, assigned=("__doc__",))
    async def checked(task: Task, chat: Chat) -> float | None:
        try:
            return await env(task, chat)
        except UserError:
            raise
        except TimeoutError:  # of `play`, which knows whether it is the clock's
            raise
        except Exception as error:
            raise UserError(
                f"the environment {spec} raised {type(error).__name__}{_where(error)}: {error}; --on-env-error drop "
                "leaves such episodes out"
            ) from error

    checked.__name__ = name_of(env)
    for name in ("tasks", "players"):
        if (brought := getattr(env, name, None)) is not None:
            setattr(checked, name, brought)
    return checked


def _where(error: Exception) -> str:
    """The last place of the traceback that is not a library's."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if "site-packages" not in f.filename] or frames
    return f" ({theirs[-1].filename.rpartition('/')[2]}:{theirs[-1].lineno})" if theirs else ""
