"""Checks of what raters send; each raises `UserError` with one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heedful import exact
from heedful.errors import UserError

MAX_NUMBER = 1_000_000_000  # of any number in options and settings
MAX_TEXT = 200_000  # characters of anything a rater writes
MAX_NAME = 200  # characters of the name of an axis or a rule, and of what an end of a scale means
MAX_ROWS = 100  # axes or rules of a question


def only(answer: dict[str, Any], *names: str) -> None:
    """No other fields than these."""
    unknown = [k for k in answer if k not in names]
    if unknown:
        raise UserError(f"unexpected field '{unknown[0]}' beside {', '.join(names)}")


def by_place(shown: Sequence[str], values: Any, name: str) -> list[Any]:
    """One entry for each response."""
    if not isinstance(values, list) or len(values) != len(shown):
        raise UserError(f"{name} must be a list with one entry for each of {len(shown)} responses")
    return values


def place(shown: Sequence[str], value: Any, name: str = "response") -> int:
    if type(value) is not int or not 0 <= value < len(shown):
        raise UserError(f"{name} must be a whole number from 0 to {len(shown) - 1}")
    return value


def strength(answer: dict[str, Any]) -> float | None:
    value = answer.get("strength")
    if value is not None and not (is_number(value) and 0 <= value <= 1):
        raise UserError("strength must be a number from 0 to 1")
    return None if value is None else float(value)


def text(answer: dict[str, Any], name: str, *, required: bool = False) -> str:
    value = answer.get(name)
    value = "" if value is None else value
    if not isinstance(value, str):
        raise UserError(f"{name} must be text")
    if len(value) > MAX_TEXT:
        raise UserError(f"{name} is longer than {MAX_TEXT} characters")
    if required and not value.strip():
        raise UserError(f"{name} must not be empty")
    return value


def is_number(value: Any) -> bool:
    return not exact.number(value)


def short(what: str, value: str, most: int = MAX_NAME) -> None:
    """No longer than a screen has room for."""
    if len(value) > most:
        raise UserError(f"{what} has at most {most} characters, not {len(value)}: '{value[:20]}…'")


def distinct(noun: str, names: list[str]) -> None:
    """Neither too many nor two of the same name, nor one that is too long."""
    if len(names) > MAX_ROWS:
        raise UserError(
            f"a screen has room for {MAX_ROWS} rows, and each {noun} of {len(names)} is one"
        )
    for name in names:
        short(f"the name of each {noun}", name)
    if len(set(names)) != len(names):
        raise UserError(f"each {noun} needs a name of its own")
