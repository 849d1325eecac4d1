"""Rows → types, in the columns that users already have: plain, conversational, TRL's preference formats, HH-RLHF."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from heedful.data.files import read_rows, write_rows
from heedful.errors import UserError, did_you_mean
from heedful.types import Comparison, Demonstration, Message, Prompt

__all__ = [
    "prompt_from_json",
    "prompt_text",
    "prompt_to_json",
    "read_comparisons",
    "read_demonstrations",
    "read_prompts",
    "read_rows",
    "read_samples",
    "read_texts",
    "write_rows",
]

ROLES = ("system", "user", "assistant")
TURN = re.compile(r"\n\n(Human|Assistant):")
log = logging.getLogger("heedful")
T = TypeVar("T")


def read_texts(source: str | Path) -> list[str]:
    """Raw documents from the column `text`; empty ones are left out."""
    texts = [_string(where, row, "text") for where, row in read_rows(source)]
    texts = [t for t in texts if t.strip()]
    if not texts:
        raise UserError(f"{source}: every `text` is empty")
    return texts


def read_prompts(source: str | Path) -> list[Prompt]:
    """Prompts from `prompt`, from `messages` that end with the user's turn, or from `question` (as a user's turn)."""
    return [_prompt_of(where, row) for where, row in read_rows(source)]


def read_demonstrations(source: str | Path) -> list[Demonstration]:
    """From prompt + completion, or from messages: each assistant turn is a demonstration given the turns before it.

    A text prompt whose completion is a message is a user's turn.
    """
    found: list[Demonstration] = []
    for where, row in read_rows(source):
        if "messages" in row and "completion" not in row:
            found += _turns(where, _messages(where, "messages", row["messages"]))
        else:
            prompt = _prompt(where, "prompt", _column(where, row, "prompt", "messages"))
            completion = _column(where, row, "completion")
            prompt = _as_chat(prompt, completion)
            found.append(Demonstration(prompt, _response(where, "completion", completion)))
    return found


def read_comparisons(source: str | Path, *, skip_bad: bool = False) -> list[Comparison]:
    """Comparisons in heedful's ranking form or TRL's preference form, the prompt explicit or implicit (HH-RLHF).

    Unusable rows (equal or empty responses) are errors, or left out and counted with `skip_bad`.
    """
    return _kept(source, _comparison, skip_bad)


def read_samples(source: str | Path) -> list[dict[str, Any]]:
    """Rows with a prompt and a completion, such as `heedful sample` writes; other columns are kept."""
    rows = []
    for where, row in read_rows(source):
        _prompt(where, "prompt", _column(where, row, "prompt"))
        if not isinstance(_column(where, row, "completion"), str):
            raise UserError(f"{where}: `completion` must be a string")
        if "index" in row and type(row["index"]) is not int:
            raise UserError(f"{where}: `index` must be a whole number, which sample of the prompt")
        rows.append(row)
    return rows


def prompt_text(prompt: Prompt) -> str:
    """A prompt for humans and hashes."""
    return (
        prompt if isinstance(prompt, str) else "\n".join(f"{m.role}: {m.content}" for m in prompt)
    )


def prompt_to_json(prompt: Prompt) -> str | list[dict[str, str]]:
    """The form that files hold."""
    if isinstance(prompt, str):
        return prompt
    return [{"role": m.role, "content": m.content} for m in prompt]


def prompt_from_json(value: Any) -> Prompt:
    """The inverse of `prompt_to_json`."""
    return _prompt("prompt", "prompt", value)


# ── columns ──────────────────────────────────────────────────────────────────────────────────────


def _column(where: str, row: dict[str, Any], name: str, *others: str) -> Any:
    if name in row:
        return row[name]
    wanted = " or ".join(f"`{n}`" for n in (name, *others))
    raise UserError(
        f"{where}: expected a column {wanted}{did_you_mean(name, row)}, found "
        f"{', '.join(row) or 'none'}"
    )


def _string(where: str, row: dict[str, Any], name: str) -> str:
    value = _column(where, row, name)
    if not isinstance(value, str):
        raise UserError(f"{where}: `{name}` must be a string")
    return value


def _messages(where: str, field: str, value: Any) -> tuple[Message, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        text = "" if field == "messages" else "text or "
        raise UserError(f"{where}: `{field}` must be {text}a list of messages")
    messages = []
    for m in value:
        if not isinstance(m, dict) or not isinstance(m.get("content"), str) or "role" not in m:
            raise UserError(
                f"{where}: each message of `{field}` needs a `role` and a text `content`"
            )
        if m["role"] not in ROLES:
            raise UserError(
                f"{where}: `{field}` has the unknown role '{m['role']}'"
                f"{did_you_mean(str(m['role']), ROLES)}, expected {', '.join(ROLES)}"
            )
        messages.append(Message(m["role"], m["content"]))
    return tuple(messages)


def _prompt(where: str, field: str, value: Any) -> Prompt:
    if isinstance(value, str):
        return value
    messages = _messages(where, field, value)
    if messages[-1].role != "user":
        raise UserError(
            f"{where}: `{field}` must end with the user's turn, not the {messages[-1].role}'s"
        )
    return messages


def _as_chat(prompt: Prompt, response: Any) -> Prompt:
    """A text prompt that a message answers is a user's turn, or the chat template would be left out."""
    return (
        prompt
        if isinstance(response, str) or not isinstance(prompt, str)
        else (Message("user", prompt),)
    )


