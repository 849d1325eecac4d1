"""The simplest environment: the policy answers once. What the answer is worth, rewards say."""

from __future__ import annotations

from heedful.envs.chat import Chat
from heedful.registry import register
from heedful.types import Task


@register("environment", "ask", help="the policy answers once")
async def ask(task: Task, chat: Chat) -> None:
    """One turn."""
    await chat.say()
