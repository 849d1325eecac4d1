"""`--env` on the command line → an environment.

calculator                       one of ours, or of an installed package
pkg.mod:env   ./file.py:env      a user's: a coroutine of (task, chat), or a function of options that returns one
gym:ID   openenv:ws://…          another library's, by an adapter: `@register("adapter", "gym", help=…)` beside a
                                 function of what stands behind the colon, and of options
calculator(digits=3)             with options, which `--env-options digits=3` gives, too
"""

from __future__ import annotations

import functools
import inspect
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from heedful import registry
from heedful.calls import OPTION, call, option, typed
from heedful.envs.chat import Chat, Env
from heedful.errors import UserError, did_you_mean
from heedful.types import Task

Split = Literal["train", "held_out"]
Rows = Sequence[Mapping[str, Any]]
# A scripted player: of a task's row and of random numbers, who says what a policy would (`envs.plain.Speaker`).
Player = Callable[[Mapping[str, Any], random.Random], Any]


@dataclass(frozen=True)
class Environment:
    """An environment with tasks of its own, so that nobody need give it any: `tasks` of (split, seed) are rows with a
    `prompt`, and columns that are the task's facts; None where they must be given. `players` are scripts that play
    it, by name."""

    play: Env
    tasks: Callable[[Split, int], Rows | None]
    name: str = "environment"
    players: Mapping[str, Player] = field(default_factory=dict)

    async def __call__(self, task: Task, chat: Chat) -> float | None:
        return await self.play(task, chat)


def load_env(spec: str, options: Sequence[str] | Mapping[str, Any] = ()) -> Env:
    """An environment by its name, by an adapter's prefix, or the user's; see above. `options` are texts `name=value`,
    as typed, or values by their names. UserError for what is none, and for options that it has not."""
    target, arguments = call(f"--env {spec}", spec)
    values: Mapping[str, Any] = {}
    if isinstance(options, Mapping):
        values = options
    else:
        arguments = [*arguments, *_assignments(spec, options)]
    prefix, colon, rest = target.partition(":")
    if colon and prefix in registry.entries("adapter"):
        adapter = registry.entries("adapter")[prefix].load()
        return _made(spec, functools.partial(adapter, rest), arguments, values)
    if not colon and target not in (known := registry.entries("environment")):
        if target.endswith(".py"):
            raise UserError(f"--env {spec}: which function of the file? --env {target}:NAME")
        raise UserError(
            f"there is no environment '{target}'{did_you_mean(target, known)}: {', '.join(known)}; one of yours is "
            "package.module:env or ./file.py:env"
        )
    found = registry.load("environment", target)
    if not is_env(found):
        if (
            inspect.isfunction(found)
            and {"task", "chat"} <= inspect.signature(found).parameters.keys()
        ):
            raise UserError(f"--env {spec}: {target} must be a coroutine, `async def`")
        return _made(spec, found, arguments, values)
    given = _options(spec, found, arguments, values, keywords=True)
    return _with(found, given) if given else found


def is_env(thing: Any) -> bool:
    """Whether it is an environment itself, not something that makes one: a coroutine function, or an object whose call
    is one."""
    if inspect.iscoroutinefunction(thing):
        return True
    return not isinstance(thing, type) and inspect.iscoroutinefunction(
        getattr(type(thing), "__call__", None)  # noqa: B004
    )


def name_of(env: Any) -> str:
    """What messages call an environment."""
    return str(getattr(env, "__name__", None) or getattr(env, "name", None) or type(env).__name__)


def tasks_of(env: Any, split: Split, seed: int) -> Rows | None:
    """The tasks that an environment brings along, None where it has none: any environment may have such a `tasks`."""
    make = getattr(env, "tasks", None)
    return None if make is None else make(split, seed)


def player_of(env: Any, name: str) -> Player:
    """A scripted player of an environment; UserError with the nearest name where there is none."""
    players = getattr(env, "players", {})
    if name not in players:
        there = ", ".join(players) or "none"
        raise UserError(
            f"--player {name}: {name_of(env)} has no such player{did_you_mean(name, players)}; it has {there}"
        )
    return players[name]


def _with(env: Any, given: Mapping[str, Any]) -> Env:
    @functools.wraps(env)
    async def with_options(task: Task, chat: Chat) -> float | None:
        return await env(task, chat, **given)

    return with_options


def _assignments(spec: str, options: Sequence[str]) -> list[str]:
    for text in options:
        if not OPTION.fullmatch(text):
            raise UserError(f"--env-options {text}: expected name=value, for {spec}")
    return list(options)


def _made(
    spec: str, make: Callable[..., Any], arguments: Sequence[str], values: Mapping[str, Any]
) -> Env:
    given = _options(spec, make, arguments, values)
    try:
        env = make(**given)
    except (TypeError, ValueError) as error:
        raise UserError(f"--env {spec}: {error}") from error
    if not is_env(env):
        raise UserError(
            f"--env {spec}: expected a coroutine `async def name(task, chat)`, or a function of options that returns "
            f"one, not what gives a {type(env).__name__}"
        )
    return env


def _options(
    spec: str,
    function: Callable[..., Any],
    arguments: Sequence[str],
    values: Mapping[str, Any],
    *,
    keywords: bool = False,
) -> dict[str, Any]:
    """The options in their types. A function with `**options` takes any; of a coroutine they stand behind a bare *."""
    name = call(spec, spec)[0]
    known = list(inspect.signature(function).parameters.values())
    offered = {
        p.name: p
        for p in known
        if p.kind is p.KEYWORD_ONLY or (p.kind is p.POSITIONAL_OR_KEYWORD and not keywords)
    }
    if any(p.kind is p.VAR_KEYWORD for p in known):
        named = [option(a)[0] for a in arguments if OPTION.fullmatch(a)]
        free = inspect.Parameter.KEYWORD_ONLY
        offered |= {n: inspect.Parameter(n, free) for n in (*named, *values) if n not in offered}
    given = typed(f"--env {spec}", name, offered, arguments)
    if unknown := [n for n in values if n not in offered]:
        raise UserError(f"--env {spec}: {name} has no option '{unknown[0]}'")
    given |= values
    missing = [n for n, p in offered.items() if p.default is p.empty and n not in given]
    if missing:
        raise UserError(f"--env {spec}: {name} needs the option '{missing[0]}'")
    return given
