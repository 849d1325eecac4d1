"""What a chat template writes: the one place that asks it, so that tools and its variables reach it everywhere.

What people and tools say is text, whatever it looks like: `<|im_end|>` in a user's turn is ten characters and ends
nothing. The system's and the assistant's turns are the author's and the model's own, and are read as they stand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase

from heedful.errors import UserError
from heedful.types import Message
from heedful.types.messages import turn_to_json

# By the template as well, which users replace: what matches control tokens as text, and their ids.
_controls: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[Any, re.Pattern[str], set[int]]] = (
    WeakKeyDictionary()
)
OWN_WORDS = ("system", "developer", "assistant")  # whose control tokens in a prompt are meant
# Arguments of `apply_chat_template` that no row of data may set.
TAKEN = {
    "conversation",
    "chat_template",
    "tools",
    "tokenize",
    "add_generation_prompt",
    "return_dict",
}


@dataclass(frozen=True)
class Written:
    """`ids` that a template adds to a conversation, and `text`: all of the conversation up to there."""

    ids: list[int]
    text: str


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = False,
    tokenize: bool = True,
    tools: Sequence[Any] = (),
) -> Any:
    """What the chat template makes of turns: ids, or the text where `tokenize` is False. `UserError` if it refuses.

    The messages' own tools come before `tools`.
    """
    template = tokenizer.chat_template
    if not template:
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no chat template, and the "
            "data is conversational; put a chat_template.jinja into the model's folder (docs/models.md has one for "
            "base models), or use plain-text prompts"
        )
    shown = [*(dict(tool) for m in messages for tool in m.tools), *tools]
    variables = {name: value for m in messages for name, value in m.template_kwargs.items()}
    _refuse_lost(str(template), messages, shown, variables)
    try:
        return tokenizer.apply_chat_template(  # a dict is what transformers 5 returns by default
            [turn_to_json(m) for m in messages],
            tools=shown or None,
            tokenize=tokenize,
            add_generation_prompt=add_generation_prompt,
            return_dict=False,
            **variables,
        )
    except Exception as error:  # jinja2 errors, raised by the template itself
        reason = " ".join(str(error).split())
        roles = ", ".join(m.role for m in messages)
        told = any(m.role in ("system", "developer") for m in messages)
        hint = "; what the system says may begin the first user's turn" if told else ""
        raise UserError(
            f"the chat template refuses turns of roles {roles}: {reason}{hint}"
        ) from error


def _refuse_lost(
    template: str, messages: Sequence[Message], tools: Sequence[Any], variables: dict[str, Any]
) -> None:
    """Templates leave out in silence what they know nothing of."""
    lost = "the chat template knows no {}, and so would leave out those of the data"
    if tools and "tools" not in template:
        raise UserError(lost.format("tools"))
    if any(m.tool_calls for m in messages) and "tool_calls" not in template:
        raise UserError(lost.format("tool_calls"))
    if named := TAKEN & variables.keys():
        raise UserError(f"`chat_template_kwargs` cannot set {', '.join(sorted(named))}")


def conversation_text(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], tools: Sequence[Any] = ()
) -> str:
    """A conversation as the template writes it, up to where the policy begins to write."""
    return render(tokenizer, messages, tokenize=False, add_generation_prompt=True, tools=tools)


def opening_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """Ids of a conversation up to where the policy begins to write."""
    if not _hostile(tokenizer, messages, 0):  # rendered once, not twice
        return list(render(tokenizer, messages, add_generation_prompt=True))
    written = between(tokenizer, "", messages, 0)
    assert written is not None  # every text begins with nothing
    return written.ids


def _hostile(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], old: int
) -> list[int]:
    """The messages from `old` on whose words look like control tokens and are none."""
    pattern, _ = _control(tokenizer)
    return [
        i
        for i, m in enumerate(messages)
        if i >= old and (old or m.role not in OWN_WORDS) and pattern.search(m.content)
    ]


def between(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    messages: Sequence[Message],
    old: int,
    tools: Sequence[Any] = (),
) -> Written | None:
    """What the template writes behind `text`, which shows the first `old` messages; None where it writes them anew.

    Of a conversation that begins, the turns of the system and the assistant are read as they stand; of one that goes
    on, nothing that is heard is.
    """
    hostile = _hostile(tokenizer, messages, old)
    whole = conversation_text(tokenizer, messages, tools)
    if not whole.startswith(text):
        return None
    if not hostile and not text:
        ids = render(tokenizer, messages, add_generation_prompt=True, tools=tools)
        return Written(list(ids), whole)
    if not hostile:
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


def _as_shown(content: str, whole: str) -> str:
    """How the template shows a content: as it is, without the spaces around it, or as JSON."""
    for form in (content, content.strip(), json.dumps(content)[1:-1]):
        if form in whole:
            return form
    raise UserError(
        "the chat template changes the words of a message that holds control tokens, so that these "
        f"cannot be told from its own: {content[:60]!r}"
    )


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
