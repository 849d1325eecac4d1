"""Columns of a row → texts, messages, prompts, responses; what does not fit is told by file, line and field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from heedful import exact
from heedful.data.transcripts import conversation
from heedful.errors import UserError, did_you_mean
from heedful.types import Comparison, Demonstration, Message, Prompt
from heedful.types.messages import turn_to_json

ROLES = ("system", "developer", "user", "assistant", "tool")
# The names that ShareGPT's files, older interfaces and some models have for them.
ROLE_NAMES = {
    "human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
    "function_call": "assistant", "function": "tool", "observation": "tool", "ipython": "tool",
}  # fmt: skip
THOUGHTS = ("reasoning_content", "reasoning", "thinking")  # fields of their own in some files
TEXT_PARTS = ("text", "input_text", "output_text")
TEMPLATE = ("tools", "functions", "chat_template_kwargs")
SYSTEM = ("system", "system_prompt")  # what the system says, in a column beside the prompt
WEIGHTS = ("weight", "train", "training", "loss")  # OpenAI's, axolotl's and ms-swift's of a turn
# A conversation that a table keeps as text.
MESSAGES = re.compile(r"""\[\s*\{\s*(["'])(role|content|from|value)\1\s*:.*\]\s*""", re.DOTALL)


def prompt_text(prompt: Prompt) -> str:
    """A prompt for humans and hashes."""
    return prompt if isinstance(prompt, str) else "\n".join(map(_shown, prompt))


def _shown(message: Message) -> str:
    calls = "".join(f" {json.dumps(dict(c), ensure_ascii=False)}" for c in message.tool_calls)
    return f"{message.role}: {message.content}{calls}"


def prompt_to_json(prompt: Prompt) -> str | list[dict[str, Any]]:
    """The form that the column `prompt` of files holds; `prompt_columns` are it and those beside it."""
    return prompt if isinstance(prompt, str) else [turn_to_json(m) for m in prompt]


def prompt_columns(prompt: Prompt) -> dict[str, Any]:
    """A prompt as a row has it: `prompt`, and `tools` and `chat_template_kwargs` where it has them."""
    if isinstance(prompt, str):
        return {"prompt": prompt}
    tools = [dict(tool) for m in prompt for tool in m.tools]
    variables = {name: value for m in prompt for name, value in m.template_kwargs.items()}
    found = {"tools": tools, "chat_template_kwargs": variables}
    return {"prompt": prompt_to_json(prompt)} | {n: value for n, value in found.items() if value}


def comparison_columns(c: Comparison) -> dict[str, Any]:
    """A comparison as a row has it: its prompt's columns, `responses` and `ranking`."""
    return prompt_columns(c.prompt) | {"responses": [*c.responses], "ranking": [*c.ranking]}


def prompt_from_json(value: Any) -> Prompt:
    """The inverse of `prompt_to_json`."""
    return prompt_from("prompt", "prompt", value)


def column(where: str, row: Mapping[str, Any], name: str, *others: str) -> Any:
    """The value of a column; `others` are what the message names besides."""
    if name in row:
        return row[name]
    near = did_you_mean(name, row, cutoff=0.7)
    wanted = " or ".join(f"`{n}`" for n in (name, *others))
    raise UserError(
        f"{where}: expected a column {wanted}{near}, found "
        f"{', '.join(row) or 'none'}; --columns {name}=… says which column it is"
    )


def string(where: str, row: Mapping[str, Any], name: str) -> str:
    """The text in a column."""
    value = column(where, row, name)
    if not isinstance(value, str):
        raise UserError(f"{where}: `{name}` must be a string")
    return value


def name_in(where: str, row: Mapping[str, Any], field: str) -> str | None:
    """Who or what a column names: a text, or the number that other tools have for people; None: nobody."""
    value = row.get(field)
    if value is None:
        return None
    if type(value) is int and not exact.whole(value):
        return str(value)
    problem = exact.text(value) and "must be text or a whole number"
    exact.refuse(f"{where}: `{field}`", problem, value)
    return str(value) or None


def messages_of(where: str, field: str, value: Any) -> tuple[Message, ...]:
    """A list of {role, content}, or of ShareGPT's {from, value}; contents may be parts, of text alone."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        text = "" if field == "messages" else "text or "
        raise UserError(f"{where}: `{field}` must be {text}a list of messages")
    return tuple(_message(where, field, m) for m in value)


def _message(where: str, field: str, value: Any) -> Message:
    problem = UserError(
        f"{where}: each message of `{field}` needs a `role` and a text `content`, or tool calls"
    )
    if not isinstance(value, Mapping):
        raise problem
    said = {"role": value.get("from"), "content": value.get("value"), **value}
    role, calls = said["role"], _calls(where, field, said)
    if not isinstance(role, str):
        raise problem
    role = ROLE_NAMES.get(role, role)
    if role not in ROLES:
        raise UserError(
            f"{where}: `{field}` has the unknown role '{role}'{did_you_mean(role, ROLES)}, expected "
            f"{', '.join(ROLES)}"
        )
    content = "" if calls and said["content"] is None else said["content"]
    if said["role"] == "function_call":  # ShareGPT's call is the text itself
        content = ""
    if isinstance(content, list):
        content = _joined_parts(where, field, content)
    if not isinstance(content, str):
        raise problem
    if lost := [name for name in THOUGHTS if said.get(name)]:
        raise UserError(
            f"{where}: a message of `{field}` has `{lost[0]}`, which would be left out; write it into the `content` "
            "as the model does, such as <think>…</think>, or remove it"
        )
    return Message(
        role,
        content,
        calls,
        name_in(f"{where}: a message of `{field}`", said, "name"),
        name_in(f"{where}: a message of `{field}`", said, "tool_call_id"),
        *_template_of(
            where, said
        ),  # with the first turn, as some models' own files and our database have it
    )


def _joined_parts(where: str, field: str, parts: list[Any]) -> str | None:
    """The text of a content in parts; None where one is no part at all."""
    texts: list[str] = []
    for part in parts:
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
        if kind not in TEXT_PARTS:
            raise UserError(
                f"{where}: `{field}` has a content with a part of the type {kind!r}; heedful reads text only"
            )
        text = part.get("text") if isinstance(part, Mapping) else part
        if not isinstance(text, str):
            return None
        texts.append(text)
    return "".join(texts)


def _calls(where: str, field: str, said: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """The tool calls of a message, their arguments as objects: templates would quote a JSON text once more."""
    found = said.get("tool_calls") or []
    if isinstance(said.get("function_call"), Mapping):  # OpenAI's older form
        found = [said["function_call"]]
    elif said["role"] == "function_call":
        found = _json_of(where, field, said["content"])
    calls = []
    for call in found if isinstance(found, list) else [found]:
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise UserError(f"{where}: each tool call in `{field}` needs the `name` of a function")
        arguments = _whole_json(where, field, function.get("arguments") or {})
        made = {"name": function["name"], "arguments": arguments}
        about = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
        calls.append({"type": "function", **about, "function": made})
    return tuple(calls)


def _json_of(where: str, field: str, value: Any) -> Any:
    """An object or list that may be written as a JSON text, as OpenAI and Parquet files have it."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise UserError(
            f"{where}: `{field}` holds {value[:40]!r}, which ought to be JSON"
        ) from None


def _whole_json(where: str, field: str, value: Any) -> Any:
    """The same, of which every part is JSON: no NaN, no date out of a Parquet file."""
    value = _json_of(where, field, value)
    if value:
        exact.refuse(f"{where}: `{field}`", exact.jsonable(value), value)
    return value


def unpacked(where: str, field: str, text: str) -> Any:
    """Messages that a table keeps as JSON text; any other text as it is."""
    if not (kept := MESSAGES.fullmatch(text)):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        if kept[1] == '"':
            return text
        raise UserError(
            f"{where}: `{field}` holds messages as Python prints them, not as JSON; pandas writes JSON by "
            "to_json(…, orient='records', lines=True)"
        ) from None


def prompt_from(where: str, field: str, value: Any) -> Prompt:
    """Text, or messages that end with the user's turn or a tool's answer. An HH-RLHF transcript is a conversation."""
    if isinstance(value, str):
        value = unpacked(where, field, value)
    messages = conversation(value) if isinstance(value, str) else messages_of(where, field, value)
    if not messages:
        return value
    return ends_with_question(where, field, messages)


def ends_with_question(where: str, field: str, messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages, once it is known that an answer may follow: the user's turn is the last, or a tool's."""
    last = messages[-1].role
    if last not in ("user", "tool"):
        raise UserError(f"{where}: `{field}` must end with the user's turn, not the {last}'s")
    return tuple(messages)


def with_template(where: str, row: Mapping[str, Any], prompt: Prompt) -> Prompt:
    """The prompt with what its row tells the chat template: `system`, `tools`, `chat_template_kwargs`."""
    prompt = _told(row, prompt)
    tools, variables = _template_of(where, row)
    if not tools and not variables:
        return prompt
    if isinstance(prompt, str):
        name = "tools" if tools else "chat_template_kwargs"
        raise UserError(f"{where}: `{name}` is for a chat template, and the prompt is plain text")
    return (replace(prompt[0], tools=tools, template_kwargs=variables), *prompt[1:])


def _told(row: Mapping[str, Any], prompt: Prompt) -> Prompt:
    """The prompt behind what a column says as the system, unless it has such a turn. Who is told something is asked: a
    text is a user's turn then."""
    system = next((t for n in SYSTEM if isinstance(t := row.get(n), str) and t.strip()), None)
    if system is None:
        return prompt
    turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    if turns[0].role in ("system", "developer"):
        return prompt
    return (Message("system", system), *turns)


def _template_of(
    where: str, row: Mapping[str, Any]
) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    """`tools` and `chat_template_kwargs`, which may be JSON texts."""
    if not any(map(row.get, TEMPLATE)):
        return (), {}
    tools = _whole_json(where, "tools", row.get("tools") or row.get("functions") or [])
    variables = _whole_json(where, "chat_template_kwargs", row.get("chat_template_kwargs") or {})
    if not isinstance(tools, list) or not all(isinstance(t, Mapping) for t in tools):
        raise UserError(f"{where}: `tools` must be a list of JSON schemas")
    if not isinstance(variables, Mapping):
        raise UserError(f"{where}: `chat_template_kwargs` must hold names and values")
    whole = (dict(t) if "function" in t or "type" in t else _as_tool(t) for t in tools)
    return tuple(whole), dict(variables)


def _as_tool(function: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": dict(function)}


def as_chat(prompt: Prompt, response: Any) -> Prompt:
    """A text prompt that a message answers is a user's turn, or the chat template would be left out."""
    return (
        prompt
        if isinstance(response, str) or not isinstance(prompt, str)
        else (Message("user", prompt),)
    )


def response(where: str, field: str, value: Any) -> str:
    """A response: text, or a list whose only message is the assistant's."""
    text, calls = answer(where, field, value)
    if calls:
        raise UserError(
            f"{where}: `{field}` calls a tool; so far only demonstrations may, for `train sft`"
        )
    return text


def answer(where: str, field: str, value: Any) -> tuple[str, tuple[Mapping[str, Any], ...]]:
    """The text of a response and its tool calls."""
    calls: tuple[Mapping[str, Any], ...] = ()
    if not isinstance(value, str):
        value = [value] if isinstance(value, Mapping) else value
        messages = messages_of(where, field, value)
        if len(messages) != 1 or messages[0].role != "assistant":
            raise UserError(f"{where}: `{field}` must be text or one assistant message")
        value, calls = messages[0].content, messages[0].tool_calls
    if not value.strip() and not calls:
        raise UserError(f"{where}: `{field}` is an empty response")
    return value, calls


def turns(where: str, row: Mapping[str, Any]) -> Iterator[Demonstration]:
    """Each assistant turn of `messages` as a demonstration, given the turns before it.

    One that its file marks as not to be learned is context only: `weight` 0, `train` false.
    """
    messages = messages_of(where, "messages", row["messages"])
    answers = [i for i, m in enumerate(messages) if m.role == "assistant" and i > 0]
    if not answers:
        raise UserError(f"{where}: `messages` has no assistant turn that answers anything")
    for i in answers:
        if messages[i - 1].role == "assistant":
            raise UserError(f"{where}: `messages` has two assistant turns in succession")
        if not is_learned(where, row["messages"][i]):
            continue
        text, calls = answer(where, "messages", [row["messages"][i]])
        yield Demonstration(with_template(where, row, messages[:i]), text, tool_calls=calls)


def is_learned(where: str, said: Mapping[str, Any]) -> bool:
    """Whether a turn is the policy's own, not one that its file marks as context."""
    for name in WEIGHTS:
        weight = said.get(name)
        if weight is not None and (isinstance(weight, str) or weight not in (0, 1)):
            raise UserError(
                f"{where}: `{name}` of a message must be 1 or true where it is learned, else 0 or false, "
                f"not {weight!r}"
            )
        if weight is not None and not weight:
            return False
    return True
