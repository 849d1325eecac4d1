"""A conversation between the policy and an environment, as the environment sees it; everything is recorded.

    async def guess(task: Task, chat: Chat) -> float | None:
        while True:
            reply = await chat.say()
            if reply.text.strip() == task.facts["secret"]:
                return 1.0
            chat.hear("user", "No. Again.")

What the policy writes is kept as the ids it sampled. What it hears is encoded by what the chat template adds
(`data.turns`), its words as plain text. When a limit is reached, `say` ends the episode as truncated.
"""

from __future__ import annotations

import functools
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from heedful.data.templates import controls, conversation_text, encode_plain
from heedful.data.tokens import decode_response, encode_prompt, stop_tokens
from heedful.data.turns import Openings, continuation, raw_text
from heedful.envs.clock import Clock
from heedful.envs.formats import Call, CallFormat, as_template, format_of
from heedful.envs.limits import Cause, EpisodeOver, Left, Limits, finite
from heedful.envs.stops import ends_with, may_end
from heedful.envs.turn import Mark, Reply, Speak
from heedful.errors import UserError
from heedful.remote.journal import MISSING, recording
from heedful.types import Branch, Facts, Message, Prompt, Segment, StopReason, Task

log = logging.getLogger("heedful")
MOST_HEARD = 1000  # messages before the policy speaks again
REWRITES = (
    "the chat template writes earlier turns anew (it drops thoughts or spaces, or has another date): the policy "
    "would not see what it wrote"
)


@dataclass
class Record:
    """What the branches of an episode share."""

    task: Task
    tokenizer: PreTrainedTokenizerBase
    speak: Speak
    limits: Limits
    seed: str  # of the environments' random numbers
    window: int
    version: int = 0
    rewrites: Literal["branch", "refuse"] = "branch"
    tool_format: str = "auto"
    openings: Openings = field(default_factory=Openings)  # shared by the episodes of a task
    began: float = field(default_factory=time.monotonic)
    over: Cause | None = None
    clock: Clock = field(default_factory=Clock)
    parts: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    past: list[Branch] = field(default_factory=list)  # that went on elsewhere, the latest first
    chats: list[Chat] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)  # that were offered last
    shown: str | None = None

    def end(self, cause: Cause) -> EpisodeOver:
        """To be raised: the episode is over."""
        self.over = self.over or cause
        return EpisodeOver(self.over)

    def branches(self) -> tuple[Branch, ...]:
        """Of all chats, the first one's in front."""
        main, *forks = [chat.branch() for chat in self.chats]
        return (main, *self.past, *forks)


