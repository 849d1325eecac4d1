"""The audit log: a hash chain, in which no event can be changed, removed or inserted unnoticed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Connection, Text, bindparam, func, select, type_coerce

from heedful.store.database.bulk import fetch_all, insert_all
from heedful.store.database.db import now
from heedful.store.tables.columns import Json, canonical, sha256, unescape
from heedful.store.tables.schema import audit_event

BATCH = 5000  # events read at once


@dataclass(frozen=True)
class Head:
    """The last event of the chain: its number, and the hash that stands for it and all before it."""

    seq: int = 0
    hash: str = "0" * 64


NEWEST = select(audit_event.c.seq, audit_event.c.hash).order_by(audit_event.c.seq.desc()).limit(1)
START = Head()  # of a chain without events


def record(connection: Connection, actor: str | None, action: str, **detail: Any) -> None:
    """Append one event, in the transaction that it describes. Writers wait here for each other until they commit."""
    record_all(connection, [(actor, action, detail)])


def record_all(
    connection: Connection, events: Sequence[tuple[str | None, str, dict[str, Any]]]
) -> None:
    """Append events, each (actor, action, detail), in this order."""
    lock(connection)
    last, kind = head(connection), cast(Json, audit_event.c.detail.type)
    previous, timestamp, rows = last.hash, now(connection), []
    for number, (actor, action, detail) in enumerate(events, start=last.seq + 1):
        words = kind.encoded(detail)
        line = _line(number, timestamp, canonical(actor), canonical(action), words)
        previous = sha256(previous + line)
        event = {"seq": number, "actor": actor, "action": action, "detail": words, "hash": previous}
        rows.append(event)
    insert_all(connection, audit_event, rows, at=timestamp)


def lock(connection: Connection) -> None:
    """Nobody else appends before this transaction ends; SQLite has one writer at a time anyway."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7432)")


def count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(audit_event)).scalar_one()


def head(connection: Connection) -> Head:
    """Where the chain ends."""
    last = connection.execute(NEWEST).first()
    return Head(*last) if last else START


def has(connection: Connection, known: Head) -> bool:
    """Whether an event that was the head once is there, and the same."""
    query = select(audit_event.c.hash).where(audit_event.c.seq == known.seq)
    return known == START or connection.execute(query).scalar() == known.hash


def broken_at(connection: Connection, *, after: Head = START) -> int | None:
    """The number of the first event that does not follow from the one before it, or None.

    `after`: where an earlier look at the chain ended; what comes before it is not looked at again.
    """
    number, previous = after.seq, after.hash
    for event in _events(connection, number):
        number += 1
        if event[0] != number or not _follows(previous, event):
            return number
        previous = event[-1]
    return None


def _events(connection: Connection, after: int) -> Iterator[tuple[Any, ...]]:
    """In their order, some at a time: a driver may hold all that a query finds."""
    e = audit_event.c
    columns = (e.seq, e.at, e.actor, e.action, type_coerce(e.detail, Text).label("detail"), e.hash)
    query = select(*columns).where(e.seq > bindparam("after")).order_by(e.seq).limit(BATCH)
    while rows := fetch_all(connection, query, {"after": after}):
        yield from rows
        after = rows[-1][0]


def _follows(previous: str, event: tuple[Any, ...]) -> bool:
    """Whether the event's hash, which it ends with, is that of its content and the hash before it.

    The detail is stored as canonical JSON, so that it need not be read to be written again. Where that does not fit it
    is: the same values may be written in another way.
    """
    seq, at, actor, action, detail, stored = event
    if not isinstance(detail, str):  # SQLite keeps whatever a hand has put there
        return False
    who = "null" if actor is None else f'"{actor}"'
    if sha256(previous + _line(seq, at, who, f'"{action}"', unescape(detail))) == stored:
        return True
    try:
        value = json.loads(unescape(detail))
    except ValueError:
        return False
    values = {"seq": seq, "at": at, "actor": actor, "action": action, "detail": value}
    return _hash(previous, values) == stored


def _line(seq: int, at: float, actor: str, action: str, detail: str) -> str:
    """Canonical JSON of an event, out of that of its parts."""
    return f'{{"action":{action},"actor":{actor},"at":{at!r},"detail":{detail},"seq":{seq}}}'


def _hash(previous: str, event: dict[str, Any]) -> str:
    return sha256(previous + canonical(event))
