"""Turns of a conversation, and how JSON has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `role` is `system`, `developer`, `user`, `assistant` or `tool`.

    `tool_calls` are what an assistant asks for, in the form that chat templates take: `{"type": "function",
    "function": {"name": …, "arguments": {…}}}`. A tool's answer has the function's `name`, and the call's id if any.
    What a chat template is told besides the turns stands with the first of them: the `tools` that may be called, as
    JSON schemas, and the template's own variables, such as `enable_thinking`.
    """

    role: str
    content: str
    tool_calls: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    name: str | None = None
    tool_call_id: str | None = None
    tools: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    template_kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __getitem__(self, name: str) -> Any:
        """`message["content"]`, as the functions that people have read messages."""
        if name not in self.__slots__:
            raise KeyError(name)
        return getattr(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        """As of a dictionary that has what is set."""
        value = getattr(self, name) if name in self.__slots__ else None
        return default if value is None or value == () else value


# A conversation that a response answers, or plain text that a response continues.
Prompt = str | tuple[Message, ...]


def turn_to_json(message: Message) -> dict[str, Any]:
    """A turn as files and chat templates have it; what it lacks is left out, and so is what stands beside the turns."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = [dict(call) for call in message.tool_calls]
    optional = {"name": message.name, "tool_call_id": message.tool_call_id}
    return turn | {key: value for key, value in optional.items() if value is not None}


def message_to_json(message: Message) -> dict[str, Any]:
    """A turn with all that it holds, as the database keeps it."""
    beside = {
        "tools": [dict(tool) for tool in message.tools],
        "chat_template_kwargs": dict(message.template_kwargs),
    }
    return turn_to_json(message) | {key: value for key, value in beside.items() if value}


def message_from_json(turn: Mapping[str, Any]) -> Message:
    """The inverse of `message_to_json`."""
    return Message(
        turn["role"],
        turn["content"],
        tuple(turn.get("tool_calls", ())),
        turn.get("name"),
        turn.get("tool_call_id"),
        tuple(turn.get("tools", ())),
        turn.get("chat_template_kwargs", {}),
    )
