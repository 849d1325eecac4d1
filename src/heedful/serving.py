"""An OpenAI-compatible server in front of an engine: for anybody who asks, and for episodes.

Without a key each request is an episode of one turn, sampled as `rollout` does, so that a seed and a prompt give what
`heedful sample` gives. With an episode's key requests are its turns; see `envs.session`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hmac
import inspect
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from transformers import PreTrainedTokenizerBase

from heedful.data.tokens import encode_prompt, stop_tokens
from heedful.endpoint.answers import Said, Told
from heedful.endpoint.app import Heard, Speaker, create_app, unknown_model
from heedful.endpoint.errors import Refused, too_long
from heedful.endpoint.forms import Asked
from heedful.endpoint.server import listen, serving
from heedful.envs.chat import Chat, Record
from heedful.envs.limits import EpisodeOver, Limits
from heedful.envs.play import ended
from heedful.envs.served import PREFIX, Sessions, bearer
from heedful.envs.session import Session, said_by
from heedful.errors import UserError
from heedful.models.likeliest import Places, Row, likeliest
from heedful.rollout import speak
from heedful.types import Engine, Episode, Message, Prompt, Sampling, Task
from heedful.waiting import all_of

RAW = Sampling()


class EngineSpeaker:
    """`endpoint.app.Speaker` for whoever asks without a key. `sampling` is for what requests do not say."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling = RAW,
        max_tokens: int | None = None,
    ):
        self.engine, self.tokenizer, self.sampling = engine, tokenizer, sampling
        self.max_tokens = max_tokens
        self._streams = "heard" in inspect.signature(engine.generate).parameters
        self._looking: _Looking | None = None
        if (model := getattr(engine, "model", None)) is not None:
            self._looking = _Looking(model)

    async def speak(self, asked: Asked, heard: Heard | None = None) -> list[Said]:
        """See `endpoint.app.Speaker`."""
        task, sampling = self._task(asked), self._sampling(asked)
        wanted = self._room(asked, len(task.tokens))
        if (asked.echo or asked.logprobs) and self._looking is None:
            raise Refused("this engine tells log-probs of what it says, without alternatives")
        seed = secrets.randbits(62) if asked.seed is None else asked.seed
        if wanted:
            asked = replace(asked, max_tokens=wanted)
            chats = await all_of(
                self._one(task, asked, sampling, seed, i, heard) for i in range(asked.n)
            )
            said = [said_by(chat, asked) for chat in chats]
        else:
            said = [Said(task.tokens, (), "", "length")] * asked.n
        if asked.logprobs is None:
            return said
        if not (asked.echo or asked.logprobs) and sampling in (RAW, Sampling(0.0)):
            return said  # the engine has told them
        return await all_of(self._looked_at(one, asked) for one in said)

    async def _one(
        self, task: Task, asked: Asked, sampling: Sampling, seed: int, i: int, heard: Heard | None
    ) -> Chat:
        more: dict[str, Any] = {}
        if heard is not None and self._streams:
            more["heard"] = lambda index, token: heard(i, token)
        said = functools.partial(speak, self.engine, sampling, (seed, asked.number), i, **more)
        limits = Limits(turns=1, turn_tokens=asked.max_tokens)
        record = Record(task, self.tokenizer, said, limits, f"{seed}", self.engine.window)
        chat = Chat(record)
        if asked.tools:  # they stand with the first message: the format of calls is what is missing
            chat.offer(())
        with contextlib.suppress(EpisodeOver):  # it filled all the room, and is recorded
            await chat.say(stop=asked.stop)
        return chat

    def _task(self, asked: Asked) -> Task:
        prompt = asked.prompt
        if isinstance(prompt, str):
            return _task(self.tokenizer, prompt)
        if prompt and isinstance(prompt[0], int):
            ids = tuple(t for t in prompt if isinstance(t, int))
            if max(ids) >= len(self.tokenizer) or min(ids) < 0:
                raise Refused("a token id is none of this model's", param="prompt")
            return Task("", ids, tuple(stop_tokens(self.tokenizer, "")))
        messages = [m for m in prompt if isinstance(m, Message)]
        return _task(self.tokenizer, (replace(messages[0], tools=asked.tools), *messages[1:]))

    def _room(self, asked: Asked, length: int) -> int:
        window = self.engine.window
        least = 1 if asked.max_tokens is None else asked.max_tokens
        if length + least > window:
            raise too_long(window, length, least)
        if asked.max_tokens is not None:
            return asked.max_tokens
        return min(window - length, self.max_tokens or window)

    def _sampling(self, asked: Asked) -> Sampling:
        own = self.sampling
        return Sampling(
            own.temperature if asked.temperature is None else asked.temperature,
            own.top_p if asked.top_p is None else asked.top_p,
            own.top_k if asked.top_k is None else asked.top_k,
        )

    async def _looked_at(self, said: Said, asked: Asked) -> Said:
        """With the model's own log-probs, at temperature 1, of the text's tokens and with `echo` the prompt's."""
        assert self._looking is not None
        shown = said.tokens if said.told is None else said.told.tokens
        tokens = (*said.prompt, *shown)
        start = 1 if asked.echo else len(said.prompt)
        places = Places((), ())
        if start < len(tokens):
            places = await self._looking.at(Row(tokens, start, asked.logprobs or 0))
        if not asked.echo:
            return replace(said, told=Told(shown, places.logprobs, places.likeliest))
        return replace(said, told=Told(tokens, (None, *places.logprobs), ((), *places.likeliest)))


