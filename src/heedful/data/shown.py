"""An episode as one text, which raters compare and reward models score, and the way back to its messages.

    assistant: Let me work that out.
    call: {"name": "calculate", "arguments": {"expression": "37 * 48"}}
    tool calculate: 1776
    assistant: It is 1776.

All lines of a message but its first are indented by two spaces. So nothing that the policy or a tool says can look
like another message: only what the environment and the policy really said begins a line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from heedful.types import Episode, Message

Judged = Literal["turn", "episode"]  # what raters and rewards see of an episode
TURN = re.compile(r"(system|developer|user|assistant|tool|call)(?: ([\w.-]+))?: ?(.*)", re.DOTALL)
NO_NAME = re.compile(r"[^\w.-]+")


def as_text(messages: Iterable[Message]) -> str:
    """The messages as one text; ids of calls are left out."""
    lines = []
    for m in messages:
        name = NO_NAME.sub("_", m.name or "")
        lines.append(_turn(f"{m.role} {name}" if name else m.role, m.content))
        lines += (
            _turn("call", json.dumps(call.get("function", call), ensure_ascii=False))
            for call in m.tool_calls
        )
    return "\n".join(lines)


def _turn(who: str, text: str) -> str:
    return f"{who}: {text}".replace("\n", "\n  ")


def as_messages(text: str) -> list[Message] | None:
    """The inverse of `as_text`; None where the text has another form."""
    messages: list[Message] = []
    for part in re.split(r"\n(?!  )", text):
        found = TURN.fullmatch(part)
        if not found:
            return None
        role, name, content = found[1], found[2], found[3].replace("\n  ", "\n")
        if role != "call":
            messages.append(Message(role, content, name=name))
            continue
        try:
            call = json.loads(content)
        except (ValueError, RecursionError):
            return None
        if not messages or messages[-1].role != "assistant":
            return None
        calls = (*messages[-1].tool_calls, {"type": "function", "function": call})
        messages[-1] = replace(messages[-1], tool_calls=calls)
    return messages


def whole(episode: Episode) -> Episode:
    """The episode of which raters and rewards see all that came after its task's prompt, unless its environment shows
    something else."""
    return episode if episode.shown is not None else replace(episode, shown=story(episode))


def story(episode: Episode) -> str:
    """All that came after the prompt, as one text; with a prompt that the environment wrote anew."""
    prompt = episode.prompt
    asked = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    said, start = episode.messages, 0
    while start < min(len(asked), len(said)) and asked[start] == said[start]:
        start += 1
    return as_text(said[start:])
