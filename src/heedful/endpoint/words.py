"""Single tokens as text and bytes, and the text of a response while it grows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from transformers import PreTrainedTokenizerBase

from heedful.data.tokens import decode_response
from heedful.types import Prompt

_BYTE = re.compile(
    r"<0x([0-9A-Fa-f]{2})>"
)  # as tokenizers of the SentencePiece family write single bytes
UNKNOWN = "\ufffd"  # what incomplete UTF-8 is decoded to


def token_bytes(tokenizer: PreTrainedTokenizerBase, token: int) -> bytes:
    """What a token stands for; several may be needed for one character."""
    text = tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if UNKNOWN not in text:
        return str(text).encode()
    name = str(tokenizer.convert_ids_to_tokens(token))
    if match := _BYTE.fullmatch(name):
        return bytes([int(match[1], 16)])
    known = _byte_of_letter()
    if all(c in known for c in name):
        return bytes(known[c] for c in name)
    return str(text).encode()


def token_text(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """A token as a key of OpenAI's lists: its text, or `bytes:\\x…` where it is part of a character."""
    raw = token_bytes(tokenizer, token)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{b:02x}" for b in raw)


@cache
def _byte_of_letter() -> dict[str, int]:
    """How byte-level BPE writes bytes (GPT-2): printable ones as themselves, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(others)}


class Growing:
    """The text of ids that come one by one: `more` gives what can be told of it already.

    Held back is what may still become another character, one of the texts `stop`, behind which nothing is told, or
    one of `marks`, with which something begins that is no text.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        stop: Sequence[str] = (),
        marks: Sequence[str] = (),
    ):
        self._tokenizer, self._ends = tokenizer, (*stop, *marks)
        self._ids: list[int] = []
        self.told = ""
        self._shut = False

    def more(self, token: int) -> str:
        """What can be told after this token, and could not before."""
        self._ids.append(token)
        if self._shut:
            return ""
        text = decode_response(self._tokenizer, self._ids)
        ends = [at for end in self._ends if (at := text.find(end)) >= 0]
        self._shut = bool(ends)
        sure = min(ends) if ends else len(text.rstrip(UNKNOWN)) - self._held(text)
        new, self.told = text[len(self.told) : sure], text[: max(sure, len(self.told))]
        return new

    def rest(self, whole: str) -> str:
        """What is left to tell, once it is known how the whole text reads."""
        return whole[len(self.told) :] if whole.startswith(self.told) else ""

    def _held(self, text: str) -> int:
        """So many characters at the end may be the beginning of an end."""
        most = max((len(end) - 1 for end in self._ends), default=0)
        sizes = range(min(most, len(text)), 0, -1)
        return next((n for n in sizes if any(e.startswith(text[-n:]) for e in self._ends)), 0)


def cut(text: str, stop: Sequence[str]) -> str:
    """A text up to the first of these."""
    return text[: min((at for s in stop if (at := text.find(s)) >= 0), default=len(text))]


def echoed(tokenizer: PreTrainedTokenizerBase, prompt: Prompt | tuple[int, ...]) -> str:
    """A text prompt as it is repeated before what is said."""
    if isinstance(prompt, str):
        return prompt
    return decode_response(tokenizer, [t for t in prompt if isinstance(t, int)])


def alternatives(
    tokenizer: PreTrainedTokenizerBase, likeliest: Sequence[tuple[int, float]]
) -> list[dict[str, Any]]:
    """Tokens with their log-probs as `/v1/chat/completions` lists them."""
    return [entry(tokenizer, token, logprob) for token, logprob in likeliest]


def entry(tokenizer: PreTrainedTokenizerBase, token: int, logprob: float) -> dict[str, Any]:
    """`{"token", "logprob", "bytes"}`."""
    raw = list(token_bytes(tokenizer, token))
    return {"token": token_text(tokenizer, token), "logprob": logprob, "bytes": raw}
