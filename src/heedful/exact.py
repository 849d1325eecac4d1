"""Which values can be kept and given back exactly, by SQLite, PostgreSQL, JSON, CSV and Parquet alike.

Each function says in words what is wrong with a value, `must be text`, or "" where nothing is. Readers of files
say it with file, line and field before anything is written; the columns of the database (`store.columns`) say it to
all others.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from heedful.errors import UserError

WHOLE = 2**63  # whole numbers have 64 bits, as in both databases and in Parquet
LARGEST = sys.float_info.max
MOST_NESTED = 100  # lists and objects within each other: what is written must be readable from any depth of calls


def refuse(name: str, problem: str, value: Any) -> None:
    """Raise the sentence, if there is a problem: `pairs.jsonl:12: `rater` must be text, not [1]`."""
    if problem:
        raise UserError(f"{name} {problem}, not {shown(value)}")


def shown(value: Any) -> str:
    """A value in a sentence, however long it is."""
    try:
        words = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits
        words = f"a {type(value).__name__}"
    return words if len(words) <= 80 else f"{words[:60]}… ({len(words)} characters)"


def text(value: Any, most: int | None = None) -> str:
    """Any string, also with NUL and lone surrogates; of at most so many characters, where a limit is given."""
    if not isinstance(value, str):
        return "must be text"
    return f"must have at most {most} characters" if most is not None and len(value) > most else ""


def whole(value: Any) -> str:
    if type(value) is not int:  # a truth value is no number
        return "must be a whole number"
    return "" if -WHOLE <= value < WHOLE else "must be a whole number of at most 64 bits"


def number(value: Any, low: float = -LARGEST, high: float = LARGEST) -> str:
    """Finite, and within limits where some are given."""
    if type(value) is float and low <= value <= high:  # nearly always, and quick
        return ""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # Compared, not converted: Python cannot make a float of 10**400, and NaN is not above anything.
    if is_number and low <= value <= high:
        return ""
    limited = (low, high) != (-LARGEST, LARGEST)
    return f"must be a number from {low:g} to {high:g}" if limited else "must be a finite number"


def jsonable(value: Any) -> str:
    """What JSON can say: no NaN, no infinity, no bytes, not nested without end."""
    try:
        words = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return f"must be JSON ({one_reason(error)})"
    if may_be_deep(words) and depth(value) > MOST_NESTED:
        return f"must be nested at most {MOST_NESTED} deep"
    return ""


def encoder(**options: Any) -> Callable[[Any], str]:
    """`JSONEncoder(ensure_ascii=False, …).encode`, whose part in C it would itself make anew for each value."""
    whole = json.JSONEncoder(ensure_ascii=False, **options)
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return whole.encode
    how = (whole.key_separator, whole.item_separator, whole.sort_keys, False, whole.allow_nan)
    text = json.encoder.encode_basestring
    parts = make(None, whole.default, text, None, *how)
    return lambda value: text(value) if type(value) is str else "".join(parts(value, 0))


def may_be_deep(words: str) -> bool:
    """False where a JSON text surely has no more lists and objects within each other than may be; told in no time."""
    if len(words) <= 2 * MOST_NESTED:  # each is two brackets
        return False
    return words.count("[") + words.count("{") > MOST_NESTED


def one_reason(error: Exception) -> str:
    """Why a value is no JSON, in a few words."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if "ircular" in str(error):
        return "it is nested in itself"
    if isinstance(error, TypeError):
        return "it holds a value of a type that JSON has not"
    return "it holds NaN or an infinite number"


def depth(value: Any) -> int:
    """How many lists and objects are within each other; without recursion, so that any depth can be measured."""
    deepest = 0
    todo: list[tuple[Any, int]] = [(value, 1)]
    while todo:
        one, level = todo.pop()
        if isinstance(one, dict | list | tuple):
            deepest = max(deepest, level)
            todo += ((v, level + 1) for v in (one.values() if isinstance(one, dict) else one))
    return deepest


def array(value: Any) -> str:
    return jsonable(value) if isinstance(value, list | tuple) else "must be a list"


def record(value: Any) -> str:
    return jsonable(value) if isinstance(value, dict) else "must be an object of names and values"


def wholes(value: Any) -> str:
    if not isinstance(value, list | tuple):
        return "must be a list of whole numbers"
    return "must be a list of whole numbers of at most 64 bits" if any(map(whole, value)) else ""


def name(value: Any) -> str | None:
    """Who or what somebody names: a text, or the number that other tools have for people, as text; None: nobody."""
    if value is None or value == "":
        return None
    return str(value) if type(value) is int else value
