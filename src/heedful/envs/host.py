"""The process in which people play environments from the browser, asked in lines of JSON, so that the server itself
imports none of them. The environments that there are are named on its command line.

    → {"id": 0, "env": "calculator", "check": true}
    ← {"id": 0}                                            it is an environment
    → {"id": 1, "env": "calculator", "seed": 0, "first": 1, "tasks": 20}
    ← {"id": 1, "prompts": […]}
    → {"id": 2, "env": "calculator", "seed": 0, "task": 3, "prompt": …, "max_turns": 8, "play": "…", "said": ["2"]}
    ← {"id": 2, "log": [messages since the prompt], "tools": […], "text": "all that was heard since the last turn"}
                                and, once it is over, "play": {text, episode, messages, tools}
    ← {"id": 2, "error": "one sentence"}

A play goes on where it stands as long as this process lives, which asks no tool twice; in a new process what was said
so far is said again, and the same seed leads to the same place. It ends when its input does.
"""

from __future__ import annotations

import asyncio
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from heedful.data.episodes import played_of, transcript_row
from heedful.data.shown import as_text, story, whole
from heedful.data.sources import prompt_of
from heedful.envs.chat import Env
from heedful.envs.plain import played_by
from heedful.envs.specs import load_env, tasks_of
from heedful.errors import UserError
from heedful.remote.lines import Send, answer_lines
from heedful.types import Episode, Message
from heedful.types.messages import message_to_json

MOST_PLAYS = 200  # going on; of those the one that was not gone on with for longest begins anew
Rows = Sequence[Mapping[str, Any]]


class Play:
    """An episode that waits for what is said next."""

    def __init__(self, env: Env, row: Mapping[str, Any], turns: int, seed: int):
        prompt = prompt_of("a task", row)
        self._prompt = (Message("user", prompt),) if isinstance(prompt, str) else prompt
        self._said: list[str] = []
        self._log: list[Message] = []  # since the prompt
        self._texts: asyncio.Queue[str] = asyncio.Queue()
        self._news: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._last: dict[str, Any] | None = None
        work = played_by(env, row, self._speaker, turns=turns, seed=seed)
        self._episode = asyncio.ensure_future(work)

    async def go(self, said: Sequence[str]) -> dict[str, Any] | None:
        """Where it stands when all this has been said, of which it has heard the beginning; None: it has not."""
        if self._said != [*said][: len(self._said)]:
            return None
        last = self._last or await self._next()
        for text in said[len(self._said) :]:
            if "play" in last:
                break
            self._said.append(text)
            self._log.append(Message("assistant", text))
            self._texts.put_nowait(text)
            last = await self._next()
        self._last = last
        return last

    def close(self) -> None:
        self._episode.cancel()

    async def _speaker(self, heard: Sequence[Message], tools: Rows) -> str:
        fresh = [*heard]
        if not self._said and tuple(fresh[: len(self._prompt)]) == self._prompt:
            del fresh[: len(self._prompt)]  # which stands above, on the page
        self._log += fresh
        log = as_text(self._log)
        self._news.put_nowait({"log": log, "tools": [*tools], "text": as_text(fresh)})
        return await self._texts.get()

    async def _next(self) -> dict[str, Any]:
        """What it hears before it may speak again, or how it ended."""
        news = asyncio.ensure_future(self._news.get())
        await asyncio.wait({news, self._episode}, return_when=asyncio.FIRST_COMPLETED)
        if news.done():
            return news.result()
        news.cancel()
        return _end(self._episode.result())


def _end(episode: Episode) -> dict[str, Any]:
    seen = whole(episode)
    row = transcript_row(seen, 0, "person", 0)
    spoken = [i for i, m in enumerate(episode.messages) if m.role == "assistant"]
    return {
        "log": story(episode),
        "tools": [],
        "text": as_text(episode.messages[spoken[-1] + 1 :]),
        "play": {
            "text": seen.shown,
            "episode": played_of(row | row["shown"]),
            "messages": row["messages"],
            "tools": row.get("tools", []),
        },
    }


class Host:
    """Environments by their names, and what is being played."""

    def __init__(self, names: Sequence[str]):
        self._names = names
        self._envs: dict[str, Env] = {}
        self._rows: dict[tuple[str, int], Rows] = {}
        self._plays: OrderedDict[str, Play] = OrderedDict()

    async def answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        if "play" in asked:
            return await self._play(asked)
        if "check" in asked:
            self._env(asked["env"])
            return {}
        rows = self._tasks(asked["env"], asked["seed"])[asked["first"] - 1 :][: asked["tasks"]]
        prompts = [prompt_of("a task", row) for row in rows]
        if not prompts:
            raise UserError(f"the environment {asked['env']} has not so many tasks")
        of_store = (p if isinstance(p, str) else [*map(message_to_json, p)] for p in prompts)
        return {"prompts": [*of_store]}

    async def _play(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        key, said = asked["play"], asked["said"]
        play = self._plays.pop(key, None)
        if play is None or (led := await play.go(said)) is None:
            play = self._begun(asked)
            led = await play.go(said)
            assert led
        self._plays[key] = play  # the newest; one that has failed is not there any more
        while len(self._plays) > MOST_PLAYS:
            self._plays.popitem(last=False)[1].close()
        return led

    def _begun(self, asked: Mapping[str, Any]) -> Play:
        env, row = self._env(asked["env"]), {"prompt": asked["prompt"]}
        if (number := asked["task"]) is not None:
            rows = self._tasks(asked["env"], asked["seed"])
            if number > len(rows):
                raise UserError(f"the environment {asked['env']} has no task {number}")
            row = rows[number - 1]
        return Play(env, row, asked["max_turns"], asked["seed"])

    def _tasks(self, name: str, seed: int) -> Rows:
        if (name, seed) not in self._rows:
            if (rows := tasks_of(self._env(name), "train", seed)) is None:
                raise UserError(
                    f"the environment {name} has no tasks of its own; import prompts, and ask to play them"
                )
            self._rows[name, seed] = rows
        return self._rows[name, seed]

    def _env(self, name: str) -> Env:
        if name not in self._names:
            raise UserError(f"the environment {name} is not offered here any more; tell your lead")
        if name not in self._envs:
            self._envs[name] = load_env(name)
        return self._envs[name]


async def reply(host: Host, asked: dict[str, Any], send: Send) -> None:
    """Answer one request; what goes wrong is an answer too."""
    try:
        led = await host.answer(asked)
    except UserError as error:
        led = {"error": str(error)}
    # One play must not end the others; what a library says is for the log.
    except Exception as error:
        print(f"{asked['env']}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        led = {"error": "the environment failed; the server's log says why"}
    send({"id": asked["id"], **led})


if __name__ == "__main__":
    there = Host(sys.argv[1:])
    asyncio.run(answer_lines(lambda asked, send: reply(there, asked, send)))
