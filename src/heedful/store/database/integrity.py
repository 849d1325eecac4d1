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
    return in_log(connection) + in_file(store)


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


def in_file(store: Store) -> list[str]:
    """What is wrong with the pages of a SQLite database, its indexes and what its rows point to.

    By a connection of its own, so that another thread may read meanwhile. PostgreSQL sees to these by itself.
    """
    if store.dialect != "sqlite":
        return []
    wrong = []
    with closing(sqlite3.connect(store.engine.url.database or "")) as raw:
        raw.execute(f"PRAGMA cache_size = -{CACHE}")
        try:
            (verdict,) = raw.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                wrong.append(f"the database file is damaged: {verdict}")
            if rows := raw.execute("PRAGMA foreign_key_check").fetchall():
                wrong.append(f"{len(rows)} rows point to nothing")
        except sqlite3.DatabaseError as error:
            wrong.append(f"the database file is damaged: {error}")
    return wrong
