"""A conversation without a model: what is said is text, by a person in the terminal or by the script of a test.

row = rehearse(guess, {"prompt": "A number?", "secret": 7}, ["3", "7"])
assert row["reward"] == 1.0 and row["ended"] == "terminated"
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from heedful.data.episodes import transcript_row
from heedful.data.sources import facts_of, prompt_of
from heedful.envs.chat import Env, Reply
from heedful.envs.formats import Call, CallFormat, Hermes, as_template, from_python
from heedful.envs.limits import Cause, EpisodeOver, Left, finite
from heedful.envs.specs import name_of
from heedful.errors import UserError
from heedful.types import Branch, Episode, Facts, Message, Prompt, Segment, Task

# Is told what was heard since the last turn, and the tools that there are; returns what is said, None at the end.
Speaker = Callable[[Sequence[Message], Sequence[Mapping[str, Any]]], Awaitable[str | None]]
CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*\(.*\)\s*", re.DOTALL)


class LeftOff(EpisodeOver):
    """Who speaks has nothing more to say."""


class PlainChat:
    """`chat.Chat` without tokens. Calls of tools are typed as `name(argument=value)`, or as Hermes writes them."""

    def __init__(self, task: Task, speaker: Speaker, *, turns: int | None = None, seed: str = "0"):
        prompt = task.prompt
        self.facts: Facts = task.facts
        self.rng = random.Random(f"{seed}/()")
        self.begin(prompt)
        self.rewards: list[float] = []
        self.parts: dict[str, float] = {}
        self.counts: dict[str, float] = {}
        self.tools: list[Mapping[str, Any]] = []
        self.over = False
        self.shown: str | None = None
        self._speaker, self._most, self._told = speaker, turns, 0

    @property
    def left(self) -> Left:
        turns = math.inf if self._most is None else self._most - len(self.rewards)
        return Left(turns, math.inf, math.inf)

    @property
    def spoken(self) -> int:
        return len(self.rewards)

    def begin(self, prompt: Prompt) -> None:
        self.messages = [Message("user", prompt)] if isinstance(prompt, str) else [*prompt]

    def offer(self, tools: Sequence[Mapping[str, Any]], format: CallFormat | None = None) -> None:
        self.tools = list(tools)

    def hear(
        self, role: str, text: str, *, name: str | None = None, call: Call | None = None
    ) -> None:
        self.messages.append(Message(role, text, name=name, tool_call_id=call.id if call else None))

    async def say(self, *, stop: Sequence[str] = (), max_tokens: int | None = None) -> Reply:
        if self.left.turns < 1:
            self.over = True
            raise EpisodeOver("turns")
        said = await self._speaker(self.messages[self._told :], self.tools)
        if said is None:
            self.over = True
            raise LeftOff("turns")
        words, calls = self._read(said)
        wrong = any(c.error for c in calls)
        made = () if wrong else tuple(map(as_template, calls))
        self.messages.append(Message("assistant", said if wrong else words, made))
        self._told = len(self.messages)
        self.rewards.append(0.0)
        return Reply(said, calls, "stop")

    def _read(self, said: str) -> tuple[str, tuple[Call, ...]]:
        known = {tool["function"]["name"] for tool in self.tools}
        typed = CALL.fullmatch(said)
        if typed and typed[1] in known:
            words, calls = "", tuple(from_python(said.strip()))
        else:
            words, calls = Hermes().parse(said) if known else (said, ())
        number = len(self.rewards) + 1
        ids = (f"c{number:04d}{k:04d}" for k in range(len(calls)))
        return words, tuple(
            Call(c.name, c.arguments, c.error, i) for c, i in zip(calls, ids, strict=True)
        )

    def reward(self, value: float, part: str = "env") -> None:
        if not self.rewards:
            raise UserError("a reward is for something that the policy said: say() comes first")
        value = finite(value, f"the reward '{part}' of an environment")
        self.rewards[-1] += value
        self.parts[part] = self.parts.get(part, 0.0) + value

    def count(self, name: str, number: float) -> None:
        self.counts[name] = self.counts.get(name, 0.0) + number

    def show(self, text: str) -> None:
        self.shown = text

    def truncate(self, cause: Cause) -> EpisodeOver:
        self.over = True
        return EpisodeOver(cause)

    async def once(self, asked: Any, work: Callable[[], Awaitable[Any]]) -> Any:
        return await work()

    def fork(self) -> PlainChat:
        raise UserError("this environment branches, and nobody can play two conversations at once")


async def played_by(
    env: Env, row: Mapping[str, Any], speaker: Speaker, *, turns: int | None = None, seed: int = 0
) -> Episode:
    """One episode in which `speaker` says what a policy would. `row` has a `prompt`, and the task's facts."""
    task = Task(prompt_of("a task", row), (), (), facts_of(row))
    chat = PlainChat(task, speaker, turns=turns, seed=f"{seed}/0/0")
    value: float | None = None
    with contextlib.suppress(EpisodeOver):
        value = await env(task, chat)  # type: ignore[arg-type]
    if not chat.rewards and not chat.over:
        raise UserError(f"the environment {name_of(env)} ended before anybody said anything")
    reward = 0.0
    if value is not None and not chat.over:
        reward = finite(value, "what an environment returned")
        chat.parts["env"] = chat.parts.get("env", 0.0) + reward
    said = tuple(Segment((), "policy", reward=r) for r in chat.rewards)
    return Episode(
        prompt=task.prompt,
        branches=(Branch(tuple(chat.messages), said),),
        ended="truncated" if chat.over else "terminated",
        cause="turns" if chat.over else None,
        reward=reward,
        parts=chat.parts,
        facts=dict(task.facts),
        counts=chat.counts,
        tools=tuple(chat.tools),
        shown=chat.shown,
    )


def rehearse(env: Env, row: Mapping[str, Any], said: Iterable[str], **how: Any) -> dict[str, Any]:
    """The transcript of an episode in which these texts are said, one a turn: for tests of environments. Where there
    are no more of them, the episode is truncated."""
    texts = iter(said)

    async def speaker(heard: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> str | None:
        return next(texts, None)

    work = played_by(env, row, speaker, **how)
    with ThreadPoolExecutor(1) as alone:  # of a notebook, too, whose own loop is running
        return transcript_row(alone.submit(asyncio.run, work).result(), 0, "script", 0)
