"""A turn of the policy: how it is asked for, what it is, and where a conversation stands behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol

from heedful.envs.formats import Call
from heedful.types import Completion, Message, Segment, StopReason


@dataclass(frozen=True, slots=True)
class Reply:
    """What the policy said: its text without the end of turn, the tools that it calls, how it stopped."""

    text: str
    calls: tuple[Call, ...]
    stop_reason: StopReason


class Speak(Protocol):
    """Asks the policy. `place` are numbers that no other turn of the episode has, from which its seed is made."""

    def __call__(
        self, tokens: Sequence[int], *, place: tuple[int, ...], max_tokens: int,
        stop: Sequence[int], keep: bool,
    ) -> Awaitable[Completion]: ...  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a chat stood at some time: `Chat.fork` goes on from there."""

    messages: tuple[Message, ...]
    shown: tuple[Message, ...]  # as the template is: with the raw text of the policy's turns
    heard: tuple[Message, ...] = ()
    segments: tuple[Segment, ...] = ()
    text: str | None = None  # of the conversation, once it is needed
    turns: int = 0
