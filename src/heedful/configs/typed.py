"""Mappings, as YAML gives them, to dataclasses: every key known, every value of its field's type, else one sentence."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from heedful.configs.elsewhere import rows
from heedful.errors import UserError, did_you_mean
from heedful.fields import flag_of, types_of
from heedful.tagged import all_fields, chosen, compose, slots

T = TypeVar("T")


def made(kind: type[T], given: Any, where: str, ignore: Iterable[str] = ()) -> T:
    """A dataclass from a mapping, its values checked against the types of the fields.

    Parts (`heedful.tagged`) are flat; what no chosen part reads is refused, unless it is in `ignore`.
    """
    if not isinstance(given, Mapping):
        raise UserError(f"{where}: expected keys and values")
    named = {str(key).replace("-", "_"): (key, value) for key, value in given.items()}
    known = all_fields(kind)
    chosen_parts = slots(kind)
    # What several parts have a field of, each with values of its own, is read as the chosen one has it.
    told = {_spelt(name, known): value for name, (_, value) in named.items()}
    own = {f.name: part for part in chosen(kind, told).values() for f in fields(part)}
    values = {}
    for name, (key, value) in named.items():
        name = _spelt(name, known)
        if name not in known:
            row = rows().get("--" + name.replace("_", "-"))
            hint = f": {row.here}" if row else did_you_mean(name, known)
            raise UserError(f"{where}: unknown field '{key}'{hint}")
        hints = types_of(own.get(name, known[name]))
        is_slot = name in chosen_parts or name in slots(known[name])
        values[name] = value if is_slot else _value(hints[name], value, f"{where}: {key}")
    for f in fields(kind):  # type: ignore[arg-type]
        if f.name not in values and f.default is MISSING and f.default_factory is MISSING:
            raise UserError(f"{where}: '{f.name}' is missing")
    return compose(kind, values, ignore, f"{where}: ")


def _spelt(name: str, known: Mapping[str, type]) -> str:
    """A field by one of its other names."""
    flag = "--" + name.replace("_", "-")
    others = (
        n for n, kind in known.items() if name not in known if flag in flag_of(kind, n).aliases
    )
    return next(others, name)


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is Any or (value is None and types.NoneType in inside):
        return value
    if origin in (typing.Union, types.UnionType):
        return _value(next(t for t in inside if t is not types.NoneType), value, where)
    if is_dataclass(hint) and isinstance(hint, type):
        return made(hint, value, where)
    if origin is Literal:
        if value in inside:
            return value
        choices = ", ".join(map(str, inside))
        raise UserError(
            f"{where} is {value!r}{did_you_mean(str(value), choices.split(', '))}: {choices}"
        )
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_value(inside[0], item, where) for item in items)
    if hint is float and not isinstance(value, bool) and isinstance(value, int | float | str):
        try:
            return float(value)  # YAML 1.1 takes 1e-4, without a point, for text
        except ValueError:
            pass
    elif (hint is int and number and not isinstance(value, float)) or (
        hint is bool and isinstance(value, bool)
    ):
        return value
    elif hint in (str, Path) and (number or isinstance(value, str | Path)):
        return hint(str(value)) if hint is Path else str(value)
    elif origin is dict and isinstance(value, Mapping):
        return dict(value)
    name = getattr(origin or hint, "__name__", str(hint))
    kinds = {
        "float": "a number",
        "int": "a whole number",
        "bool": "true or false",
        "dict": "keys and values",
    }
    raise UserError(f"{where} is {value!r}, expected {kinds.get(name, 'a text')}")