def _prompt_of(where: str, row: dict[str, Any]) -> Prompt:
    if "prompt" not in row and "question" in row:
        return (Message("user", _string(where, row, "question")),)
    name = "messages" if "prompt" not in row and "messages" in row else "prompt"
    return _prompt(where, name, _column(where, row, name, "messages", "question"))


def _response(where: str, field: str, value: Any) -> str:
    """A response: text, or a list whose only message is the assistant's."""
    if not isinstance(value, str):
        messages = _messages(where, field, value)
        if len(messages) != 1 or messages[0].role != "assistant":
            raise UserError(f"{where}: `{field}` must be text or one assistant message")
        value = messages[0].content
    if not value.strip():
        raise UserError(f"{where}: `{field}` is an empty response")
    return value


def _turns(where: str, messages: tuple[Message, ...]) -> Iterator[Demonstration]:
    answers = [i for i, m in enumerate(messages) if m.role == "assistant" and i > 0]
    if not answers:
        raise UserError(f"{where}: `messages` has no assistant turn that answers anything")
    for i in answers:
        if messages[i - 1].role == "assistant":
            raise UserError(f"{where}: `messages` has two assistant turns in succession")
        yield Demonstration(messages[:i], _response(where, "messages", messages[i].content))


# ── comparisons ──────────────────────────────────────────────────────────────────────────────────


def _comparison(where: str, row: dict[str, Any]) -> Comparison:
    if "responses" in row:
        return _ranking(where, row)
    chosen, rejected = _column(where, row, "chosen", "responses"), _column(where, row, "rejected")
    if "prompt" in row:
        prompt = _prompt(where, "prompt", row["prompt"])
        if all(isinstance(c, list) and len(c) > 1 for c in (chosen, rejected)):
            # Whole conversations that repeat the prompt; a text prompt is a copy of one of their turns.
            shared, chosen, rejected = _split_messages(where, chosen, rejected)
            if shared != prompt and not isinstance(prompt, str):
                raise UserError(f"{where}: `chosen` does not begin with the turns of `prompt`")
            prompt = shared
        elif not isinstance(rejected, str):
            prompt = _as_chat(prompt, chosen)
    elif isinstance(chosen, str) and isinstance(rejected, str):
        prompt, chosen, rejected = _split_text(where, chosen, rejected)
    else:
        prompt, chosen, rejected = _split_messages(where, chosen, rejected)
    responses = (_response(where, "chosen", chosen), _response(where, "rejected", rejected))
    if responses[0] == responses[1]:
        raise UserError(f"{where}: `chosen` and `rejected` are the same, so nothing was compared")
    return Comparison(prompt, responses, (1, 2), **_extras(where, row, 2))


def _ranking(where: str, row: dict[str, Any]) -> Comparison:
    prompt = _prompt(where, "prompt", _column(where, row, "prompt"))
    responses, ranking = row["responses"], _column(where, row, "ranking")
    if not isinstance(responses, Sequence) or isinstance(responses, str) or len(responses) < 2:
        raise UserError(f"{where}: `responses` must be a list of at least two")
    texts = tuple(_response(where, "responses", r) for r in responses)
    whole = isinstance(ranking, Sequence) and all(type(r) is int and r >= 1 for r in ranking)
    if not whole or len(ranking) != len(texts):
        raise UserError(
            f"{where}: `ranking` must hold one whole number from 1 (best) for each of the "
            f"{len(texts)} responses"
        )
    if len(set(texts)) < len(texts):
        raise UserError(f"{where}: `responses` holds the same response twice")
    return Comparison(prompt, texts, tuple(ranking), **_extras(where, row, len(texts)))


