"""Python functions as tools: shown by the chat template, called by the policy, answered as the role tool."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers.utils import get_json_schema

from heedful.envs.chat import Call, CallFormat, Chat, Env, Reply
from heedful.errors import UserError
from heedful.types import Task

SECONDS = 10.0  # that a call may take
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,),
    "array": (list,), "object": (dict,),
}  # fmt: skip


class ToolError(Exception):
    """Raised by a tool to tell the policy, in words, what is wrong with its call."""


class Hermes:
    """`<tool_call>{"name": …, "arguments": {…}}</tool_call>`, as Hermes and Qwen write."""

    CALL = re.compile(r"<tool_call>(.*?)(?:(</tool_call>)|(?=<tool_call>)|\Z)", re.DOTALL)

    def parse(self, text: str) -> tuple[str, tuple[Call, ...]]:
        """See `CallFormat`."""
        calls = tuple(self._call(m[1], closed=m[2] is not None) for m in self.CALL.finditer(text))
        return self.CALL.sub("", text).strip() if calls else text, calls

    @staticmethod
    def _call(text: str, *, closed: bool) -> Call:
        if not closed:
            return Call("", error="a <tool_call> is not closed by </tool_call>")
        try:
            call = json.loads(text)
            arguments = call.get("arguments", {}) if isinstance(call, dict) else None
            arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
        except (ValueError, RecursionError) as error:
            return Call("", error=f"a <tool_call> is no JSON: {error}")
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            return Call("", error='a <tool_call> needs {"name": …, "arguments": {…}}')
        if not isinstance(arguments, dict):
            return Call(call["name"], error="the arguments of a <tool_call> must be an object")
        return Call(call["name"], arguments)


def tool_env(
    *functions: Callable[..., Any],
    score: Callable[[Task, Reply], float] | None = None,
    format: CallFormat | None = None,
    seconds: float = SECONDS,
) -> Env:
    """An environment in which the policy may call `functions` until it answers without a call; `score` of (task,
    answer) is the reward. A function's signature and docstring make its schema, as transformers reads them.

    A call that cannot be read, that names no tool, has wrong arguments, takes too long, or whose function raises
    `ToolError`, is answered by a sentence. Any other error of a function is the environment's.
    """
    toolbox = {function.__name__: function for function in functions}
    schemas = [schema(function) for function in functions]
    written = format or Hermes()

    async def tools(task: Task, chat: Chat) -> float | None:
        chat.offer(schemas, written)
        reply = await chat.say()
        while reply.calls:
            for call in reply.calls:
                answer = await answered(call, toolbox, schemas, seconds)
                chat.hear("tool", answer, name=call.name or None)
            reply = await chat.say()
        return None if score is None else score(task, reply)

    return tools


def schema(function: Callable[..., Any]) -> dict[str, Any]:
    """A function's JSON schema, in the form that chat templates take."""
    try:
        return get_json_schema(function)
    except Exception as error:  # several kinds, not all of them public
        raise UserError(
            f"the tool '{function.__name__}' needs type hints and a docstring with a line for each argument: {error}"
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
        return f"Error: {wrong}"
    try:
        if inspect.iscoroutinefunction(function):
            value = await asyncio.wait_for(function(**call.arguments), seconds)
        else:
            value = await asyncio.wait_for(in_thread(function, call.arguments), seconds)
    except TimeoutError:
        return f"Error: '{call.name}' took longer than {seconds:g} seconds"
    except ToolError as error:
        return f"Error: {error}"
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
