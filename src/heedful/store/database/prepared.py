"""Queries of the raters' requests, composed once: to compose one takes longer than to answer it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, Concatenate, ParamSpec

from sqlalchemy import Connection, CursorResult, Select, bindparam

P = ParamSpec("P")


def prepared(
    compose: Callable[P, Select[Any]],
) -> Callable[Concatenate[Connection, P], CursorResult[Any]]:
    """The query that `compose` returns, executed with its arguments: it is called once, with bound parameters in their
    place, so what it does must not depend on their values."""
    names = tuple(inspect.signature(compose).parameters)

    @cache
    def query() -> Select[Any]:
        composed: Callable[..., Select[Any]] = compose
        return composed(*map(bindparam, names))

    @wraps(compose)
    def execute(connection: Connection, *values: Any) -> CursorResult[Any]:
        return connection.execute(query(), dict(zip(names, values, strict=True)))

    return execute  # type: ignore[return-value]
