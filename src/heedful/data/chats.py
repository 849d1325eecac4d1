"""Well-known sets of conversations as they were published → heedful's columns; None for a row of another kind.

- Guanaco, OpenAssistant's best replies as one `text`: `### Human: … ### Assistant: …`.
- xLAM's calls of functions: `query`; `tools` and `answers` as JSON texts, tools with Python's names of types.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

Columns = dict[str, Any]
TURN = re.compile(r"\s*### (Human|Assistant):")
SPEAKERS = {"Human": "user", "Assistant": "assistant"}
# JSON schema's names for Python's; xLAM writes `str, optional` and `List[int]`, too.
TYPES = {
    "str": "string", "int": "integer", "float": "number", "bool": "boolean", "list": "array", "tuple": "array",
    "set": "array", "dict": "object",
}  # fmt: skip


def guanaco(row: Columns) -> Columns | None:
    """The turns of a text that begins with a human's and has an assistant's; a last one without words waits for it."""
    text = row["text"]
    if not isinstance(text, str) or row.keys() & {"prompt", "messages", "completion"}:
        return None
    before, *parts = TURN.split(text)
    said = [
        (SPEAKERS[who], words.strip()) for who, words in zip(parts[::2], parts[1::2], strict=True)
    ]
    if before.strip() or len(said) < 2 or said[0][0] != "user":
        return None
    if said[-1] == ("assistant", ""):
        said.pop()
    turns = [{"role": role, "content": words} for role, words in said]
    return {name: value for name, value in row.items() if name != "text"} | {"messages": turns}


def xlam(row: Columns) -> Columns | None:
    """A user's turn, and the assistant's that calls the functions."""
    tools, calls = _list(row["tools"]), _list(row["answers"])
    if not isinstance(row["query"], str) or not tools or not calls or "messages" in row:
        return None
    if not all(isinstance(call.get("name"), str) for call in [*tools, *calls]):
        return None
    rest = {name: v for name, v in row.items() if name not in ("query", "tools", "answers")}
    asked = {"role": "user", "content": row["query"]}
    called = {"role": "assistant", "content": None, "tool_calls": calls}
    return rest | {"messages": [asked, called], "tools": [_schema(tool) for tool in tools]}


def _schema(tool: Mapping[str, Any]) -> Columns:
    """A function with its parameters as JSON schema; as it is, where they are that already."""
    named = tool.get("parameters")
    if not isinstance(named, Mapping) or named.get("type") == "object":
        return {**tool}
    about = {name: p for name, p in named.items() if isinstance(p, Mapping)}
    properties = {name: {**p, "type": _type(str(p.get("type", "")))} for name, p in about.items()}
    required = [name for name, p in about.items() if "optional" not in str(p.get("type", ""))]
    return {
        **tool,
        "parameters": {"type": "object", "properties": properties, "required": required},
    }


def _type(python: str) -> str:
    word = re.split(r"[\[,]", python, maxsplit=1)[0].strip()
    return TYPES.get(word.lower(), word or "string")


def _list(value: Any) -> list[Mapping[str, Any]] | None:
    """A list of objects, which the set has as JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    whole = isinstance(value, list) and all(isinstance(v, Mapping) for v in value)
    return value if whole else None
