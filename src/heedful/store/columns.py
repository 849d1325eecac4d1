"""Column types that return exactly the value that was stored, and the metadata of all tables."""

from __future__ import annotations

import json
import re
from typing import Any

from sqlalchemy import Column, Float, ForeignKey, MetaData, String, Text
from sqlalchemy.types import TypeDecorator

_read = json.JSONDecoder().decode  # `json.loads` asks first what else it might have been given
UNSAFE = re.compile("[\x00\x1a\ud800-\udfff]")
ESCAPED = re.compile("\x1a([0-9a-f]{4})")


def escape(text: str) -> str:
    """NUL, lone surrogates and the escape itself as \\x1a and four hexadecimal digits."""
    if text.isascii() and "\x00" not in text and "\x1a" not in text:  # nearly always, and quick
        return text
    return UNSAFE.sub(lambda m: f"\x1a{ord(m[0]):04x}", text)


def unescape(text: str) -> str:
    """The inverse of `escape`."""
    return ESCAPED.sub(lambda m: chr(int(m[1], 16)), text) if "\x1a" in text else text


def _text(value: str | None) -> str | None:
    return value if value is None or "\x1a" not in value else unescape(value)


def _value(value: str | None) -> Any:
    return None if value is None else _read(unescape(value))


class Exact(TypeDecorator):
    """Any Python string, given back character for character.

    PostgreSQL refuses NUL, and UTF-8 lone surrogates, yet models write both. What is escaped stays readable.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else escape(value)

    def process_result_value(self, value: str | None, dialect: Any) -> str | None:
        return _text(value)

    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        return _text  # without the call around it, for each of millions of values


def canonical(value: Any) -> str:
    """Canonical JSON of a value, for hashes and columns: sorted keys, no spaces.

    Not ASCII: `json` reads two lone surrogates that were escaped one after the other as one character.
    """
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


class Json(TypeDecorator):
    """A JSON value; the same value is the same bytes in both databases."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        return None if value is None else escape(canonical(value))

    def process_result_value(self, value: str | None, dialect: Any) -> Any:
        return _value(value)

    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        return _value


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def key(name: str = "id") -> Column:
    """A primary key of UUIDs."""
    return Column(name, String(36), primary_key=True)


def ref(target: str, **options: Any) -> Column:
    """A column named after the table it points to."""
    name, table = options.pop("name", target), target
    options.setdefault("nullable", False)
    return Column(name, String(36), ForeignKey(f"{table}.id", ondelete="RESTRICT"), **options)


def timestamp(name: str = "created_at", **options: Any) -> Column:
    """A time: seconds since 1970, UTC."""
    options.setdefault("nullable", False)
    return Column(name, Float(53), **options)
