"""Many rows at once: looked up together, inserted together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from heedful.store.db import new_id, now
from heedful.store.records import batches

MOST_KEYS = 1000  # in one query
Row = dict[str, Any]


class Overtaken(Exception):
    """Somebody else wrote what this transaction was about to; roll it back and begin it anew."""


def insert_all(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows that all have the same columns."""
    if rows:
        connection.execute(table.insert(), rows)


def once(
    connection: Connection,
    table: Table,
    key: tuple[str, ...],
    rows: Sequence[Row],
    *conditions: Any,
    by: str | None = None,
) -> list[tuple[str, bool]]:
    """The ids of the rows with these keys (and conditions), and which of them are new: inserted as there were none.

    Each row has all columns but `id` and `created_at`. `by` names the column of the key that few rows share, by which
    they are looked up; by default the last.
    """
    wanted: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        wanted.setdefault(tuple(row[name] for name in key), row)
    there = _ids(connection, table, key, wanted, by or key[-1], conditions)
    timestamp = now(connection)
    new = {
        k: {"id": new_id(), **row, "created_at": timestamp}
        for k, row in wanted.items()
        if k not in there
    }
    if new:
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        # Somebody else may have inserted one of them in between, but not on SQLite, which has one writer at a time.
        statement = dialect.insert(table).on_conflict_do_nothing()
        connection.execute(statement, list(new.values()))
        if dialect is postgresql:
            there |= _ids(connection, table, key, new, by or key[-1], conditions)
    told: list[tuple[str, bool]] = []
    for row in rows:
        k = tuple(row[name] for name in key)
        mine = new.pop(k, None)  # a second row with this key is not new
        key_id = there.setdefault(k, mine["id"]) if mine else there[k]
        told.append((key_id, mine is not None and mine["id"] == key_id))
    return told


def _ids(
    connection: Connection,
    table: Table,
    key: tuple[str, ...],
    wanted: Iterable[tuple[Any, ...]],
    by: str,
    conditions: Sequence[Any],
) -> dict[tuple[Any, ...], str]:
    """The ids of rows that are there, by their keys."""
    wanted = list(wanted)
    columns = [table.c[name] for name in key]
    shared = (
        [
            c == wanted[0][i]
            for i, c in enumerate(columns)
            if c.name != by and len({k[i] for k in wanted}) == 1
        ]
        if wanted
        else []
    )
    place = key.index(by)
    ids: dict[tuple[Any, ...], str] = {}
    for part in batches(list(dict.fromkeys(k[place] for k in wanted)), MOST_KEYS):
        query = select(table.c.id, *columns).where(table.c[by].in_(part), *shared, *conditions)
        for found, *values in connection.execute(query):
            ids[tuple(values)] = found
    return ids
