"""Whether a database is what was written to it: its file, what its rows point to, its audit log."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from sqlalchemy import Connection

from heedful.store.database import audit
from heedful.store.database.audit import START, Head
from heedful.store.database.db import Store

CACHE = 64 << 10  # KiB: every row is looked up where it is pointed to from


def damage(store: Store, connection: Connection) -> list[str]:
    """What is wrong, a sentence each."""
    return in_log(connection) + in_pages(store) + in_references(store)


def in_log(connection: Connection, *, after: Head = START) -> list[str]:
    """What is wrong with the audit log. `after`: it was looked at up to there before."""
    if not audit.has(connection, after):
        return [
            f"the audit log was changed: event {after.seq} is not the one that was seen before; where an earlier "
            "backup has taken its place, `heedful check --all` begins anew"
        ]
    if (event := audit.broken_at(connection, after=after)) is not None:
        return [f"the audit log was changed: event {event} does not follow from the one before"]
    return []


def in_pages(store: Store, *, quickly: bool = False) -> list[str]:
    """What is wrong with the pages of a SQLite database and its indexes; `quickly`: not whether an index holds just
    what its table does, which takes twice as long as all the rest."""
    told = _looked(store, "PRAGMA quick_check(1)" if quickly else "PRAGMA integrity_check(1)")
    return [f"the database file is damaged: {verdict}" for (verdict,) in told if verdict != "ok"]


def in_references(store: Store) -> list[str]:
    """Which rows of a SQLite database point to nothing."""
    rows = _looked(store, "PRAGMA foreign_key_check")
    if len(rows) == 1 and len(rows[0]) == 1:
        return [f"the database file is damaged: {rows[0][0]}"]
    return [f"{len(rows)} rows point to nothing"] if rows else []


def _looked(store: Store, pragma: str) -> list[tuple]:
    """What SQLite says, or in one column why it cannot.

    By a connection of its own, so that other threads may read meanwhile. PostgreSQL sees to all this by itself.
    """
    if store.dialect != "sqlite":
        return []
    with closing(sqlite3.connect(store.engine.url.database or "")) as raw:
        raw.execute(f"PRAGMA cache_size = -{CACHE}")
        try:
            return raw.execute(pragma).fetchall()
        except sqlite3.DatabaseError as error:
            return [(str(error),)]
