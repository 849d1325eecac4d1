"""What is answered: a `Said` for each choice, and the JSON that OpenAI's clients read."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from heedful.endpoint.words import alternatives, entry, token_bytes, token_text

Likeliest = tuple[tuple[int, float], ...]  # tokens and their log-probs, the likeliest first


@dataclass(frozen=True)
class Told:
    """Log-probs of tokens in their order, None of one that nothing stands before; and the likeliest at each place."""

    tokens: tuple[int, ...]
    logprobs: tuple[float | None, ...]
    likeliest: tuple[Likeliest, ...]


@dataclass(frozen=True)
class Said:
    """One choice. `tokens` are what was sampled, the end of the turn included; `text` is what it says, without that and
    without a stop sequence; `calls` are names and arguments of the tools that it calls, and `words` what it says
    besides. `told`: where log-probs were asked for, those of the tokens that the text has, the prompt's with `echo`."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    text: str
    finish: Literal["stop", "length"]
    words: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    told: Told | None = None
    call_ids: tuple[str, ...] = field(default=())


def usage(groups: Sequence[Sequence[Said]]) -> dict[str, int]:
    """Of the choices of each prompt: it counts once, however many there are."""
    read = sum(len(group[0].prompt) for group in groups)
    written = sum(len(said.tokens) for group in groups for said in group)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
    }


@dataclass(frozen=True)
class Envelope:
    """What all parts of one answer begin with."""

    kind: Literal["chat.completion", "text_completion"]
    model: str
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def around(self, choices: list[dict[str, Any]], *, chunk: bool = False) -> dict[str, Any]:
        """An answer, or a piece of a stream of it."""
        chat = self.kind == "chat.completion"
        return {
            "id": f"chatcmpl-{self.id}" if chat else f"cmpl-{self.id}",
            "object": f"{self.kind}.chunk" if chat and chunk else self.kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def message(said: Said) -> dict[str, Any]:
    """The assistant's message of a choice."""
    if not said.calls:
        return {"role": "assistant", "content": said.text}
    return {"role": "assistant", "content": said.words or None, "tool_calls": calls(said)}


def calls(said: Said) -> list[dict[str, Any]]:
    """A choice's calls of tools."""
    return [
        {
            "id": key,
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)},
        }
        for key, (name, arguments) in zip(said.call_ids, said.calls, strict=True)
    ]


def finish(said: Said) -> str:
    """Why a choice ends."""
    return "tool_calls" if said.calls else said.finish


def chat_logprobs(tokenizer: PreTrainedTokenizerBase, told: Told | None) -> dict[str, Any] | None:
    """Log-probs as `/v1/chat/completions` has them."""
    if told is None:
        return None
    rows = zip(told.tokens, told.logprobs, told.likeliest, strict=True)
    content = [
        {
            **entry(tokenizer, token, 0.0 if logprob is None else logprob),
            "top_logprobs": alternatives(tokenizer, likeliest),
        }
        for token, logprob, likeliest in rows
    ]
    return {"content": content, "refusal": None}


def text_logprobs(
    tokenizer: PreTrainedTokenizerBase, told: Told | None, wanted: int | None
) -> dict[str, Any] | None:
    """Log-probs as `/v1/completions` has them; a token stands among its alternatives even if it is none of them."""
    if told is None:
        return None
    texts = [token_text(tokenizer, token) for token in told.tokens]
    offsets, raw = [], b""
    for token in told.tokens:
        offsets.append(len(raw.decode(errors="ignore")))
        raw += token_bytes(tokenizer, token)
    rows = zip(texts, told.logprobs, told.likeliest, strict=True)
    tops = [None if p is None else _by_text(tokenizer, text, p, top) for text, p, top in rows]
    return {
        "tokens": texts,
        "token_logprobs": list(told.logprobs),
        "top_logprobs": tops if wanted else None,
        "text_offset": offsets,
    }


def _by_text(
    tokenizer: PreTrainedTokenizerBase, text: str, logprob: float, likeliest: Likeliest
) -> dict[str, float]:
    """Of tokens that are written alike the likeliest counts."""
    found: dict[str, float] = {}
    for key, value in (*((token_text(tokenizer, t), p) for t, p in likeliest), (text, logprob)):
        found[key] = max(value, found.get(key, value))
    return found


def chat_choice(
    tokenizer: PreTrainedTokenizerBase, index: int, said: Said, *, ids: bool
) -> dict[str, Any]:
    """One choice of `/v1/chat/completions`."""
    return {
        "index": index,
        "message": message(said),
        "logprobs": chat_logprobs(tokenizer, said.told),
        "finish_reason": finish(said),
        **({"token_ids": list(said.tokens)} if ids else {}),
    }


def text_choice(
    tokenizer: PreTrainedTokenizerBase,
    index: int,
    said: Said,
    *,
    wanted: int | None,
    before: str,
    ids: bool,
) -> dict[str, Any]:
    """One choice of `/v1/completions`; `before` is the prompt's text where it is to be echoed."""
    return {
        "index": index,
        "text": before + said.text,
        "logprobs": text_logprobs(tokenizer, said.told, wanted),
        "finish_reason": finish(said),
        **({"prompt_token_ids": list(said.prompt), "token_ids": list(said.tokens)} if ids else {}),
    }
