"""What a chat template writes between the policy's turns. What was sampled is never rendered or encoded again.

A conversation is followed as text: after each turn of the policy the template renders all of it, with what was
heard since. If that begins with the text so far, the rest is what comes between, and it alone is encoded. If it does
not, the template writes earlier turns anew (drops thoughts, trims spaces, has another date): then what the policy saw
is not what the template shows from now on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from heedful.data.templates import Written, between, controls
from heedful.data.tokens import one_bos
from heedful.types import Message


def opening(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], tools: Sequence[Any] = ()
) -> Written:
    """A conversation up to where the policy begins to write."""
    written = between(tokenizer, "", messages, 0, tools)
    assert written is not None  # every text begins with nothing
    return replace(written, ids=one_bos(tokenizer, written.ids))


class Openings:
    """The last opening that was asked for: the episodes of a task begin alike, and it is rendered and encoded once."""

    def __init__(self) -> None:
        self._asked: tuple[Any, ...] | None = None
        self._written: Written | None = None

    def written(
        self, tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], tools: Sequence[Any]
    ) -> Written:
        """`opening`."""
        asked = (tokenizer, [*messages], [*tools])
        if self._written is None or asked != self._asked:
            self._asked, self._written = asked, opening(*asked)
        return self._written


def continuation(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    messages: Sequence[Message],
    heard: int,
    tools: Sequence[Any] = (),
    last: int | None = None,
) -> Written | None:
    """What the template writes behind `text`, the conversation with the policy's last turn, when the last `heard`
    messages come; None where it writes anew what is in the text. `last` is the last id that was sampled: an end of
    turn is not written twice."""
    written = between(tokenizer, text, messages, len(messages) - heard, tools)
    if (
        written is not None
        and written.ids
        and written.ids[0] == last
        and last in controls(tokenizer)
    ):
        return replace(written, ids=written.ids[1:])
    return written


def raw_text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of ids, control tokens included."""
    text = tokenizer.decode(
        list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return text if isinstance(text, str) else "".join(text)
