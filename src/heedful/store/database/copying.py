"""All rows of one database into another, whichever kind each is: a consistent copy, made while people work."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Table
from sqlalchemy.types import TypeDecorator

from heedful.errors import UserError
from heedful.store.database.bulk import renew_statistics
from heedful.store.database.privacy import shown
from heedful.store.tables.columns import Exact
from heedful.store.tables.schema import metadata

ROWS = 2000  # a statement


def copy_rows(source: Connection, target: Connection) -> dict[str, int]:
    """Copy every row, in the transactions of the two connections; returns how many by table.

    Both have this version's schema, the target has no rows. What the source's transaction sees is one moment
    (`Store.read`), so raters may go on. Text goes across as it is stored: both databases keep the same characters.
    """
    if occupied := [name for name, n in counts(target).items() if n]:
        raise UserError(
            f"the database {shown(target.engine.url)} is not empty: it has rows in {', '.join(occupied)}"
        )
    copied: dict[str, int] = {}
    with _references_checked_at_the_end(target):
        for table in metadata.sorted_tables:
            raw, copied[table.name] = stored(table), 0
            rows = source.execute(sa.select(raw).execution_options(yield_per=ROWS))
            for part in rows.mappings().partitions():
                target.execute(raw.insert(), [dict(row) for row in part])
                copied[table.name] += len(part)
    renew_statistics(target)
    return copied


def counts(connection: Connection) -> dict[str, int]:
    """How many rows each table has."""
    number = sa.func.count()
    return {
        table.name: connection.execute(sa.select(number).select_from(table)).scalar_one()
        for table in metadata.sorted_tables
    }


def stored(table: Table) -> Any:
    """The table without what Python makes of its columns; text without a limit, escaped anew where an earlier schema
    kept NUL as it is, which PostgreSQL refuses."""
    return sa.table(table.name, *(sa.column(c.name, _stored(c.type)) for c in table.columns))


def _stored(kind: Any) -> Any:
    if isinstance(kind, Exact):
        return Exact()
    return kind.impl if isinstance(kind, TypeDecorator) else kind


@contextmanager
def _references_checked_at_the_end(target: Connection) -> Any:
    """Rows of a table that point to each other come in any order; when the block ends all of them must be there."""
    if target.dialect.name == "sqlite":
        target.exec_driver_sql("PRAGMA defer_foreign_keys = ON")  # until the transaction ends
        yield
        return
    constraints = _to_themselves(metadata.sorted_tables)
    for table, name in constraints:
        target.exec_driver_sql(
            f"ALTER TABLE {table} ALTER CONSTRAINT {name} DEFERRABLE INITIALLY DEFERRED"
        )
    yield
    target.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
    for table, name in constraints:
        target.exec_driver_sql(f"ALTER TABLE {table} ALTER CONSTRAINT {name} NOT DEFERRABLE")


def _to_themselves(tables: Sequence[Table]) -> list[tuple[str, str]]:
    return [
        (table.name, str(key.name))
        for table in tables
        for key in table.foreign_key_constraints
        if key.referred_table is table
    ]
