"""Environments of TRL's GRPOTrainer, `trl:package.module.Class`, unchanged; `trl` itself is not needed.

The class (or a function that makes one) is what TRL calls `environment_factory`: `reset(**row)` may return text, which
follows the prompt; public methods are tools; `get_reward()`, if there is one, is the reward at the end. As there, what
a tool raises is told to the policy, and what it returns is told as `str` of it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from heedful.envs.chat import Chat, Env
from heedful.envs.openings import SECONDS, with_first, within
from heedful.envs.tools import ToolError, answered, schema
from heedful.errors import UserError
from heedful.registry import load_function, register
from heedful.types import Message, Task
from heedful.types.messages import turn_to_json

OWN = ("reset", "get_reward")


@register(
    "adapter",
    "trl",
    help="package.module.Class: an environment of TRL's GRPOTrainer",
    source="TRL 1.16",
)
def trl(place: str, *, seconds: float = SECONDS) -> Env:
    """The environment of a class. A tool that takes longer than `seconds` is told so."""
    if ":" not in place:
        place = ":".join(place.rsplit(".", 1))
    factory = load_function(place)
    kind = factory if isinstance(factory, type) else type(factory())
    if not callable(getattr(kind, "reset", None)):
        raise UserError(f"--env trl:{place}: an environment of TRL's has a method reset")
    names = [n for n, _ in inspect.getmembers(kind, inspect.isfunction) if n not in OWN]
    names = [n for n in names if not n.startswith("_")]

    async def play(task: Task, chat: Chat) -> float | None:
        env = factory()
        said = await _call(env.reset, seconds, place, **_row(task))
        if said is not None:
            chat.begin(with_first(_conversation(task), str(said)))
        elif isinstance(task.prompt, str):
            chat.begin(_conversation(task))
        methods = {name: getattr(env, name) for name in names}
        toolbox = {name: _telling(method) for name, method in methods.items()}
        schemas = [schema(method) for method in methods.values()]
        if schemas:
            chat.offer(schemas)
        reply = await chat.say()
        while reply.calls:
            # One after the other, in their order: they share the environment's state.
            for call in reply.calls:
                answer = await answered(call, toolbox, schemas, seconds)
                chat.hear("tool", answer, name=call.name or None, call=call)
            reply = await chat.say()
        if not hasattr(env, "get_reward"):
            return None
        return await _call(env.get_reward, seconds, place)

    play.__name__ = f"trl:{place}"
    return play


def _row(task: Task) -> dict[str, Any]:
    """A row as TRL gives it to reset."""
    return {"prompt": [turn_to_json(m) for m in _conversation(task)], **task.facts}


def _conversation(task: Task) -> tuple[Message, ...]:
    return (Message("user", task.prompt),) if isinstance(task.prompt, str) else task.prompt


async def _call(function: Callable[..., Any], seconds: float, place: str, **arguments: Any) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(**arguments)
    return await within(seconds, f"trl:{place}", function, **arguments)


def _telling(method: Callable[..., Any]) -> Callable[..., Any]:
    """A tool that tells its errors, and its values as `str`."""
    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def later(**arguments: Any) -> str:
            try:
                return str(await method(**arguments))
            except Exception as error:
                raise ToolError(str(error)) from error

        return later

    @functools.wraps(method)
    def now(**arguments: Any) -> str:
        try:
            return str(method(**arguments))
        except Exception as error:
            raise ToolError(str(error)) from error

    return now
