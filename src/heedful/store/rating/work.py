"""Assignment of tasks to raters: slots, leases and limits.

A task has as many slots as answers are wanted; a slot is leased to one rater at a time, until the database's
clock says that the time is over. Nobody gets a task twice.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, Select, and_, bindparam, func, select

from heedful.errors import UserError
from heedful.store.database.bulk import insert_all
from heedful.store.database.db import new_id, now
from heedful.store.database.prepared import prepared
from heedful.store.kinds import KINDS, SCREEN
from heedful.store.project import consent, critiques, screens, suggestions
from heedful.store.project.content import add_task, task_of
from heedful.store.project.lifecycle import is_archived
from heedful.store.project.projects import Settings, newest_guidelines, settings_of
from heedful.store.rating import chance, limits, trials
from heedful.store.rating.queue import OPENED, next_gold, next_slot
from heedful.store.tables.schema import assignment, rater, task, task_slot

MAX_HELD = 3  # leases of a rater at once: one on the screen, one loaded ahead, one in another tab
LEASED = (
    task_slot.update()
    .where(task_slot.c.task == bindparam("of"), task_slot.c.slot == bindparam("at"))
    .values(state="leased")
)
SWAP_AFTER = 10  # answers between a pair and its repetition the other way round
SWAPS_AMONG = 200  # newest answers of a rater

Reason = (
    Literal["nothing left", "paused", "archived"] | limits.Reached | consent.Refusal | trials.Reason
)


@dataclass(frozen=True)
class Claim:
    """What a rater gets: an assignment, or why there is none."""

    assignment: str | None
    reason: Reason | None = None


def claim(
    connection: Connection,
    project: str,
    rater_id: str,
    *,
    holding: Collection[str] = (),
    rng: random.Random | None = None,
) -> Claim:
    """The rater's next assignment in a project; one they already have, unless it is among `holding`.

    `holding` are the assignments on the rater's screen, so that a page can load the next one ahead. Call it
    within a write transaction.
    """
    rng = rng or random.SystemRandom()
    settings = settings_of(connection, project)
    # Two tabs of one rater take turns.
    person = _locked(connection, rater_id).one()
    timestamp = now(connection)
    expire(connection, project, timestamp)
    if person.status != "active":
        return Claim(None, "paused")
    if is_archived(connection, project):
        return Claim(None, "archived")
    if refused := consent.refusal(connection, project, rater_id):
        return Claim(None, refused)
    active_ids = list(_active(connection, rater_id, project).scalars())
    waiting = [a for a in active_ids if a not in holding]
    if waiting:
        _extend(connection, waiting[0], timestamp, settings, project)
        return Claim(waiting[0])
    if len(active_ids) >= MAX_HELD:
        return Claim(active_ids[0])
    if reason := limits.reached(connection, project, person, settings, timestamp, len(active_ids)):
        return Claim(None, reason)
    if question := trials.due(connection, project, person, settings, rng):
        if question.task is None:
            return Claim(next(iter(active_ids), None), question.reason)
        slot = _next_slot(connection, question.task)
        key = _assign(connection, question.task, slot, rater_id, timestamp, settings, rng)
        trials.begin(connection, project, rater_id, key, question)
        return Claim(key)
    open_slot = next_slot(connection, project, rater_id, settings, rng, timestamp)
    if open_slot is None:
        # Repetitions and gold questions come between others, not in their place: they alone would give themselves
        # away, one by one to whoever looks again whether there is more to do.
        return Claim(None, "nothing left")
    swapped = rng.random() < settings.swap_rate and _swap(
        connection, project, rater_id, timestamp, settings
    )
    if swapped:
        return Claim(swapped)
    gold = rng.random() < settings.gold_rate and next_gold(
        connection, project, rater_id, rng, timestamp
    )
    if gold:
        slot = _next_slot(connection, gold)
        key = _assign(connection, gold, slot, rater_id, timestamp, settings, rng)
        _draw(connection, settings, gold, key, rng)
        return Claim(key)
    draw = chance.drawn(connection, project, rater_id, open_slot, settings, rng)
    open_slot = draw.slot
    task_row = task_of(connection, open_slot.task).one()
    connection.execute(LEASED, {"of": open_slot.task, "at": open_slot.slot})
    key = _assign(connection, task_row, open_slot.slot, rater_id, timestamp, settings, rng)
    chance.keep(connection, key, draw)
    _draw(connection, settings, task_row, key, rng)
    return Claim(key)


def expire(connection: Connection, project: str, timestamp: float) -> int:
    """Give back the slots whose lease is over; returns how many."""
    freed = 0
    for row in _expired(connection, project, timestamp).all():
        # An answer may have arrived between the two statements.
        still = (assignment.c.id == row.id, assignment.c.state == "active")
        if connection.execute(assignment.update().where(*still).values(state="expired")).rowcount:
            free(connection, row.task, row.slot)
            freed += 1
    return freed


@prepared
def _locked(rater_id: str) -> Select:
    return select(rater).where(rater.c.id == rater_id).with_for_update()


@prepared
def _active(rater_id: str, project: str) -> Select:
    a = assignment.c
    theirs = (a.rater == rater_id, a.project == project, a.state == "active")
    return select(a.id).where(*theirs).order_by(a.leased_at, a.id)


@prepared
def _expired(project: str, timestamp: float) -> Select:
    a = assignment.c
    over = (a.project == project, a.state == "active", a.leased_until < timestamp)
    return select(a.id, a.task, a.slot).where(*over)


def free(connection: Connection, task_id: str, slot: int) -> None:
    """A leased slot is open again; a review's or a gold question's is closed, it was made for one rater."""
    task_row = connection.execute(
        select(task.c.is_gold, task.c.swap_of, task.c.overlap, task_slot.c.added)
        .join(task_slot, task_slot.c.task == task.c.id)
        .where(task.c.id == task_id, task_slot.c.slot == slot)
    ).one()
    wanted = slot < task_row.overlap or task_row.added
    regular = not task_row.is_gold and task_row.swap_of is None and wanted
    connection.execute(
        task_slot.update()
        .where(
            task_slot.c.task == task_id,
            task_slot.c.slot == slot,
            task_slot.c.state.in_(("leased", "review")),
        )
        .values(**(OPENED if regular else {"state": "closed"}))
    )


def assign(
    connection: Connection,
    task_id: str,
    rater_id: str,
    *,
    order: Sequence[int] | None = None,
    shown: bool = False,
) -> str:
    """Give a certain task to a person or a judge, in an open or a new slot: reviews, simulated raters.

    `order` is the order in which an imported answer was shown (indices into the task's completions); by
    default it is one of chance. The slot is one of the task's own while one is open; after that it is a
    `review` slot, whose answer stands beside the others without exceeding their overlap. `shown`: to a person, who
    reads the guidelines beside it. Raises `UserError` if they have had it.
    """
    task_row = task_of(connection, task_id).first()
    if task_row is None:
        raise UserError("there is no such task")
    timestamp, settings = now(connection), settings_of(connection, task_row.project)
    expire(connection, task_row.project, timestamp)
    condition = and_(assignment.c.task == task_id, assignment.c.rater == rater_id)
    previous = connection.execute(
        select(assignment.c.id, assignment.c.state).where(condition)
    ).first()
    if previous:
        if previous.state == "active":
            return previous.id
        raise UserError("this rater has had this task already")
    open_slot = connection.execute(
        select(task_slot.c.slot)
        .where(task_slot.c.task == task_id, task_slot.c.state.in_(("open", "parked")))
        .order_by(task_slot.c.slot)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).scalar()
    if open_slot is None:
        open_slot = _next_slot(connection, task_row, state="review")
    else:
        connection.execute(
            task_slot.update()
            .where(task_slot.c.task == task_id, task_slot.c.slot == open_slot)
            .values(state="leased")
        )
    rng = random.SystemRandom()
    return _assign(
        connection, task_row, open_slot, rater_id, timestamp, settings, rng, order, shown
    )


def unpark(connection: Connection, task_id: str, *, close: bool = False) -> int:
    """Ask a task that was set aside again, or never again (`close`); returns how many slots changed."""
    states = ("parked", "open") if close else ("parked",)
    return connection.execute(
        task_slot.update()
        .where(task_slot.c.task == task_id, task_slot.c.state.in_(states))
        .values(**({"state": "closed"} if close else OPENED))
    ).rowcount


def _swap(
    connection: Connection, project: str, rater_id: str, timestamp: float, settings: Settings
) -> str | None:
    """A pair that this rater judged some time ago, the other way round."""
    repetition = task.alias()
    # Few, whatever they were about: a rater of rankings alone would be searched for pairs to the beginning.
    done = (
        select(assignment)
        .where(assignment.c.rater == rater_id, assignment.c.state == "done")
        .order_by(assignment.c.leased_at.desc())
        .limit(SWAPS_AMONG)
        .subquery()
    )
    recent = connection.execute(
        select(done.c.id, done.c.task, done.c.order_shown)
        .join(task, task.c.id == done.c.task)
        .where(
            done.c.project == project,
            task.c.kind.in_([SCREEN, *(name for name, kind in KINDS.items() if kind.swaps)]),
            task.c.swap_of.is_(None),
            task.c.is_gold.is_(False),
        )
        .order_by(done.c.leased_at.desc(), done.c.id.desc())
        .limit(SWAP_AFTER + 20)
    ).all()
    for row in recent[SWAP_AFTER:]:
        if connection.execute(
            select(repetition.c.id)
            .join(assignment, assignment.c.task == repetition.c.id)
            .where(
                repetition.c.project == project,
                repetition.c.swap_of == row.task,
                assignment.c.rater == rater_id,
            )
        ).first():
            continue
        first = task_of(connection, row.task).one()
        if not screens.swaps(first.kind, first.options):
            continue
        key = add_task(
            connection,
            project,
            first.kind,
            first.prompt,
            first.completions,
            options=first.options,
            strategy="swap",
            propensity=settings.swap_rate,
            round=first.round,
            swap_of=first.id,
        )
        copy = task_of(connection, key).one()
        order = list(reversed(row.order_shown))
        slot = _next_slot(connection, copy)
        return _assign(connection, copy, slot, rater_id, timestamp, settings, None, order)
    return None


def _next_slot(connection: Connection, task_row: Row, *, state: str = "leased") -> int:
    """A new slot, for tasks that are asked beyond a fixed overlap: gold, swaps, reviews."""
    connection.execute(select(task.c.id).where(task.c.id == task_row.id).with_for_update())
    last = connection.execute(
        select(func.max(task_slot.c.slot)).where(task_slot.c.task == task_row.id)
    ).scalar()
    slot = 0 if last is None else last + 1
    connection.execute(
        task_slot.insert().values(
            task=task_row.id, slot=slot, project=task_row.project, state=state, position=0.0
        )
    )
    return slot


def _assign(
    connection: Connection,
    task_row: Row,
    slot: int,
    rater_id: str,
    timestamp: float,
    settings: Settings,
    rng: random.Random | None,
    order: Sequence[int] | None = None,
    shown: bool = True,
) -> str:
    if order is None:
        first = [0] if screens.anchored(task_row.kind, task_row.options) else []
        rest = list(range(len(first), len(task_row.completions)))
        (rng or random.SystemRandom()).shuffle(rest)
        order = first + rest
    values: dict[str, Any] = {
        "id": new_id(),
        "task": task_row.id,
        "slot": slot,
        "project": task_row.project,
        "rater": rater_id,
        "order_shown": list(order),
        "state": "active",
        "leased_at": timestamp,
        "leased_until": timestamp + 60.0 * settings.lease_minutes,
        "guideline_version": newest_guidelines(connection, task_row.project) if shown else None,
    }
    insert_all(connection, assignment, [values])
    return values["id"]


def _draw(
    connection: Connection, settings: Settings, task_row: Row, key: str, rng: random.Random
) -> None:
    """What models say beside the question."""
    suggestions.draw(connection, settings, task_row, key, rng)
    critiques.draw(connection, settings, task_row, key, rng)


def _extend(
    connection: Connection, key: str, timestamp: float, settings: Settings, project: str
) -> None:
    """A question that is shown again, with the guidelines of now."""
    connection.execute(
        assignment.update()
        .where(assignment.c.id == key)
        .values(
            leased_until=timestamp + 60.0 * settings.lease_minutes,
            guideline_version=newest_guidelines(connection, project),
        )
    )
