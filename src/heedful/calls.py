"""`name(option=value, …)` on the command line → a name and typed options.

Quotes keep commas, equals signs and brackets together; a backslash is a backslash, as patterns need many.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from heedful.errors import UserError, did_you_mean

CALL = re.compile(r"([^()\s]+)\((.*)\)", re.DOTALL)
OPTION = re.compile(r"([A-Za-z_]\w*)\s*=(.*)", re.DOTALL)


def call(where: str, spec: str) -> tuple[str, list[str]]:
    """`length(price=1, free=5)` → length, [price=1, free=5]; what is no call, or a path, has no arguments.

    `where`, here and below, begins the sentence that tells what is wrong: the flag and the spec.
    """
    match = None if Path(spec).exists() else CALL.fullmatch(spec)
    return (match[1], list(_split(where, match[2]))) if match else (spec, [])


def _split(where: str, text: str) -> Iterator[str]:
    """At the commas that stand neither in quotes nor in brackets."""
    piece, quote, depth = "", "", 0
    for c in text:
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        else:
            depth += (c == "(") - (c == ")")
        if c == "," and not quote and depth == 0:
            yield piece.strip()
            piece = ""
        else:
            piece += c
    if quote or depth:
        raise UserError(f"{where}: a quote or a bracket is not closed")
    if piece.strip():
        yield piece.strip()


def option(argument: str) -> tuple[str, str]:
    """`price=1` → price, 1."""
    match = OPTION.fullmatch(argument)
    assert match is not None
    return match[1], unquoted(match[2].strip())


def unquoted(text: str) -> str:
    """Without its quotes, if it has some."""
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def typed(
    where: str, name: str, offered: Mapping[str, inspect.Parameter], arguments: Sequence[str]
) -> dict[str, Any]:
    """The options in a call as the types of the parameters `offered`, those without a name in their order."""
    options: dict[str, Any] = {}
    for i, argument in enumerate(arguments):
        if OPTION.fullmatch(argument):
            key, value = option(argument)
        else:
            key, value = [*offered, ""][min(i, len(offered))], unquoted(argument)
        if key not in offered:
            known = ", ".join(offered) or "none"
            raise UserError(
                f"{where}: {name} has no option '{key or value}'{did_you_mean(key, offered)}; "
                f"its options: {known}"
            )
        if key in options:
            raise UserError(f"{where}: the option '{key}' is given twice")
        options[key] = convert(where, offered[key], value)
    return options


def convert(where: str, parameter: inspect.Parameter, value: str) -> Any:
    """A value as the parameter's annotation, or its default, has it."""
    annotated = getattr(parameter.annotation, "__name__", str(parameter.annotation))
    annotated = annotated.removesuffix(" | None")
    kind = type(parameter.default).__name__ if annotated in ("_empty", "Any") else annotated
    if kind in ("float", "int"):
        parsed = number(where, parameter.name, value)
        if kind == "int" and parsed != int(parsed):
            raise UserError(f"{where}: {parameter.name} must be a whole number")
        return parsed if kind == "float" else int(parsed)
    if kind == "bool":
        if value.lower() not in ("true", "false"):
            raise UserError(f"{where}: {parameter.name} must be true or false")
        return value.lower() == "true"
    if kind == "str":
        return value
    if kind == "Path":
        return Path(value)
    try:
        return json.loads(value)
    except ValueError:
        return value


def number(where: str, name: str, value: str) -> float:
    """A finite number."""
    try:
        parsed = float(value)
    except ValueError:
        parsed = math.nan
    if not math.isfinite(parsed):
        raise UserError(f"{where}: {name} must be a number, not '{value}'")
    return parsed
