"""Two toy environments, a tokenizer with tools, and what every environment's episodes must fulfil."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

import tiny
from heedful.data.collate import collate
from heedful.data.tokens import decode_response
from heedful.engine.local import LocalEngine
from heedful.envs.tools import ToolError, tool_env
from heedful.models.forward import token_logps
from heedful.rollout import as_samples, episodes, tasks
from heedful.types import Completion, Episode, Message, Sampling

# As Qwen2.5's: tools in the system's turn, calls as JSON, answers of tools in a turn of the user's.
CHAT_WITH_TOOLS = (
    "{%- if tools %}<|system|>You may call these functions:"
    "{%- for tool in tools %}\n{{ tool | tojson }}{%- endfor %}<|end|>{%- endif %}"
    "{%- for m in messages %}"
    "{%- if m.role == 'tool' %}"
    "{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}<|user|>{%- endif %}"
    "<tool_response>{{ m.content }}</tool_response>"
    "{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|end|>{%- endif %}"
    "{%- else %}{{ '<|' + m.role + '|>' + m.content }}"
    "{%- for call in m.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{%- endfor %}<|end|>"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}<|assistant|>{%- endif %}"
)


def tokenizer(template: str | None = CHAT_WITH_TOOLS) -> PreTrainedTokenizerFast:
    tok = tiny.tokenizer()
    tok.chat_template = template
    return tok  # type: ignore[return-value]


async def guess(task, chat) -> float | None:
    """The policy guesses a digit; it hears whether that was too low or too high. 1 at the end for the right one, and a
    tenth for each guess that is a digit at all."""
    secret = int(task.facts["secret"])
    while True:
        said = (await chat.say(max_tokens=task.facts.get("room"))).text.strip()
        if not (said.isascii() and said.isdigit()):
            chat.hear("user", "A digit, please.")
            continue
        chat.reward(0.1, "form")
        if int(said) == secret:
            return 1.0
        chat.hear("user", "Higher." if int(said) < secret else "Lower.")


def add(a: float, b: float) -> float:
    """Adds two numbers.

    Args:
        a: the first
        b: the second
    """
    if a > 1e6:
        raise ToolError("too large")
    return a + b


calculator = tool_env(add, score=lambda task, reply: float(task.facts["sum"] in reply.text))


class Script:
    """An engine that says what it is told, in the tokens of a real one: a policy for tests."""

    window = 4096

    def __init__(self, tok, *said: str | Sequence[int], cut: Sequence[int] = ()):
        self.tok, self.said, self.cut, self.asked = tok, list(said), set(cut), []

    async def generate(self, tokens, *, n, max_tokens, sampling, stop, seed, first=0, keep=False):
        number = len(self.asked)
        self.asked.append(tuple(tokens))
        text = self.said[number % len(self.said)]
        ids = (
            list(self.tok(text, add_special_tokens=False)["input_ids"])
            if isinstance(text, str)
            else [*text]
        )
        ids = ids if number in self.cut else [*ids, stop[0]]
        halts = [i + 1 for i, t in enumerate(ids) if t in stop] or [len(ids)]
        ids = ids[: min(halts[0], max_tokens)]
        return [
            Completion(tuple(ids), (-0.5,) * len(ids), "stop" if ids[-1] in stop else "length")
        ] * n

    async def load(self, weights, version):
        pass


def play_all(engine, env, prompts, tok, facts=None, **options: Any) -> list[list[Episode]]:
    how = dict(n=1, max_tokens=8, sampling=Sampling(), seed=0) | options
    return asyncio.run(episodes(engine, tasks(tok, prompts, facts), tok, env=env, **how))


def play_one(engine, env, prompt, tok, facts=None, **options: Any) -> Episode:
    ((episode,),) = play_all(engine, env, [prompt], tok, [facts or {}], **options)
    return episode


def check(episode: Episode, tok, model=None, sampling: Sampling | None = None) -> None:
    """What must be true of every episode: what was said is what is trained on, with the log-probs of the learner."""
    said = []
    for sample, branch in zip(
        as_samples(episode), [b for b in episode.branches if b.segments], strict=False
    ):
        assert len(sample.tokens) == len(sample.mask) == len(sample.logprobs)
        assert not sample.mask[0]
        masked = [t for t, m in zip(sample.tokens, sample.mask, strict=True) if m]
        own = [s for s in branch.segments[branch.context :] if s.author == "policy"]
        assert masked == [t for s in own for t in s.tokens]
        assert [sample.tokens[s.start : s.stop] for s in sample.steps] == [s.tokens for s in own]
        said += [decode_response(tok, s.tokens) for s in own]
        if model is not None:
            batch = collate([sample])
            with torch.no_grad():
                logp = token_logps(model, batch.tokens, batch.mask, sampling)
            assert ((logp - batch.old_logp)[batch.mask].exp() - 1).abs().max() < 1e-4
    answers = [m.content for m in episode.messages if m.role == "assistant"]
    if not any(m.tool_calls for m in episode.messages) and len(episode.branches) == 1:
        assert said == answers[len(answers) - len(said) :]
    given = episode.reward + sum(t.reward for t in episode.turns)
    assert abs(given - sum(episode.parts.values())) < 1e-9 and episode.score == given


def engine_of(tok, arch: str = "llama", context: int = 512) -> LocalEngine:
    model = tiny.causal_lm(arch, vocab=len(tok), context=context)
    return LocalEngine(model)


USER = (Message("user", "Guess."),)
