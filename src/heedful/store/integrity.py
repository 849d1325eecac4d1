"""Whether a database is what was written to it: its file, what its rows point to, its audit log."""

from __future__ import annotations

from sqlalchemy import Connection

from heedful.store import audit
from heedful.store.audit import START, Head
from heedful.store.db import Store


def damage(store: Store, connection: Connection, *, after: Head = START) -> list[str]:
    """What is wrong, a sentence each. `after`: the audit log was looked at up to there before."""
    wrong = []
    if not audit.has(connection, after):
        wrong.append(
            f"the audit log was changed: event {after.seq} is not the one that was seen before"
        )
    elif (event := audit.broken_at(connection, after=after)) is not None:
        wrong.append(
            f"the audit log was changed: event {event} does not follow from the one before"
        )
    if store.dialect == "sqlite":
        integrity = connection.exec_driver_sql("PRAGMA integrity_check").scalar()
        if integrity != "ok":
            wrong.append(f"the database file is damaged: {integrity}")
        if rows := connection.exec_driver_sql("PRAGMA foreign_key_check").all():
            wrong.append(f"{len(rows)} rows point to nothing")
    return wrong
