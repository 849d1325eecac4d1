"""An environment behind an OpenEnv server, `openenv:ws://HOST:PORT`, by the generic client of `openenv-core`.

Of one with MCP tools these are the policy's, and an answer without a call ends the episode. Of others the policy's
answer is the action: its text is the value of the action's only field, or of the one that the option `action` names;
where an action has several, the answer is a JSON object. Each episode is a session of the server's of its own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from heedful.envs.chat import Chat, Env
from heedful.envs.openings import SECONDS, next_move, package, seed_of, seeded, with_first
from heedful.envs.specs import Environment
from heedful.envs.tools import WRONG
from heedful.errors import UserError
from heedful.registry import register
from heedful.types import Task

BESIDE = ("metadata", "done", "reward", "type", "timeout_s")  # fields that say nothing of the game


@register(
    "adapter",
    "openenv",
    help="ws://HOST:PORT: an environment of OpenEnv's",
    source="openenv-core 0.3",
)
def openenv(url: str, *, action: str = "", at_once: int = 8, seconds: float = SECONDS) -> Env:
    """The environment of a server, asked what its actions are. `at_once` episodes are played at the same time."""
    spec = f"openenv:{url}"
    client = package("openenv.core.generic_client", "openenv", spec).GenericEnvClient
    offered = _schema(url, spec)
    properties = offered.get("properties", {})
    with_tools = {"tool_name", "arguments"} <= set(properties)
    moves = _Moves({k: v for k, v in properties.items() if k not in BESIDE}, action, spec)
    places: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    async def play(task: Task, chat: Chat) -> float | None:
        loop = asyncio.get_running_loop()
        async with places.setdefault(loop, asyncio.Semaphore(at_once)):
            env = client(base_url=url, message_timeout_s=seconds, mode="simulation")
            async with env:
                shown = await env.reset(seed=seed_of(task.facts, chat.rng))
                chat.begin(with_first(task.prompt, _text(shown.observation)))
                await (_with_tools(env, chat) if with_tools else _moving(env, chat, moves))
        return None

    told = "" if with_tools else moves.told
    return Environment(play, seeded(told), spec)


async def _moving(env: Any, chat: Chat, moves: _Moves) -> None:
    while True:
        shown = await env.step(await next_move(chat, moves))
        if shown.reward is not None:
            chat.reward(shown.reward)
        if shown.done:
            return
        chat.hear("user", _text(shown.observation) or "Go on.")


async def _with_tools(env: Any, chat: Chat) -> None:
    listed = (await env.step({"type": "list_tools"})).observation
    chat.offer([_tool(tool) for tool in listed.get("tools", [])])
    while (reply := await chat.say()).calls:
        over = False
        for call in reply.calls:
            if call.error is not None:
                chat.count("wrong_calls", 1)
                chat.hear("tool", WRONG + call.error, name=call.name or None, call=call)
                continue
            asked = {"type": "call_tool", "tool_name": call.name, "arguments": call.arguments}
            shown = await env.step(asked)
            chat.hear("tool", _answer(shown.observation), name=call.name, call=call)
            if shown.reward:
                chat.reward(shown.reward)
            over = over or shown.done
        if over:
            return


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool of MCP's as chat templates have it."""
    parameters = tool.get("input_schema") or tool.get("inputSchema") or {"type": "object"}
    function = {"name": tool["name"], "description": tool.get("description") or ""}
    return {"type": "function", "function": {**function, "parameters": parameters}}


def _answer(observation: Mapping[str, Any]) -> str:
    """What a call has given."""
    if error := observation.get("error"):
        told = error.get("message", error) if isinstance(error, dict) else error
        return f"{WRONG}{told}"
    result = observation.get("result")
    if isinstance(result, dict):
        texts = [part.get("text") for part in result.get("content") or () if isinstance(part, dict)]
        if texts and all(isinstance(text, str) for text in texts):
            prefix = WRONG if result.get("is_error") or result.get("isError") else ""
            return prefix + "\n".join(map(str, texts))
        result = result.get("data", result)
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


class _Moves:
    """How answers become actions."""

    def __init__(self, fields: Mapping[str, Any], action: str, spec: str):
        if action and action not in fields:
            raise UserError(
                f"--env {spec}: an action has no field '{action}'; it has {', '.join(fields)}"
            )
        self.field = action or (next(iter(fields)) if len(fields) == 1 else "")
        self.kind = fields.get(self.field, {}).get("type", "string")
        self.told = f"Answer with your move: {self._expected(fields)}."

    def _expected(self, fields: Mapping[str, Any]) -> str:
        if not self.field:
            return f"a JSON object with {', '.join(fields)}"
        about = fields[self.field]
        choices = about.get("enum") or about.get("description") or self.kind
        return (
            ", ".join(map(str, choices)) if isinstance(choices, list) else str(choices).rstrip(".")
        )

    def of(self, said: str) -> dict[str, Any] | None:
        """The action; None if it cannot be read as one."""
        if self.field and self.kind == "string":
            return {self.field: said.strip()}
        try:
            value = json.loads(said)
        except (ValueError, RecursionError):
            return None
        if self.field:
            return {self.field: value}
        return value if isinstance(value, dict) else None


def _schema(url: str, spec: str) -> dict[str, Any]:
    """What the server says of its actions."""
    import httpx

    if not url.startswith(("ws://", "wss://", "http://", "https://")):
        raise UserError(f"--env {spec}: expected openenv:ws://HOST:PORT")
    web = "http" + url.removeprefix("ws").removeprefix("http")
    try:
        reply = httpx.get(f"{web.rstrip('/')}/schema", timeout=20.0)
        return dict(reply.raise_for_status().json()["action"])
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--env {spec}: no OpenEnv server answers there ({error})") from error


def _text(observation: Any) -> str:
    """What an observation tells: its only text, or all its fields as JSON."""
    if not isinstance(observation, dict):
        return str(observation)
    said = {k: v for k, v in observation.items() if k not in BESIDE and v is not None}
    if len(said) == 1 and isinstance(text := next(iter(said.values())), str):
        return text
    return json.dumps(said, ensure_ascii=False) if said else ""
