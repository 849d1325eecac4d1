"""The audit log: a hash chain, in which no event can be changed, removed or inserted unnoticed."""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import Connection, func, select

from heedful.store.columns import canonical
from heedful.store.db import now
from heedful.store.schema import audit_event

GENESIS = "0" * 64


def record(connection: Connection, actor: str | None, action: str, **detail: Any) -> None:
    """Append one event, in the transaction that it describes. Writers wait here for each other until they commit."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7432)")
    last = connection.execute(
        select(audit_event.c.seq, audit_event.c.hash).order_by(audit_event.c.seq.desc()).limit(1)
    ).first()
    event = {
        "seq": last.seq + 1 if last else 1,
        "at": now(connection),
        "actor": actor,
        "action": action,
        "detail": detail,
    }
    connection.execute(
        audit_event.insert().values(**event, hash=_hash(last.hash if last else GENESIS, event))
    )


def broken_at(connection: Connection) -> int | None:
    """The number of the first event that does not follow from the one before it, or None."""
    previous, expected = GENESIS, 1
    for row in connection.execute(select(audit_event).order_by(audit_event.c.seq)):
        event = {k: v for k, v in row._mapping.items() if k != "hash"}
        if row.seq != expected or row.hash != _hash(previous, event):
            return expected
        previous, expected = row.hash, expected + 1
    return None


def count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(audit_event)).scalar_one()


def _hash(previous: str, event: dict[str, Any]) -> str:
    return hashlib.sha256(
        (previous + canonical(event)).encode("utf-8", "surrogatepass")
    ).hexdigest()
