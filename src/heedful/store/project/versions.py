"""Texts of a project that are written anew and never changed, such as its guidelines: the newest counts."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from sqlalchemy import Connection, CursorResult, Row, Select, Table, select

from heedful.store.database.db import insert
from heedful.store.database.prepared import prepared
from heedful.store.tables.columns import sha256


def write(connection: Connection, table: Table, project: str, body: str) -> tuple[str, bool]:
    """A new version, unless the newest says the same; its id, and whether it is new."""
    t, digest = table.c, sha256(body)
    before = connection.execute(_newest(table, project, t.id, t.sha256)).first()
    if before is not None and before.sha256 == digest:
        return before.id, False
    return insert(connection, table, project=project, body=body, sha256=digest), True


def newest(connection: Connection, table: Table, project: str) -> Row | None:
    """The newest version with its text."""
    return connection.execute(_newest(table, project, table)).first()


def newest_id(connection: Connection, table: Table, project: str) -> str | None:
    """Its id alone: the text may be long, and every question asks for it."""
    return _newest_of(table)(connection, project).scalar()


@cache
def _newest_of(table: Table) -> Callable[[Connection, str], CursorResult[Any]]:
    @prepared
    def newest(project: str) -> Select:
        return _newest(table, project, table.c.id)

    return newest


def _newest(table: Table, project: str, *what: Any) -> Select:
    newest_first = (table.c.created_at.desc(), table.c.id.desc())
    return select(*what).where(table.c.project == project).order_by(*newest_first).limit(1)