def _extras(where: str, row: dict[str, Any], count: int) -> dict[str, Any]:
    names = ("strength", "rater", "order_shown", "seconds", "policy_version", "created_at")
    extras = {n: row[n] for n in names if row.get(n) is not None}
    for name, most in (("strength", 1.0), ("seconds", float("inf"))):
        value = extras.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            limits = "from 0 to 1" if most == 1 else "of 0 or more"
            raise UserError(f"{where}: `{name}` must be a number {limits}, not {value!r}")
    if "order_shown" in extras:
        order = extras["order_shown"]
        if not isinstance(order, list) or sorted(map(str, order)) != sorted(map(str, range(count))):
            raise UserError(f"{where}: `order_shown` must list the responses 0 to {count - 1} once")
        extras["order_shown"] = tuple(map(int, order))
    return extras


def _split_text(where: str, chosen: str, rejected: str) -> tuple[Prompt, str, str]:
    """Implicit prompts: the turns that two transcripts share, or the common beginning of plain texts."""
    ours, theirs = _transcript(chosen), _transcript(rejected)
    if ours and theirs:
        shared = 0
        while shared < min(len(ours), len(theirs)) and ours[shared] == theirs[shared]:
            shared += 1
        # Up to the last common user's turn; what follows, several turns if need be, is the response.
        while shared and ours[shared - 1].role != "user":
            shared -= 1
        if shared == 0:
            raise UserError(f"{where}: `chosen` and `rejected` share no opening turn of the human")
        for rest in (ours[shared:], theirs[shared:]):
            if rest and rest[0].role != "assistant":
                raise UserError(f"{where}: `chosen` and `rejected` differ in a turn of the human")
        return _merged(ours[:shared]), _joined(ours[shared:]), _joined(theirs[shared:])
    end = 0
    while end < min(len(chosen), len(rejected)) and chosen[end] == rejected[end]:
        end += 1
    # Cut at a word's beginning, so that no word is torn between prompt and response.
    while end and not chosen[end - 1 : end].isspace():
        end -= 1
    end = max(0, end - 1) if end else 0
    if not chosen[:end].strip():
        raise UserError(
            f"{where}: there is no column `prompt`, and `chosen` and `rejected` share no beginning "
            "that could serve as one"
        )
    return chosen[:end], chosen[end:], rejected[end:]


def _transcript(text: str) -> tuple[Message, ...]:
    """The turns of an HH-RLHF transcript, whatever space is around it; none if the text is no transcript."""
    text = "\n\n" + text.strip()
    if not TURN.match(text):
        return ()
    parts = TURN.split(text)
    roles = {"Human": "user", "Assistant": "assistant"}
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return tuple(Message(roles[who], said.strip()) for who, said in pairs)


def _merged(turns: Sequence[Message]) -> tuple[Message, ...]:
    """Turns in succession by one speaker (HH-RLHF has some) as one: many chat templates refuse them otherwise."""
    merged: list[Message] = []
    for turn in turns:
        if merged and merged[-1].role == turn.role:
            turn = Message(turn.role, f"{merged.pop().content}\n\n{turn.content}".strip())
        merged.append(turn)
    return tuple(merged)


def _joined(turns: Sequence[Message]) -> str:
    """A response is mostly one assistant turn; a longer remainder keeps its speakers, as HH-RLHF writes them."""
    names = {"user": "Human", "assistant": "Assistant"}
    first, *rest = _merged(turns) or (Message("assistant", ""),)
    return first.content + "".join(f"\n\n{names[m.role]}: {m.content}" for m in rest)


def _split_messages(where: str, chosen: Any, rejected: Any) -> tuple[Prompt, Any, Any]:
    ours = _messages(where, "chosen", chosen)
    theirs = _messages(where, "rejected", rejected)
    last = {ours[-1].role, theirs[-1].role}
    if len(ours) < 2 or ours[:-1] != theirs[:-1] or last != {"assistant"}:
        raise UserError(
            f"{where}: without a column `prompt`, `chosen` and `rejected` must be the same "
            "conversation up to a last assistant message"
        )
    return _prompt(where, "chosen", prompt_to_json(ours[:-1])), ours[-1].content, theirs[-1].content


def _kept(source: str | Path, parse: Callable[[str, dict[str, Any]], T], skip_bad: bool) -> list[T]:
    items, skipped, reason = [], 0, ""
    for where, row in read_rows(source):
        try:
            items.append(parse(where, row))
        except UserError as error:
            if not skip_bad:
                raise UserError(f"{error} (skip_bad leaves such rows out)") from error
            skipped, reason = skipped + 1, reason or str(error)
    if skipped:
        log.warning("%s: left out %d unusable rows, the first: %s", source, skipped, reason)
    if not items:
        raise UserError(f"{source}: all {skipped} rows are unusable; the first: {reason}")
    return items
