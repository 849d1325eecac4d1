"""An episode of somebody who asks over the OpenAI protocol: requests become turns of a `Chat`.

A request whose messages begin with a conversation that the policy has had here, its answers included, goes on from
the tokens of that, wherever it stood; nothing that was sampled is encoded again. Any other request begins a branch.
So a program that keeps one conversation makes one sequence, one that asks side questions, forgets or rewrites makes
several, and all of them are one episode with one score.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from heedful.data.tokens import decode_response
from heedful.endpoint.answers import Said, Told
from heedful.endpoint.errors import Refused
from heedful.endpoint.forms import Asked
from heedful.endpoint.words import cut
from heedful.envs.chat import Chat
from heedful.envs.formats import Call
from heedful.envs.limits import EpisodeOver
from heedful.envs.turn import Mark
from heedful.types import Message, Prompt, Segment
from heedful.waiting import all_of

Key = str | tuple[str, ...]  # a text, or a conversation, message by message


@dataclass(frozen=True)
class _Node:
    """A conversation that ends with an answer of the policy."""

    key: Key
    tools: str
    chat: Chat
    mark: Mark


class Session:
    """`endpoint.app.Speaker` for one episode. How tokens are drawn is the affair of whoever made the episode: what
    requests say of temperature, top_p and seed is not heard. `error` is what went wrong with it."""

    def __init__(self, chat: Chat):
        self._root: Chat | None = chat
        self._chat = chat
        self._start = chat.mark()
        self._nodes: list[_Node] = []
        self._stands: dict[int, _Node] = {}  # where chats stand that are not speaking, by their ids
        self._same: Counter[tuple[Any, ...]] = Counter()
        self.error: Exception | None = None
        self.failed: Callable[[], None] = lambda: None  # called when there is no point in going on

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self._chat.tokenizer

    async def speak(self, asked: Asked, heard: Any = None) -> list[Said]:
        """See `endpoint.app.Speaker`. `Refused` once the episode is over."""
        if asked.echo or (asked.logprobs or 0) > 0:
            raise Refused("in an episode there are log-probs of what is said, without alternatives")
        chats, key, tools = self._chats(asked)
        try:
            await all_of(chat.say(stop=asked.stop, max_tokens=asked.max_tokens) for chat in chats)
        except EpisodeOver as over:
            self.failed()
            raise Refused(
                f"this episode is over: its {over} are spent", code="episode_over"
            ) from None
        except Exception as error:
            self.error = self.error or error
            self.failed()
            raise
        return [self._said(chat, asked, key, tools) for chat in chats]

    def _chats(self, asked: Asked) -> tuple[list[Chat], Key, str]:
        """A chat for each choice, ready to speak; and how this conversation is known."""
        tools = json.dumps(asked.tools, sort_keys=True)
        key = _key(asked.prompt)
        node = self._longest(key, tools, asked.prompt)
        first = self._same[key, tools]
        self._same[key, tools] += asked.n
        chats = []
        for i in range(asked.n):
            number = _number(key, tools, first + i)
            if node is None:
                chats.append(self._opened(asked, number))
                continue
            if self._stands.get(id(node.chat)) is node:
                chat = self._stands.pop(id(node.chat)).chat
            else:
                chat = node.chat.fork(node.mark, number)
            for m in _since(asked.prompt, node.key):
                call = Call(m.name or "", id=m.tool_call_id) if m.tool_call_id else None
                chat.hear(m.role, m.content, name=m.name, call=call)
            chats.append(chat)
        return chats, key, tools

    def _opened(self, asked: Asked, number: int) -> Chat:
        """A chat that begins with what is asked: the episode's own for the first request."""
        chat, self._root = self._root, None
        if chat is None:
            chat = self._chat.fork(self._start, number)
        prompt = asked.prompt
        if not isinstance(prompt, str) and prompt and isinstance(prompt[0], int):
            ids = [t for t in prompt if isinstance(t, int)]
            chat.begin(decode_response(chat.tokenizer, ids), ids)
        else:
            chat.begin(prompt)  # type: ignore[arg-type]
            if asked.tools:
                chat.offer(asked.tools)
        return chat

    def _longest(self, key: Key, tools: str, prompt: Any) -> _Node | None:
        """The longest conversation of those had here that this one goes on from."""
        going = [n for n in self._nodes if n.tools == tools and _goes_on(n.key, key, prompt)]
        return max(going, key=lambda n: len(n.key), default=None)

    def _said(self, chat: Chat, asked: Asked, key: Key, tools: str) -> Said:
        said = said_by(chat, asked)
        if isinstance(key, str):
            after: Key = key + said.text
        else:
            message = chat.branch().messages[-1]
            answer = Message(
                "assistant", said.words if said.calls else said.text, message.tool_calls
            )
            after = (*key, _canonical(answer))
        self._nodes.append(_Node(after, tools, chat, chat.mark()))
        self._stands[id(chat)] = self._nodes[-1]
        return said


