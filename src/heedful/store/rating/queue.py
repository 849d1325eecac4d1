"""Which open slot, or gold question, a rater gets next: none twice, and quickly also where there is none.

That a rater has had everything is seen by looking at all that is open, once. The moment is kept, and from then on
only what has been opened or added since is looked at, so that somebody who asks again and again holds nobody up.
Where the highest priority is asked first, the same is kept of the slots before a position: a rater who is ahead of the
others has had everything up to there.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Exists, Row, Select, exists, func, literal_column, select

from heedful.store.database.prepared import prepared
from heedful.store.project.content import task_of
from heedful.store.project.projects import Settings
from heedful.store.tables.asking import own_response
from heedful.store.tables.columns import DatabaseClock
from heedful.store.tables.schema import assignment, exhausted, task, task_slot

NEW = 50  # slots opened since that are chosen among
GOLD = 100  # gold questions likewise
MANY = 200  # slots opened since: with more, as after an import, one begins anew at the top
# A transaction may commit what it opened some time after the clock's word for it, and the clock may be set back: the
# last minutes before the moment are looked at again, and everything now and then.
MARGIN, TRUSTED = 600.0, 3600.0  # seconds
RECENT = 30.0  # likewise, of what comes before a position: nobody waits for that
OPEN = literal_column("'open'")  # SQLite takes a partial index where the statement itself says so
OPENED: dict[str, Any] = {"state": "open", "open_since": DatabaseClock()}  # of a slot given back


def next_slot(
    connection: Connection,
    project: str,
    rater_id: str,
    settings: Settings,
    rng: random.Random,
    timestamp: float,
) -> Row | None:
    """The first open slot from a random place on, or from the top, of a task that this rater has not had."""
    since = _exhausted_since(connection, rater_id, project, "slot", timestamp)
    if since is not None:
        left = _left(project, rater_id)
        slot, is_end = _opened_since(connection, left, since, settings, rng)
    else:
        if settings.order == "priority":
            left = _left(project, rater_id)
            slot = _by_priority(connection, project, rater_id, left, timestamp)
        else:
            slot = _from_queue(connection, project, rater_id, rng)
        # One that another transaction holds may come back.
        is_end = slot is None and _one_left(connection, project, rater_id).first() is None
    if is_end:
        _mark(connection, rater_id, project, "slot", timestamp, everything=since is None)
    return slot


def _left(project: str, rater_id: str) -> Select:
    """The open slots of tasks that a rater may be given."""
    s = task_slot.c
    left = select(s.task, s.slot).where(s.project == project, s.state == OPEN)
    return left.where(~had(s.task, rater_id), ~shows_own(s.task, rater_id))


def had(task_id: Any, rater_id: Any) -> Exists:
    """Whether a rater has been given a task before."""
    return exists().where(assignment.c.task == task_id, assignment.c.rater == rater_id)


def shows_own(task_id: Any, rater_id: Any) -> Exists:
    """Whether a task shows a response that the rater has written."""
    return exists().where(own_response.c.task == task_id, own_response.c.rater == rater_id)


@prepared
def _one_left(project: str, rater_id: str) -> Select:
    return _left(project, rater_id).limit(1)


def next_gold(
    connection: Connection, project: str, rater_id: str, rng: random.Random, timestamp: float
) -> Row | None:
    """A gold question that this rater has not had."""
    new = ~had(task.c.id, rater_id)
    gold = select(task.c.id).where(task.c.project == project, task.c.is_gold.is_(True), new)
    since = _exhausted_since(connection, rater_id, project, "gold", timestamp)
    if since is not None:
        gold = gold.where(task.c.created_at >= since)
    ids = list(connection.execute(gold.limit(GOLD)).scalars())
    if not ids:
        _mark(connection, rater_id, project, "gold", timestamp, everything=since is None)
        return None
    return task_of(connection, rng.choice(ids)).one()


def _by_priority(
    connection: Connection, project: str, rater_id: str, left: Select, timestamp: float
) -> Row | None:
    """The first slot that the rater has not had: what was opened since the position was kept, then from there on."""
    s = task_slot.c
    in_order = left.add_columns(s.position).order_by(s.position, s.task, s.slot).limit(1)
    past, everything = _past(connection, rater_id, project, timestamp), timestamp
    if past is not None:
        since, everything = s.open_since >= past.at - RECENT, past.everything_at
        new = left.add_columns(s.position).where(since).order_by(s.open_since)
        better = [row for row in connection.execute(new) if row.position < past.position]
        better.sort(key=lambda slot: slot.position)
        if slot := _free(connection, better):
            return slot
        # What others hold at this moment they may give back.
        begin = better[0].position if better else past.position
        in_order = in_order.where(s.position >= begin)
    if (first := connection.execute(in_order).first()) is None:
        return None
    _pass(connection, rater_id, project, timestamp, everything, first.position)
    locked = in_order.with_for_update(skip_locked=True, of=task_slot)
    return connection.execute(locked).first() if connection.dialect.name == "postgresql" else first


def _free(connection: Connection, slots: Sequence[Row]) -> Row | None:
    """The first of these that nobody else is just taking."""
    s = task_slot.c
    for slot in slots:
        free = select(s.task, s.slot).where(s.task == slot.task, s.slot == slot.slot)
        free = free.where(s.state == "open").with_for_update(skip_locked=True)
        if row := connection.execute(free).first():
            return row
    return None


def _from_queue(
    connection: Connection, project: str, rater_id: str, rng: random.Random
) -> Row | None:
    # Two queries: asked for both ends in one, SQLite scans all rows.
    low, high = _low(connection, project).scalar(), _high(connection, project).scalar()
    if low is None or high is None:
        return None
    places = (rng.uniform(low, high), low)
    found = (_free_from(connection, project, rater_id, place).first() for place in places)
    return next(filter(None, found), None)


@prepared
def _free_from(project: str, rater_id: str, position: float) -> Select:
    s = task_slot.c
    queue = _left(project, rater_id).where(s.position >= position)
    first = queue.order_by(s.position, s.task, s.slot).limit(1)
    return first.with_for_update(skip_locked=True, of=task_slot)


@prepared
def _low(project: str) -> Select:
    s = task_slot.c
    return select(func.min(s.position)).where(s.project == project, s.state == "open")


@prepared
def _high(project: str) -> Select:
    s = task_slot.c
    return select(func.max(s.position)).where(s.project == project, s.state == "open")


def _opened_since(
    connection: Connection, left: Select, since: float, settings: Settings, rng: random.Random
) -> tuple[Row | None, bool]:
    """A slot that nobody else is just taking; and whether there was none at all."""
    s = task_slot.c
    new = left.add_columns(s.position).where(s.open_since >= since).order_by(s.open_since)
    slots = list(connection.execute(new.limit(NEW)))
    if settings.order == "priority":
        slots.sort(key=lambda slot: slot.position)
    else:
        rng.shuffle(slots)
    return _free(connection, slots), not slots


@prepared
def _exhausted(rater_id: str, project: str, what: str) -> Select:
    return select(exhausted).where(*_of(rater_id, project, what))


def _exhausted_since(
    connection: Connection, rater_id: str, project: str, what: str, timestamp: float
) -> float | None:
    """From when on to look; None: at everything."""
    row = _exhausted(connection, rater_id, project, what).first()
    if row is None or not row.everything_at <= row.at <= timestamp < row.everything_at + TRUSTED:
        return None
    return row.at - MARGIN


def _mark(
    connection: Connection,
    rater_id: str,
    project: str,
    what: str,
    timestamp: float,
    *,
    everything: bool,
) -> None:
    """Up to now there is nothing: `everything` was looked at, or what has been opened since the last mark."""
    condition = _of(rater_id, project, what)
    if not everything:
        old = (*condition, exhausted.c.at < timestamp - MARGIN / 10)  # not a write each time
        connection.execute(exhausted.update().where(*old).values(at=timestamp))
        return
    connection.execute(exhausted.delete().where(*condition))
    row = {"rater": rater_id, "project": project, "what": what}
    connection.execute(exhausted.insert().values(**row, at=timestamp, everything_at=timestamp))


def _past(connection: Connection, rater_id: str, project: str, timestamp: float) -> Row | None:
    """Up to which position the rater has had what was open at a moment; None: nobody knows, or not any more."""
    row = connection.execute(select(exhausted).where(*_of(rater_id, project, "past"))).first()
    if row is None or not row.everything_at <= row.at <= timestamp < row.everything_at + TRUSTED:
        return None
    s = task_slot.c
    opened = select(s.slot).where(s.project == project, s.state == OPEN)
    opened = opened.where(s.open_since >= row.at - RECENT).limit(MANY)
    return None if len(connection.execute(opened).all()) == MANY else row


def _pass(
    connection: Connection,
    rater_id: str,
    project: str,
    timestamp: float,
    everything_at: float,
    position: float,
) -> None:
    row = {"at": timestamp, "everything_at": everything_at, "position": position}
    condition = _of(rater_id, project, "past")
    if not connection.execute(exhausted.update().where(*condition).values(**row)).rowcount:
        key = {"rater": rater_id, "project": project, "what": "past"}
        connection.execute(exhausted.insert().values(**key, **row))


def _of(rater_id: str, project: str, what: str) -> tuple[Any, ...]:
    e = exhausted.c
    return e.rater == rater_id, e.project == project, e.what == what
