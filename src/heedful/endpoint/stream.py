"""Answers in pieces, as server-sent events: what is certain of each choice's text as soon as it is drawn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Protocol

from transformers import PreTrainedTokenizerBase

from heedful.endpoint import answers
from heedful.endpoint.answers import Envelope, Said
from heedful.endpoint.forms import Asked, ChatForm, CompletionForm
from heedful.endpoint.words import Growing, echoed
from heedful.waiting import all_of

CALL_MARKS = (
    "<tool_call>",
    "[TOOL_CALLS]",
    "<|python_tag|>",
    "{",
)  # with which calls of tools may begin


class _Speaker(Protocol):
    async def speak(self, asked: Asked, heard: Any = None) -> list[Said]: ...


class Streamed:
    """A request that is being answered: (index of a choice, its next token), then all the choices."""

    def __init__(self, speaker: _Speaker, asked: list[Asked]):
        self.asked = asked
        self._queue: asyncio.Queue[tuple[int, int] | None] = asyncio.Queue()
        self._task = asyncio.ensure_future(all_of(self._speak(speaker, one) for one in asked))
        self._task.add_done_callback(lambda task: self._queue.put_nowait(None))
        self._first: tuple[int, int] | None = None

    async def _speak(self, speaker: _Speaker, one: Asked) -> list[Said]:
        offset = one.number * one.n
        return await speaker.speak(
            one, lambda i, token: self._queue.put_nowait((offset + i, token))
        )

    async def begun(self) -> None:
        """Waits for the first token; raises what ends it before that."""
        self._first = await self._queue.get()
        if self._first is None:
            await self._task

    async def tokens(self) -> AsyncIterator[tuple[int, int]]:
        """As they come."""
        following = self._first
        while following is not None:
            yield following
            following = await self._queue.get()

    async def choices(self) -> list[list[Said]]:
        """Of each prompt; raises what has gone wrong."""
        return await self._task

    def stop(self) -> None:
        """Nobody listens any more."""
        self._task.cancel()


async def events(
    streamed: Streamed,
    form: ChatForm | CompletionForm,
    tokenizer: PreTrainedTokenizerBase,
    envelope: Envelope,
) -> AsyncIterator[str]:
    """The lines of a stream. Log-probs and calls of tools come with the last piece of their choice."""
    chat = isinstance(form, ChatForm)
    asked = streamed.asked
    growing = {
        one.number * one.n + i: Growing(tokenizer, one.stop, CALL_MARKS if one.tools else ())
        for one in asked
        for i in range(one.n)
    }

    def line(choices: list[dict[str, Any]], **more: Any) -> str:
        return _event(envelope.around(choices, chunk=True) | more)

    if chat:
        for index in growing:
            yield line([_delta(index, {"role": "assistant", "content": ""})])
    for one in asked:
        if one.echo:
            for i in range(one.n):
                yield line([_text(one.number * one.n + i, echoed(tokenizer, one.prompt))])
    async for index, token in streamed.tokens():
        if text := growing[index].more(token):
            yield line([_delta(index, {"content": text}) if chat else _text(index, text)])
    groups = await streamed.choices()
    for one, group in zip(asked, groups, strict=True):
        for i, said in enumerate(group):
            index = one.number * one.n + i
            rest = growing[index].rest(said.words if said.calls else said.text)
            last = _last_delta if chat else _last_text
            yield line([last(tokenizer, index, rest, said, one)])
    if form.usage_at_the_end:
        yield line([], usage=answers.usage(groups))
    yield "data: [DONE]\n\n"


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def _delta(index: int, delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None} | more


def _text(index: int, text: str, **more: Any) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": None} | more


def _last_delta(
    tokenizer: PreTrainedTokenizerBase, index: int, rest: str, said: Said, asked: Asked
) -> dict[str, Any]:
    delta: dict[str, Any] = {"content": rest} if rest else {}
    if said.calls:
        delta["tool_calls"] = [{"index": i} | call for i, call in enumerate(answers.calls(said))]
    told = answers.chat_logprobs(tokenizer, said.told)
    return _delta(index, delta, logprobs=told, finish_reason=answers.finish(said))


def _last_text(
    tokenizer: PreTrainedTokenizerBase, index: int, rest: str, said: Said, asked: Asked
) -> dict[str, Any]:
    told = answers.text_logprobs(tokenizer, said.told, asked.logprobs)
    return _text(index, rest, logprobs=told, finish_reason=answers.finish(said))
