"""A workspace's database into another one, of the same kind or the other: every row of every table, or nothing.

Rows go over in one transaction, in batches, and are then read back: number and digest of each table must be the same,
and the audit log's chain of hashes whole.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass

from sqlalchemy import Connection, Table, select
from sqlalchemy.exc import DBAPIError

from heedful.errors import UserError, one_line
from heedful.store.database import audit
from heedful.store.database.copying import ROWS, copy_rows, counts, stored
from heedful.store.database.db import Store
from heedful.store.tables.columns import canonical
from heedful.store.tables.schema import IMMUTABLE, metadata


@dataclass(frozen=True)
class Content:
    """What a table holds: the number of its rows, and the sum of their sha256, whichever their order."""

    rows: int
    sha256: str


def move(source: Store, target: Store) -> dict[str, Content]:
    """Copy everything into an empty database and read it back; returns what each table holds.

    `UserError` where the target is not empty or refuses a row, where something arrived otherwise than it was sent, or
    where the source was written to meanwhile; the target is then as empty as before.
    """
    with ExitStack() as until_moved, source.read() as origin, target.write() as copy:
        audit.lock(copy)  # a server that is started on the new database too early waits here
        try:
            copy_rows(origin, copy)
        except DBAPIError as error:
            raise UserError(
                f"{target.engine.url!r} refuses a row: {one_line(error.orig or error)}; nothing was moved"
            ) from error
        moved = {table.name: content(origin, table) for table in metadata.sorted_tables}
        for table in metadata.sorted_tables:
            if content(copy, table) != moved[table.name]:
                raise UserError(
                    f"{table.name} arrived otherwise than it was sent; nothing was moved"
                )
        if (event := audit.broken_at(copy)) is not None:
            raise UserError(
                f"event {event} of the audit log does not follow from the one before it; nothing was moved, see "
                "`heedful check`"
            )
        _refuse_written(until_moved.enter_context(source.write()), moved)
    return moved


def content(connection: Connection, table: Table) -> Content:
    """What a table holds, as the database holds it."""
    rows, total = 0, 0
    query = select(stored(table)).execution_options(yield_per=ROWS)
    for row in connection.execute(query):
        words = canonical(list(row)).encode("utf-8", "surrogatepass")
        rows, total = rows + 1, total + int.from_bytes(hashlib.sha256(words).digest(), "big")
    return Content(rows, f"{total % 2**256:064x}")


def _refuse_written(source: Connection, moved: dict[str, Content]) -> None:
    """`UserError` where the source holds other rows by now; nobody else writes to it before its transaction ends.

    A lease that was given or taken back is the same number of rows: what may change is compared by content.
    """
    if source.dialect.name == "postgresql":
        names = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
        source.exec_driver_sql(f"LOCK TABLE {names} IN SHARE MODE")
    later = counts(source)
    changed = [
        table.name
        for table in metadata.sorted_tables
        if later[table.name] != moved[table.name].rows
        or (table not in IMMUTABLE and content(source, table) != moved[table.name])
    ]
    if changed:
        raise UserError(
            f"{', '.join(changed)} of {source.engine.url!r} changed meanwhile; nothing was moved: stop the server first"
        )
