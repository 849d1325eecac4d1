"""Logged episodes → what a learner reads, token for token what a rollout would have recorded: they are played again.

What is heard between turns is encoded as while an episode is played (`envs.chat`), what was said as a response is.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from heedful.configs.common import ByEpochs
from heedful.data.collate import collate
from heedful.data.episodes import as_samples
from heedful.data.logged import Logged, stream_logged
from heedful.data.sources import is_held_out
from heedful.data.tokens import as_written, encode_prompt, encode_response, excerpt, stop_tokens
from heedful.envs.chat import Chat, Record
from heedful.envs.limits import Limits
from heedful.envs.play import ended
from heedful.errors import UserError
from heedful.training.kept import KeptEpisodes
from heedful.training.rows import SOME, Rows, Spread, TooLong, read
from heedful.types import Batch, Completion, Demonstration, Sample, Task

WIDE = 1 << 30  # no limit while an episode is played again


@dataclass(frozen=True)
class Episodes:
    """What is trained on and what is held out; a few first turns, evenly from the whole; what to record."""

    train: Sequence[Sample]
    held: Sequence[Sample]
    some: list[Demonstration]
    notes: list[dict[str, Any]]

    def take(self, numbers: Sequence[int]) -> Batch:
        """A batch of episodes by their numbers."""
        return collate([self.train[i] for i in numbers])


def episodes_of(
    config: ByEpochs,
    data: Rows[Logged],
    tokenizer: PreTrainedTokenizerBase,
    limit: int,
    change: Callable[[Logged], Logged] = lambda episode: episode,
) -> Episodes:
    """The episodes of a config's data of at most `limit` tokens, each as `change` makes it; `--eval-data` or a share of
    the prompts by their hash is held out. Where one part has nothing the other is both."""
    some = Spread[Demonstration](SOME)
    train, held = KeptEpisodes(config.out.parent), KeptEpisodes(config.out.parent)

    def make(episode: Logged) -> tuple[Logged, Sample]:
        sample = replayed(tokenizer, change(episode))
        if len(sample.tokens) > limit:
            reason = f"an episode of {len(sample.tokens)} tokens is longer than {limit}: {excerpt(episode.prompt)!r}"
            raise TooLong(reason, lambda: _shorter(episode, sample, limit))
        return episode, sample

    own = config.eval_data is not None
    for episode, sample in data.fit(make):
        some.add(episode.first)
        apart = not own and is_held_out(episode.prompt, config.held_out)
        (held if apart else train).append(sample)
    notes = [data.note]
    if config.eval_data is not None:
        other = read(config, stream_logged, config.eval_data)  # type: ignore[arg-type]
        held.extend(sample for _, sample in other.fit(make))
        notes.append(other.note)
    return Episodes(train or held, held or train, some.items, [note for note in notes if note])


def _shorter(episode: Logged, sample: Sample, limit: int) -> tuple[Logged, Sample] | None:
    """The whole turns that fit, as of an episode that a limit has ended; None where there is none."""
    steps = tuple(step for step in sample.steps if step.stop <= limit)
    if not steps:
        return None
    cut = slice(0, steps[-1].stop)
    return episode, replace(
        sample,
        tokens=sample.tokens[cut],
        mask=sample.mask[cut],
        logprobs=sample.logprobs[cut],
        steps=steps,
        stop_reason="length",
    )


def replayed(tokenizer: PreTrainedTokenizerBase, episode: Logged) -> Sample:
    """The tokens of an episode, the policy's turns in the mask, their rewards where they fall.

    `UserError` where the chat template writes earlier turns anew: then it was several sequences, not one.
    """
    prompt, said = episode.prompt, iter(_said(tokenizer, episode))
    tools, prompt = prompt[0].tools, (replace(prompt[0], tools=()), *prompt[1:])

    async def speak(tokens: Sequence[int], *, stop: Sequence[int], **how: Any) -> Completion:
        ids = next(said)
        return Completion(ids, (0.0,) * len(ids), "stop" if ids[-1] in stop else "length")

    ids = () if tools else tuple(encode_prompt(tokenizer, prompt))
    task = Task(prompt, ids, tuple(stop_tokens(tokenizer, prompt)))
    record = Record(task, tokenizer, speak, Limits(), "", WIDE, rewrites="refuse")
    _done(_again(Chat(record), episode, tools))
    if episode.truncated:
        record.end("turns")
    (sample,) = as_samples(ended(record))
    return sample


async def _again(chat: Chat, episode: Logged, tools: Sequence[Any]) -> None:
    if tools:
        chat.offer([dict(tool) for tool in tools])
    rewards = dict(zip(episode.turns, episode.rewards, strict=True))
    for place in range(episode.turns[0], episode.turns[-1] + 1):
        message = episode.messages[place]
        if place in rewards:
            await chat.say(
                max_tokens=WIDE // 2
            )  # not the limit itself, which would end the episode
            chat.reward(rewards[place])
        else:
            chat.hear(message.role, message.content, name=message.name)


def _said(tokenizer: PreTrainedTokenizerBase, episode: Logged) -> list[tuple[int, ...]]:
    """The ids of each turn, with its end unless a limit came first."""
    found = []
    for place in episode.turns:
        message, before = episode.messages[place], episode.messages[:place]
        text = as_written(
            tokenizer, Demonstration(before, message.content, tool_calls=message.tool_calls)
        )
        cut = episode.cut and place == episode.turns[-1]
        ids = encode_response(tokenizer, before, text, ended=not cut)
        if not ids:
            raise UserError(f"a turn of the policy's is empty: {excerpt(before)!r}")
        found.append(tuple(ids))
    return found


def _done(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that awaits nothing of a loop's."""
    try:
        work.send(None)
    except StopIteration:
        return
    work.close()
    raise RuntimeError("an episode that is played again waits for something")
