"""Columns of a row → texts, messages, prompts, responses; what does not fit is told by file, line and field."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from heedful.errors import UserError, did_you_mean
from heedful.types import Demonstration, Message, Prompt

ROLES = ("system", "user", "assistant")


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
    return prompt_from("prompt", "prompt", value)


def column(where: str, row: dict[str, Any], name: str, *others: str) -> Any:
    """The value of a column; `others` are what the message names besides."""
    if name in row:
        return row[name]
    wanted = " or ".join(f"`{n}`" for n in (name, *others))
    raise UserError(
        f"{where}: expected a column {wanted}{did_you_mean(name, row)}, found "
        f"{', '.join(row) or 'none'}"
    )


def string(where: str, row: dict[str, Any], name: str) -> str:
    """The text in a column."""
    value = column(where, row, name)
    if not isinstance(value, str):
        raise UserError(f"{where}: `{name}` must be a string")
    return value


def messages_of(where: str, field: str, value: Any) -> tuple[Message, ...]:
    """A list of {role, content}."""
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


def prompt_from(where: str, field: str, value: Any) -> Prompt:
    """Text, or messages that end with the user's turn."""
    if isinstance(value, str):
        return value
    messages = messages_of(where, field, value)
    if messages[-1].role != "user":
        raise UserError(
            f"{where}: `{field}` must end with the user's turn, not the {messages[-1].role}'s"
        )
    return messages


def as_chat(prompt: Prompt, response: Any) -> Prompt:
    """A text prompt that a message answers is a user's turn, or the chat template would be left out."""
    return (
        prompt
        if isinstance(response, str) or not isinstance(prompt, str)
        else (Message("user", prompt),)
    )


def prompt_of(where: str, row: dict[str, Any]) -> Prompt:
    """The prompt of a row, in whichever column it stands; a `question` is a user's turn."""
    if "prompt" not in row and "question" in row:
        return (Message("user", string(where, row, "question")),)
    name = "messages" if "prompt" not in row and "messages" in row else "prompt"
    return prompt_from(where, name, column(where, row, name, "messages", "question"))


def response(where: str, field: str, value: Any) -> str:
    """A response: text, or a list whose only message is the assistant's."""
    if not isinstance(value, str):
        messages = messages_of(where, field, value)
        if len(messages) != 1 or messages[0].role != "assistant":
            raise UserError(f"{where}: `{field}` must be text or one assistant message")
        value = messages[0].content
    if not value.strip():
        raise UserError(f"{where}: `{field}` is an empty response")
    return value


def turns(where: str, messages: tuple[Message, ...]) -> Iterator[Demonstration]:
    """Each assistant turn as a demonstration, given the turns before it."""
    answers = [i for i, m in enumerate(messages) if m.role == "assistant" and i > 0]
    if not answers:
        raise UserError(f"{where}: `messages` has no assistant turn that answers anything")
    for i in answers:
        if messages[i - 1].role == "assistant":
            raise UserError(f"{where}: `messages` has two assistant turns in succession")
        yield Demonstration(messages[:i], response(where, "messages", messages[i].content))
