"""Python functions as tools: shown by the chat template, called by the policy, answered as the role tool."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers.utils import get_json_schema

from heedful.envs.chat import Chat, Env, Reply
from heedful.envs.formats import Call, CallFormat
from heedful.errors import UserError
from heedful.registry import load_file, load_function
from heedful.types import Task
from heedful.waiting import all_of

SECONDS = 10.0  # that a call may take
WRONG = "Error: "  # begins the answer to a call that was wrong
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,),
    "array": (list,), "object": (dict,),
}  # fmt: skip


class ToolError(Exception):
    """Raised by a tool to tell the policy, in words, what is wrong with its call."""


def tool_env(
    *functions: Callable[..., Any],
    score: Callable[[Task, Reply], float] | None = None,
    format: CallFormat | None = None,
    seconds: float = SECONDS,
) -> Env:
    """An environment in which the policy may call `functions` until it answers without a call; `score` of (task,
    answer) is the reward. A function's signature and docstring make its schema, as transformers reads them.

    The calls of a turn are answered side by side. One that cannot be read, that names no tool, has wrong arguments,
    takes too long, or whose function raises `ToolError`, is answered by a sentence. Any
    other error of a function is the environment's.
    """
    toolbox = {function.__name__: function for function in functions}
    schemas = [schema(function) for function in functions]

    async def tools(task: Task, chat: Chat) -> float | None:
        if schemas:
            chat.offer(schemas, format)
        reply = await chat.say()
        while reply.calls:
            await answer_calls(chat, reply.calls, toolbox, schemas, seconds)
            reply = await chat.say()
        return None if score is None else score(task, reply)

    return tools


async def answer_calls(
    chat: Chat,
    calls: Sequence[Call],
    toolbox: Mapping[str, Callable[..., Any]],
    schemas: Sequence[Mapping[str, Any]],
    seconds: float = SECONDS,
) -> list[str]:
    """Let the policy hear what its calls give, in their order; who goes on after an interruption asks no tool twice.
    How many there were and how many were wrong is logged as episodes/calls and episodes/wrong_calls."""

    async def one(number: int, call: Call) -> str:
        function = toolbox.get(call.name)
        if function is None or str(function.__module__).startswith(
            "heedful."
        ):  # calculations of ours
            return await answered(call, toolbox, schemas, seconds)
        asked = ["tool", number, call.name, json.dumps(call.arguments, sort_keys=True)]
        return await chat.once(asked, lambda: answered(call, toolbox, schemas, seconds))

    answers = await all_of(one(i, call) for i, call in enumerate(calls))
    for call, answer in zip(calls, answers, strict=True):
        chat.hear("tool", answer, name=call.name or None, call=call)
    chat.count("calls", len(calls))
    chat.count("wrong_calls", sum(answer.startswith(WRONG) for answer in answers))
    return answers


def load_tools(specs: Sequence[str]) -> list[Callable[..., Any]]:
    """`package.module:function`, several of a module with commas, or `./file.py`: the functions that are written there,
    have a docstring and no underscore in front."""
    found: dict[str, Callable[..., Any]] = {}
    for spec in specs:
        for function in _tools_of(spec):
            if found.setdefault(function.__name__, function) is not function:
                raise UserError(f"--tools: two tools are called '{function.__name__}'")
    return list(found.values())


def _tools_of(spec: str) -> list[Callable[..., Any]]:
    place, colon, names = spec.rpartition(":")
    if colon:
        return [load_function(f"{place}:{name.strip()}") for name in names.split(",")]
    if not spec.endswith(".py"):
        raise UserError(f"--tools {spec}: expected package.module:function or ./file.py")
    module = load_file(spec)
    functions = [
        f
        for name, f in vars(module).items()
        if inspect.isfunction(f)
        and f.__module__ == module.__name__
        and f.__doc__
        and not name.startswith("_")
    ]
    if not functions:
        raise UserError(f"--tools {spec}: no function with a docstring is written there")
    return functions


def schema(function: Callable[..., Any]) -> dict[str, Any]:
    """A function's JSON schema, in the form that chat templates take."""
    try:
        return get_json_schema(function)
    except Exception as error:  # several kinds, not all of them public
        raise UserError(
            f"the tool '{function.__name__}' needs type hints and a docstring with a line for each argument, such as "
            f"'x: a number', below 'Args:': {error}"
        ) from error


async def answered(
    call: Call,
    toolbox: Mapping[str, Callable[..., Any]],
    schemas: Sequence[Mapping[str, Any]],
    seconds: float = SECONDS,
) -> str:
    """What a call gives, as text; what is wrong with it begins with "Error: "."""
    function = toolbox.get(call.name)
    wrong = call.error
    if wrong is None and function is None:
        wrong = f"there is no tool '{call.name}'; there are {', '.join(toolbox)}"
    if wrong is None:
        wrong = _misfit(call, schemas[list(toolbox).index(call.name)]["function"]["parameters"])
    if wrong is not None or function is None:
        return f"{WRONG}{wrong}"
    try:
        if inspect.iscoroutinefunction(function):
            value = await asyncio.wait_for(function(**call.arguments), seconds)
        else:
            value = await asyncio.wait_for(in_thread(function, call.arguments), seconds)
    except TimeoutError:
        return f"{WRONG}'{call.name}' took longer than {seconds:g} seconds"
    except ToolError as error:
        return f"{WRONG}{error}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


async def in_thread(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """What a function returns, in a thread that nobody waits for at the end: it may hang for ever."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def deliver(value: Any, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(value)
        else:
            done.set_exception(error)

    def work() -> None:
        value, error = None, None
        try:
            value = function(**arguments)
        except BaseException as raised:
            error = (
                RuntimeError("a tool raised StopIteration")
                if isinstance(raised, StopIteration)
                else raised
            )
        if not loop.is_closed():
            loop.call_soon_threadsafe(deliver, value, error)

    threading.Thread(target=work, daemon=True).start()
    return await done


def _misfit(call: Call, parameters: Mapping[str, Any]) -> str | None:
    """What is wrong with the arguments of a call, None if nothing."""
    known = parameters.get("properties", {})
    if unknown := [name for name in call.arguments if name not in known]:
        return f"'{call.name}' has no argument '{unknown[0]}'; it has {', '.join(known) or 'none'}"
    if missing := [name for name in parameters.get("required", []) if name not in call.arguments]:
        return f"'{call.name}' needs the argument '{missing[0]}'"
    for name, value in call.arguments.items():
        wanted = known[name].get("type")
        kinds = TYPES.get(wanted) if isinstance(wanted, str) else None
        odd = kinds is not None and (
            not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)
        )
        if odd and not (value is None and known[name].get("nullable")):
            return f"the argument '{name}' of '{call.name}' must be of the type {wanted}"
    return None
