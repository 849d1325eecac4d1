"""What a chat template writes between the policy's turns. What was sampled is never rendered or encoded again.

A conversation is followed as text: after each turn of the policy the template renders all of it, with what was
heard since. If that begins with the text so far, the rest is what comes between, and it alone is encoded. If it does
not, the template writes earlier turns anew (drops thoughts, trims spaces, has another date): then what the policy saw
is not what the template shows from now on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase

from heedful.data.tokens import as_turn, encode_prompt, one_bos, render
from heedful.errors import UserError
from heedful.types import Message

# By the template as well, which users replace: what matches control tokens as text, and their ids.
_controls: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[Any, re.Pattern[str], set[int]]] = (
    WeakKeyDictionary()
)


@dataclass(frozen=True)
class Written:
    """`ids` that a template adds to a conversation, and `text`: all of the conversation up to there."""

    ids: list[int]
    text: str


def opening(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], tools: Sequence[Any] = ()
) -> Written:
    """A conversation up to where the policy begins to write."""
    written = _between(tokenizer, "", messages, 0, tools)
    assert written is not None  # every text begins with nothing
    return replace(written, ids=one_bos(tokenizer, written.ids))


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
    written = _between(tokenizer, text, messages, len(messages) - heard, tools)
    if (
        written is not None
        and written.ids
        and written.ids[0] == last
        and last in controls(tokenizer)
    ):
        return replace(written, ids=written.ids[1:])
    return written


def controls(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids that mean more than text: special tokens, and added ones that the template writes itself."""
    return _control(tokenizer)[1]


def encode_plain(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a text in which nothing is a control token: `<|im_end|>` is seven characters and more."""
    pattern, forbidden = _control(tokenizer)
    ids: list[int] = []
    while (match := pattern.search(text)) is not None:
        cut = match.start() + 1
        ids += tokenizer(text[:cut], add_special_tokens=False)["input_ids"]
        text = text[cut:]
    ids += tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
    if forbidden.intersection(ids):
        raise UserError(
            f"this tokenizer makes a control token of plain text, whatever is done: {text[:60]!r}"
        )
    return ids


def raw_text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of ids, control tokens included."""
    text = tokenizer.decode(
        list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return text if isinstance(text, str) else "".join(text)


def _between(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    messages: Sequence[Message],
    old: int,
    tools: Sequence[Any],
) -> Written | None:
    whole = conversation_text(tokenizer, messages, tools)
    if not whole.startswith(text):
        return None
    pattern, _ = _control(tokenizer)
    hostile = [i for i, m in enumerate(messages) if i >= old and pattern.search(m.content)]
    if not hostile:
        if not text and not tools:
            return Written(encode_prompt(tokenizer, tuple(messages)), whole)
        return Written(_ids(tokenizer, whole[len(text) :]), whole)
    # Their words are put in behind the rendering, so that template and words are told apart.
    name = "heedful"
    while name in whole:
        name += "x"
    marks = {i: f"{name}{i}{name}" for i in hostile}
    shown = [replace(m, content=marks[i]) if i in marks else m for i, m in enumerate(messages)]
    marked = conversation_text(tokenizer, shown, tools)
    if not marked.startswith(text):
        return None
    words = {mark: _as_shown(messages[i].content, whole) for i, mark in marks.items()}
    ids: list[int] = []
    for piece in re.split("|".join(f"({re.escape(mark)})" for mark in words), marked[len(text) :]):
        if piece:
            plain = piece in words
            ids += encode_plain(tokenizer, words[piece]) if plain else _ids(tokenizer, piece)
    return Written(ids, whole)


def _as_shown(content: str, whole: str) -> str:
    """How the template shows a content: as it is, without the spaces around it, or as JSON."""
    for form in (content, content.strip(), json.dumps(content)[1:-1]):
        if form in whole:
            return form
    raise UserError(
        "the chat template changes the words of a message that holds control tokens, so that these "
        f"cannot be told from its own: {content[:60]!r}"
    )


def conversation_text(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], tools: Sequence[Any] = ()
) -> str:
    """A conversation as the template writes it, up to where the policy begins to write."""
    turns = [as_turn(m) for m in messages]
    return render(tokenizer, turns, tokenize=False, add_generation_prompt=True, tools=tools)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def _control(tokenizer: PreTrainedTokenizerBase) -> tuple[re.Pattern[str], set[int]]:
    template = tokenizer.chat_template
    known = _controls.get(tokenizer)
    if known is None or known[0] != template:
        added: Any = tokenizer.added_tokens_decoder
        special = set(tokenizer.all_special_ids)
        controls = {
            i: token.content
            for i, token in added.items()
            if i in special
            or token.special
            or (len(token.content.strip()) > 1 and token.content in str(template or ""))
        }
        words = sorted(controls.values(), key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, words)) if words else r"(?!)")
        known = _controls[tokenizer] = (template, pattern, set(controls))
    return known[1], known[2]