def _task(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> Task:
    return Task(
        prompt, tuple(encode_prompt(tokenizer, prompt)), tuple(stop_tokens(tokenizer, prompt))
    )


class _Looking:
    """Rows that are asked for at the same moment are read by the model together."""

    def __init__(self, model: Any):
        self._model = model
        self._waiting: list[tuple[Row, asyncio.Future[Places]]] = []

    async def at(self, row: Row) -> Places:
        done: asyncio.Future[Places] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, done))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_later(0.001, self._read)
        return await done

    def _read(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            found = likeliest(self._model, [row for row, _ in waiting])
        except Exception as error:
            for _, done in waiting:
                if not done.done():
                    done.set_exception(error)
            return
        for (_, done), places in zip(waiting, found, strict=True):
            if not done.done():
                done.set_result(places)


class Episodes:
    """`endpoint.app.Desk`: a request that names an episode speaks in it, any other is answered by itself.

    The episode's key stands in `X-Heedful-Episode`, or in `Authorization: Bearer` where `open` has made it. `key`, if
    there is one, everybody needs who has no episode's.
    """

    def __init__(
        self,
        speaker: EngineSpeaker,
        models: tuple[str, ...],
        *,
        key: str | None = None,
        limits: Limits | None = None,
        anybody: bool = False,
    ):
        self.models, self.url = models, ""
        self._speaker, self._key, self._limits = speaker, key, limits or Limits()
        self._anybody = anybody  # may begin an episode by naming it
        self._sessions, self._chats = Sessions(), dict[str, tuple[Record, Chat]]()

    def open(
        self, key: str | None = None, *, task: Task | None = None, seed: int = 0, version: int = 0
    ) -> str:
        """A new episode; returns its key. The same seed draws the same tokens for the same requests."""
        if key is not None and key in self._chats:
            raise UserError(f"there is an episode '{key}' already")
        engine, tokenizer = self._speaker.engine, self._speaker.tokenizer
        said = functools.partial(speak, engine, self._speaker.sampling, (seed, 0), 0)
        task = task or Task((), (), ())
        record = Record(
            task, tokenizer, said, self._limits, f"{seed}/0/0", engine.window, version=version
        )
        chat = Chat(record)
        key = self._sessions.open(Session(chat), key)
        self._chats[key] = (record, chat)
        return key

    def episode(self, key: str, reward: float | None = None) -> Episode:
        """What has been said so far under a key, with a reward at the end if there is one."""
        return ended(self._known(key)[0], reward)

    def close(self, key: str, reward: float | None = None) -> Episode:
        """The same, and the key is good for nothing any more."""
        episode = self.episode(key, reward)
        self._sessions.close(key)
        del self._chats[key]
        return episode

    def reward(self, key: str, value: float, part: str = "env") -> None:
        """A reward for what was said last in the conversation that began the episode."""
        self._known(key)[1].reward(value, part)

    def speaker(self, headers: Mapping[str, str], model: str) -> Speaker:
        """See `endpoint.app.Desk`. In an episode a model has any name: programs write down the one that they know."""
        named = headers.get("x-heedful-episode")
        if named and named not in self._chats and self._anybody:
            self.open(named)
        if named or bearer(headers).startswith(PREFIX) or bearer(headers) in self._chats:
            return self._sessions.speaker(headers, model)
        if model and model not in self.models:
            raise unknown_model(model, self.models)
        return self._speaker

    def check(self, headers: Mapping[str, str]) -> None:
        """See `endpoint.app.Desk`."""
        given = bearer(headers)
        if self._key is None or given in self._chats:
            return
        if not hmac.compare_digest(given.encode(), self._key.encode()):
            raise Refused("Incorrect API key provided", status=401, code="invalid_api_key")

    def routes(self) -> list[Route]:
        """`/v1/episodes/KEY`: GET its record, DELETE to close it, POST a reward."""
        return [Route("/v1/episodes/{key}", self._record, methods=["GET", "DELETE", "POST"])]

    async def _record(self, request: Request) -> Response:
        self.check(request.headers)
        key = request.path_params["key"]
        if request.method == "POST":
            try:
                said = await request.json()
                self.reward(key, said["reward"], str(said.get("part", "env")))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise Refused('expected {"reward": number, "part": name}') from None
        episode = self.close(key) if request.method == "DELETE" else self.episode(key)
        return JSONResponse(episode_row(episode))

    def _known(self, key: str) -> tuple[Record, Chat]:
        if key not in self._chats:
            raise Refused(f"there is no episode '{key}'", status=404)
        return self._chats[key]


def episode_row(episode: Episode) -> dict[str, Any]:
    """An episode as JSON: its branches, with who wrote which tokens and the log-probs of the policy's."""
    from heedful.types.messages import message_to_json

    return {
        "ended": episode.ended,
        "cause": episode.cause,
        "score": episode.score,
        "parts": dict(episode.parts),
        "branches": [
            {
                "messages": [message_to_json(m) for m in branch.messages],
                "context": branch.context,
                "segments": [
                    {
                        "author": s.author,
                        "tokens": list(s.tokens),
                        "logprobs": list(s.logprobs),
                        "policy_version": s.policy_version,
                        "stop_reason": s.stop_reason,
                        "reward": s.reward,
                    }
                    for s in branch.segments
                ],
            }
            for branch in episode.branches
            if branch.segments
        ],
    }


@asynccontextmanager
async def serve_episodes(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    *,
    sampling: Sampling = RAW,
    limits: Limits | None = None,
    model: str = "policy",
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[Episodes]:
    """A server in front of an engine, in the event loop that is running, while the block runs; its `url` ends in /v1.

    `key = server.open()` makes an episode, a program that has the key speaks in it, and `server.close(key, reward)`
    gives its record, an `Episode` as `rollout` gives them. `sampling` and `limits` are those of all its episodes.
    """
    desk = Episodes(EngineSpeaker(engine, tokenizer, sampling), (model,), limits=limits)
    async with serving(create_app(desk, *desk.routes()), listen(host, port)) as url:
        desk.url = url
        yield desk