class Chat:
    """See the head of this file. `rng` is this episode's own; `facts` are the task's."""

    def __init__(self, record: Record, place: tuple[int, ...] = ()):
        self._record, self._place = record, place
        self._tools: list[dict[str, Any]] = []
        self._format: CallFormat | None = None
        self._context = self._forks = 0
        self._own_prompt = False  # not the task's
        self._begun(record.task.prompt, record.task.tokens, record.task.stop)
        record.chats.append(self)

    def _begun(self, prompt: Prompt, tokens: tuple[int, ...], ends: tuple[int, ...]) -> None:
        self._plain, self._prompt, self._ends = isinstance(prompt, str), tokens, ends
        opening = (Message("user", prompt),) if isinstance(prompt, str) else prompt
        self._go_to(Mark(opening, opening))

    def _go_to(self, mark: Mark) -> None:
        self._messages, self._shown = list(mark.messages), list(mark.shown)
        self._heard, self._segments = list(mark.heard), list(mark.segments)
        self._text, self._turns = mark.text, mark.turns

    @functools.cached_property
    def rng(
        self,
    ) -> (
        random.Random
    ):  # seeded when asked for: that takes longer than a short turn of a small model
        return random.Random(f"{self._record.seed}/{self._place}")

    @property
    def facts(self) -> Facts:
        return self._record.task.facts

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self._record.tokenizer

    @property
    def over(self) -> Cause | None:
        """Which limit is reached, if one is."""
        return self._record.over

    @property
    def spoken(self) -> int:
        """Turns of the policy so far."""
        return self._turns

    @property
    def left(self) -> Left:
        """What is left of the limits, for those who plan."""
        limits = self._record.limits
        spent = time.monotonic() - self._record.began
        return Left(
            math.inf if limits.turns is None else limits.turns - self._turns,
            self._room(),
            math.inf if limits.seconds is None else limits.seconds - spent,
        )

    def offer(self, tools: Sequence[dict[str, Any]], format: CallFormat | None = None) -> None:
        """Before anything is said: the tools that the template shows, as JSON schemas, and how calls are written; else
        as the template writes them."""
        record = self._record
        if self._plain:
            raise UserError(
                "tools are offered in a conversation, and this prompt is plain text: --columns question=prompt makes "
                "it a user's turn"
            )
        if self._segments:
            raise UserError("tools are offered in a conversation, before anything is said in it")
        record.tools = self._tools = list(tools)
        self._format = format or format_of(record.tokenizer, record.tool_format)

    def begin(self, prompt: Prompt, tokens: Sequence[int] = ()) -> None:
        """Before anything is said: the conversation begins with this, in place of the task's prompt. `tokens` are the
        prompt's where they are known. What is too long for the model then is a limit that is reached."""
        if self._segments:
            raise UserError("a conversation begins before anything is said in it")
        tokenizer = self._record.tokenizer
        ids = tuple(tokens or encode_prompt(tokenizer, prompt))
        self._begun(prompt, ids, tuple(stop_tokens(tokenizer, prompt)))
        self._own_prompt = True

    def hear(
        self, role: str, text: str, *, name: str | None = None, call: Call | None = None
    ) -> None:
        """What the policy is told before it speaks again. No word of it is trained on, and none is a control token.
        `call` is what a tool answers."""
        if len(self._heard) >= MOST_HEARD:
            raise UserError(
                f"an environment told the policy {MOST_HEARD} messages and never asked it to speak; chat.say() does"
            )
        if not isinstance(text, str):
            raise UserError(f"an environment told the policy {text!r:.60}, which is no text")
        message = Message(role, text, name=name, tool_call_id=call.id if call else None)
        self._messages.append(message)
        self._heard.append(message)

    async def once(self, asked: Any, work: Callable[[], Awaitable[Any]]) -> Any:
        """What `work` gives, made of JSON's kinds. A command that goes on after an interruption has it already, and
        does not ask again: for what costs something or cannot be undone. `asked`, of JSON's kinds, says what it is."""
        past = recording()
        if past is None:
            return await work()
        key = past.key(["episode", self._record.seed, [*self._place, self._turns], asked])
        if (known := past.find(key)) is not MISSING:
            return known
        answer = await work()
        past.write(key, answer, sync=False)
        return answer

    async def say(self, *, stop: Sequence[str] = (), max_tokens: int | None = None) -> Reply:
        """What the policy says. It ends with the end of a turn, behind one of the texts `stop`, or after max_tokens.

        Raises `EpisodeOver` when a limit is reached, before or while it speaks; what it said until then is recorded.
        """
        record = self._record
        if record.over:
            raise EpisodeOver(record.over)
        if self.left.turns < 1:
            raise record.end("turns")
        if self.left.seconds <= 0:
            raise record.end("time")
        if self._ended and not self._heard and not self._plain:
            raise UserError(
                "an environment asked the policy to speak twice and told it nothing in between; chat.hear() comes first"
            )
        self._listen()
        room = self._room(first=not self._turns and not self._own_prompt)
        if room < 1:
            raise record.end("tokens")
        limit = int(min(room, max_tokens or room))
        with record.clock.stopped():
            ids, logprobs, reason = await self._spoken(stop, limit)
        if record.over:  # meanwhile, by another branch
            raise EpisodeOver(record.over)
        reply = self._recorded(ids, logprobs, reason)
        if reason == "length" and limit == room:
            raise record.end("tokens")
        return reply

    def reward(self, value: float, part: str = "env") -> None:
        """A reward for the last turn of the policy, under a name."""
        if len(self._segments) <= self._context or not self._turns:
            raise UserError("a reward is for something that the policy said: say() comes first")
        value = finite(value, f"the reward '{part}' of an environment")
        at = max(i for i, s in enumerate(self._segments) if s.author == "policy")
        self._segments[at] = replace(self._segments[at], reward=self._segments[at].reward + value)
        self._record.parts[part] = self._record.parts.get(part, 0.0) + value

    def count(self, name: str, number: float) -> None:
        """Something to log as episodes/NAME, summed over the episode; it is worth nothing."""
        self._record.counts[name] = self._record.counts.get(name, 0.0) + number

    def show(self, text: str) -> None:
        """What raters and rewards see of this episode, as the response to its task's prompt; else its last turn."""
        self._record.shown = text

    def mark(self) -> Mark:
        """Where this chat stands now."""
        messages, shown = tuple(self._messages), tuple(self._shown)
        heard, segments = tuple(self._heard), tuple(self._segments)
        return Mark(messages, shown, heard, segments, self._text, self._turns)

    def fork(self, mark: Mark | None = None, number: int | None = None) -> Chat:
        """Another chat that goes on from here, or from where this one stood: one of several answers to the same,
        another player's view. What was said until there is its context and is not trained on again; all branches are
        one episode with one score. `number` makes its seeds, where it shall not be that of forks so far."""
        mark = mark or self.mark()
        fork = Chat(self._record, (*self._place, -1 - (self._forks if number is None else number)))
        self._forks += 1
        fork._plain, fork._prompt, fork._ends = self._plain, self._prompt, self._ends
        fork._tools, fork._format = self._tools, self._format
        fork._own_prompt, fork._context = self._own_prompt, len(mark.segments)
        fork._go_to(mark)
        return fork

    def truncate(self, cause: Cause) -> EpisodeOver:
        """To be raised by an environment that has a limit of its own: the episode is over, and truncated."""
        return self._record.end(cause)

    def branch(self) -> Branch:
        """The record of this chat."""
        return Branch(tuple(self._messages), tuple(self._segments), self._context)

    def _tokens(self) -> tuple[int, ...]:
        if len(self._segments) == 1:  # the prompt itself: siblings share its computation
            return self._segments[0].tokens
        return tuple(t for segment in self._segments for t in segment.tokens)

    def _room(self, *, first: bool = False) -> float:
        """Tokens that the policy may write in this turn. A prompt that leaves no room in the model at all is
        refused by the engine."""
        limits, length = self._record.limits, sum(len(s.tokens) for s in self._segments)
        most = [math.inf if limits.turn_tokens is None else limits.turn_tokens]
        if limits.tokens is not None:
            most.append(limits.tokens - length)
        if not first or limits.turn_tokens is None:
            most.append(self._record.window - length)
        return min(most)

    def _listen(self) -> None:
        """Turn what was heard into tokens."""
        record = self._record
        heard, self._heard = self._heard, []
        self._shown += heard
        if not self._segments and not self._tools and (self._plain or not heard):
            self._segments.append(Segment(self._prompt, "environment"))
        if self._plain:
            ids = [t for m in heard for t in encode_plain(record.tokenizer, m.content)]
            if ids:
                self._hear_ids(ids)
        elif not self._segments:
            self._open()
        elif self._turns and self._segments[-1].author == "policy":
            self._go_on(len(heard))
        elif heard:  # a fork from before the policy spoke
            self._open()

    def _open(self) -> None:
        record = self._record
        written = record.openings.written(record.tokenizer, self._shown, self._tools)
        self._segments, self._text = [Segment(tuple(written.ids), "environment")], written.text
        self._context = 0

    def _go_on(self, heard: int) -> None:
        """Append what the template writes behind the policy's turn, or begin a new branch where it writes that anew."""
        record = self._record
        last = self._segments[-1]
        if self._text is None:
            before = self._shown[: len(self._shown) - heard - 1]
            opened = conversation_text(record.tokenizer, before, self._tools)
            self._text = opened + self._raw(last)
        written = continuation(
            record.tokenizer, self._text, self._shown, heard, self._tools, last.tokens[-1]
        )
        if written is not None:
            self._text = written.text
            self._hear_ids(written.ids)
            return
        if record.rewrites == "refuse":
            raise UserError(REWRITES)
        _warn_of_branches()
        record.past.insert(0, replace(self.branch(), continued=True))
        self._open()

    def _hear_ids(self, ids: Sequence[int]) -> None:
        self._segments.append(Segment(tuple(ids), "environment"))

    @property
    def _ended(self) -> bool:
        """Whether the last that was said is a turn of the policy's which it ended itself."""
        last = self._segments[-1] if self._turns else None
        return last is not None and last.author == "policy" and last.tokens[-1] in self._ends

    async def _spoken(
        self, stop: Sequence[str], limit: int
    ) -> tuple[list[int], list[float], StopReason]:
        """Ids and log-probs. A text to stop at may lie across tokens: sampling halts where it may be complete."""
        record, tokens = self._record, self._tokens()
        ends = self._ends
        halts = (*ends, *may_end(record.tokenizer, stop)) if stop else ends
        ids: list[int] = []
        logprobs: list[float] = []
        piece = 0
        while True:
            place = (*self._place, self._turns, *([piece] if piece else []))
            keep = self.left.turns > 1 or bool(stop)
            completion = await record.speak(
                (*tokens, *ids) if ids else tokens,
                place=place, max_tokens=limit - len(ids), stop=halts, keep=keep,
            )  # fmt: skip
            ids += completion.tokens
            logprobs += completion.logprobs
            if ids[-1] in ends or (stop and ends_with(record.tokenizer, ids, stop)):
                return ids, logprobs, "stop"
            if len(ids) >= limit or completion.stop_reason == "length":
                return ids, logprobs, "length"
            piece += 1

    def _recorded(self, ids: list[int], logprobs: list[float], reason: StopReason) -> Reply:
        record = self._record
        segment = Segment(tuple(ids), "policy", tuple(logprobs), record.version, reason)
        self._segments.append(segment)
        self._turns += 1
        text, raw = decode_response(record.tokenizer, ids), self._raw(segment)
        words, calls = self._format.parse(raw) if self._format else (text, ())
        calls = tuple(replace(c, id=f"c{self._turns:04d}{k:04d}") for k, c in enumerate(calls))
        if any(call.error for call in calls):  # kept as it was written
            self._messages.append(Message("assistant", text))
        else:
            self._messages.append(Message("assistant", words, tuple(map(as_template, calls))))
        self._shown.append(Message("assistant", raw))
        if self._text is not None:
            self._text += raw
        return Reply(text, calls, reason)

    def _raw(self, segment: Segment) -> str:
        """What the policy wrote, without the control token that ends its turn."""
        ids = segment.tokens
        ended = ids[-1] in self._ends and ids[-1] in controls(self._record.tokenizer)
        return raw_text(self._record.tokenizer, ids[:-1] if ended else ids)


@functools.cache
def _warn_of_branches() -> None:
    log.warning("%s; where this happens a new branch of the episode begins", REWRITES)


Env = Callable[[Task, Chat], Awaitable[float | None]]
