"""Column types that return exactly the value that was stored, and the metadata of all tables.

They are the last border: whatever comes in, by a file, the HTTP interface or a round of `heedful iterate`, is of its
column's type, or refused in the same words on SQLite, which would keep anything, and on PostgreSQL, which would not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Text,
)
from sqlalchemy.exc import DontWrapMixin
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.types import TypeDecorator

from heedful import exact
from heedful.errors import UserError

CLOCK = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "extract(epoch FROM clock_timestamp())::float8",
}
MAX_NAME = 200  # characters of a name that is unique: PostgreSQL's indexes hold 2,700 bytes
_READER: Any = json.JSONDecoder()  # made once; `json.loads` asks first what else it was given
UNSAFE = re.compile("[\x00\x1a\ud800-\udfff]")
ESCAPED = re.compile("\x1a([0-9a-f]{4})")

ESCAPE = "\\x1a and four hexadecimal digits stand for NUL, a lone surrogate or \\x1a itself"
# As `repr` writes it; others may look so, none looks otherwise.
TO_ESCAPE = re.compile(r"\\x00|\\x1a|\\ud[89a-f]")


class DatabaseClock(ColumnElement[float]):
    """The database's clock as a part of a statement: what `now` asks for, without asking first."""

    type = Float(53)
    inherit_cache = True


@compiles(DatabaseClock)
def _(_element: DatabaseClock, compiler: Any, **_options: Any) -> str:
    return CLOCK[compiler.dialect.name]


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
    if value is None:
        return None
    text = unescape(value)
    try:
        read, end = _READER.scan_once(text, 0)  # there are no spaces around it, to be looked for
    except StopIteration:
        end = 0
    return read if end == len(text) else _READER.decode(text)


def escaped(value: Any) -> Any:
    """A row as a file can hold it, see `ESCAPE`."""
    return _deep(escape, value) if TO_ESCAPE.search(repr(value)) else value


def unescaped(value: Any) -> Any:
    """The inverse of `escaped`."""
    return _deep(unescape, value)


def _deep(change: Callable[[str], str], value: Any) -> Any:
    """The value with every string in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, (list, tuple)):
        return [_deep(change, v) for v in value]
    if isinstance(value, dict):
        return {change(k): _deep(change, v) for k, v in value.items()}
    return value


class Misfit(DontWrapMixin, UserError):
    """A value that its column cannot hold. SQLAlchemy lets it through as it is."""


class Checked(TypeDecorator):
    """A type that refuses what it could not give back."""

    impl = Text
    cache_ok = True
    column = "the value"  # in sentences; `schema` gives each its name

    def problem(self, value: Any) -> str:
        """What is wrong with a value, `must be text`, or ""."""
        raise NotImplementedError

    def check(self, value: Any) -> Any:
        """The value; raises `Misfit`."""
        if problem := self.problem(value):
            raise Misfit(f"{self.column} {problem}, not {exact.shown(value)}")
        return value

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else self.check(value)

    def bind_processor(self, dialect: Any) -> Any:
        """Without the calls around it, for each of millions of values."""
        return partial(self.process_bind_param, dialect=dialect)


class Exact(Checked):
    """Any Python string, of at most so many characters if a limit is given, given back character for character.

    PostgreSQL refuses NUL, and UTF-8 lone surrogates, yet models write both. What is escaped stays readable.
    """

    cache_ok = True

    def __init__(self, most: int | None = None):
        super().__init__()
        self.most = most

    def problem(self, value: Any) -> str:
        return exact.text(value, self.most)

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else escape(self.check(value))

    def bind_processor(self, dialect: Any) -> Any:
        most = self.most

        def bound(value: Any) -> str | None:
            if type(value) is str and (most is None or len(value) <= most):
                return escape(value)
            return self.process_bind_param(value, dialect)

        return bound

    def process_result_value(self, value: str | None, dialect: Any) -> str | None:
        return _text(value)

    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        return _text  # without the call around it, for each of millions of values


class Whole(Checked):
    """A whole number of 64 bits, which SQLite's INTEGER has in any case."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        return dialect.type_descriptor(Integer() if dialect.name == "sqlite" else BigInteger())

    def problem(self, value: Any) -> str:
        return exact.whole(value)

    def bind_processor(self, dialect: Any) -> Any:
        most, bind = exact.WHOLE, self.process_bind_param
        return lambda v: v if type(v) is int and -most <= v < most else bind(v, dialect)


class Number(Checked):
    """A finite number. SQLite would make NULL of NaN."""

    impl = Float
    cache_ok = True

    def __init__(self) -> None:
        super().__init__(53)

    def problem(self, value: Any) -> str:
        return exact.number(value)

    def bind_processor(self, dialect: Any) -> Any:
        most, bind = exact.LARGEST, self.process_bind_param
        return lambda v: v if type(v) is float and -most <= v <= most else bind(v, dialect)


_lenient, _strict = (
    exact.encoder(sort_keys=True, separators=(",", ":"), allow_nan=nan) for nan in (True, False)
)


def sha256(text: str) -> str:
    """Of any text, also with halves of characters; secrets are kept as this."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def canonical(value: Any) -> str:
    """Canonical JSON of a value, for hashes and columns: sorted keys, no spaces.

    Not ASCII: `json` reads two lone surrogates that were escaped one after the other as one character.
    """
    return _lenient(value)


class Encoded(str):
    """What `Json.encoded` has made of a value, for who needs it twice: it is the value to a column of that type."""


class Json(Checked):
    """A JSON value; the same value is the same bytes in both databases. `of` says more about what it must be."""

    cache_ok = True

    def __init__(self, of: Callable[[Any], str] = exact.jsonable):
        super().__init__()
        self.of = of

    def problem(self, value: Any) -> str:
        return self.of(value)

    def encoded(self, value: Any) -> Encoded:
        """`canonical(value)`; raises `Misfit` as a column of this type does."""
        try:
            words = _strict(value)
        except (TypeError, ValueError, RecursionError):
            self.check(value)
            raise
        if self.of is not exact.jsonable or exact.may_be_deep(words):
            self.check(value)
        return Encoded(words)

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        if value is None:
            return None
        return escape(value if type(value) is Encoded else self.encoded(value))

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