def said_by(chat: Chat, asked: Asked) -> Said:
    """A chat's last turn as a choice of an answer."""
    branch = chat.branch()
    segment, message = branch.segments[-1], branch.messages[-1]
    text = cut(decode_response(chat.tokenizer, segment.tokens), asked.stop)
    calls = tuple((c["function"]["name"], c["function"]["arguments"]) for c in message.tool_calls)
    return Said(
        prompt=tuple(t for s in branch.segments[:-1] for t in s.tokens),
        tokens=segment.tokens,
        text=text,
        finish=segment.stop_reason or "stop",
        words=message.content,
        calls=calls,
        call_ids=tuple(c.get("id") or f"call{i}" for i, c in enumerate(message.tool_calls)),
        told=None if asked.logprobs is None else sampled(chat.tokenizer, segment, text),
    )


def sampled(tokenizer: PreTrainedTokenizerBase, segment: Segment, text: str) -> Told:
    """The log-probs of the tokens that a turn's text has: not of its end, nor of a stop sequence."""
    kept = len(segment.tokens)
    while kept and len(decode_response(tokenizer, segment.tokens[: kept - 1])) >= len(text):
        kept -= 1
    return Told(segment.tokens[:kept], segment.logprobs[:kept], ((),) * kept)


def _key(prompt: Prompt | tuple[int, ...]) -> Key:
    if isinstance(prompt, str):
        return prompt
    if prompt and isinstance(prompt[0], int):
        return json.dumps(prompt)
    return tuple(_canonical(m) for m in prompt if isinstance(m, Message))


def _canonical(message: Message) -> str:
    """What must be alike for a message to be the same one: programs drop ids and spaces of what was answered."""
    own = message.role == "assistant"
    calls = [(c["function"]["name"], c["function"]["arguments"]) for c in message.tool_calls]
    content = message.content.strip() if own else message.content
    return json.dumps([message.role, content, calls], sort_keys=True)


def _goes_on(had: Key, key: Key, prompt: Any) -> bool:
    """Whether `key` is what was had and something more that somebody else says."""
    if isinstance(had, str) or isinstance(key, str):
        return (
            isinstance(prompt, str)
            and isinstance(had, str)
            and len(prompt) > len(had)
            and prompt.startswith(had)
        )
    new: Sequence[Message] = prompt[len(had) :]
    return bool(new) and key[: len(had)] == had and all(m.role != "assistant" for m in new)


def _since(prompt: Any, had: Key) -> Sequence[Message]:
    """What is said since then."""
    if isinstance(prompt, str):
        return [Message("user", prompt[len(had) :])]
    return prompt[len(had) :]


def _number(key: Key, tools: str, same: int) -> int:
    """Of a branch, from what is asked and how often it was before: its seeds do not depend on who asks first."""
    text = json.dumps([key, tools])
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) << 12) + same
