"""Playing for a return: before each of its turns the policy is told how much is still to be earned (`train decision`).

What is told is what it was trained on: the message that it hears last says the target less what came since.
"""

from __future__ import annotations

from typing import Any, cast

from heedful.data.logged import with_return
from heedful.envs.chat import Chat, Env
from heedful.envs.specs import Environment, name_of, tasks_of
from heedful.envs.turn import Reply
from heedful.errors import UserError
from heedful.types import Message, Prompt, Task


def for_return(env: Env, target: float) -> Env:
    """The environment, in which the policy plays for `target`."""

    async def play(task: Task, chat: Chat) -> float | None:
        return await env(task, cast(Chat, ReturnChat(chat, task.prompt, target)))

    if tasks_of(env, "train", 0) is None:
        play.__name__ = name_of(env)
        return play
    return Environment(play, env.tasks, name_of(env))  # type: ignore[attr-defined]


class ReturnChat:
    """`chat.Chat`, whose messages wait until the policy speaks: only then it is known which is the last."""

    def __init__(self, chat: Chat, prompt: Prompt, target: float):
        self._chat, self._prompt, self._left = chat, prompt, target
        self._heard: list[tuple[Message, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chat, name)

    def begin(self, prompt: Prompt, tokens: Any = ()) -> None:
        """The conversation's beginning, as it will be told."""
        self._chat.begin(prompt)
        self._prompt = prompt

    def hear(self, role: str, text: str, **how: Any) -> None:
        """What is told, later."""
        self._heard.append((Message(role, text), how))

    async def say(self, **how: Any) -> Reply:
        """What the policy says once it has been told everything, and what is still to come."""
        if self._heard:
            last, beside = self._heard[-1]
            self._heard[-1] = with_return(last, self._left), beside
        elif not self._chat.spoken:
            if isinstance(self._prompt, str):
                raise UserError(
                    "--target-return needs a prompt that is a conversation, not plain text"
                )
            *before, last = self._prompt
            self._chat.begin((*before, with_return(last, self._left)))
        heard, self._heard = self._heard, []
        for message, beside in heard:
            self._chat.hear(message.role, message.content, **beside)
        return await self._chat.say(**how)

    def reward(self, value: float, part: str = "env") -> None:
        """As `Chat.reward`; so much less is to come."""
        self._chat.reward(value, part)
        self._left -= value

    def fork(self, *which: Any, **how: Any) -> ReturnChat:
        """As `Chat.fork`, with the same to be earned."""
        fork = ReturnChat(self._chat.fork(*which, **how), self._prompt, self._left)
        fork._heard = list(self._heard)
        return fork
