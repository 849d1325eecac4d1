"""What a lead does with many questions at once: withdraw, put back, set aside, ask for more answers.

Nothing is deleted and no answer is refused for it: who has a question on the screen may still answer. Gold questions
and repetitions have no answers that are wanted of them, and are left as they are. Each batch is a transaction with
its own event in the audit log, so that raters never wait for thousands of questions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Row, bindparam, exists, func, or_, select

from heedful.errors import UserError
from heedful.store.database import audit
from heedful.store.database.bulk import batches, insert_all
from heedful.store.database.db import Store, now
from heedful.store.lead.browse import wanted_slot
from heedful.store.project import screens
from heedful.store.project.suggestions import STILL_ASKED
from heedful.store.rating import asides
from heedful.store.rating.queue import OPENED
from heedful.store.tables.columns import DatabaseClock
from heedful.store.tables.schema import assignment, task, task_slot

Action = Literal["withdraw", "put_back", "set_aside", "overlap", "ask_again"]
BATCH = 250  # questions a transaction
MOST = 1000  # answers that can be wanted of a question


@dataclass(frozen=True)
class Steered:
    """How many questions were looked at, of how many answers wanted changed their state or were added, and how many
    questions were left as they are because no answers are wanted of them."""

    tasks: int = 0
    answers: int = 0
    left_out: int = 0

    def __add__(self, other: Steered) -> Steered:
        return Steered(
            self.tasks + other.tasks, self.answers + other.answers, self.left_out + other.left_out
        )


def steer(
    store: Store,
    project: str,
    tasks: Sequence[str],
    action: Action,
    *,
    actor: str,
    number: int | None = None,
) -> Steered:
    """Do it with these questions of a project, batch by batch.

    `number`: answers wanted of each (`overlap`), or added to each (`ask_again`, by default one).
    """
    if action not in get_args(Action):
        raise UserError(f"action must be {', '.join(get_args(Action))}, not '{action}'")
    if action == "overlap" and number is None:
        raise UserError("say how many answers are wanted of each question")
    if number is not None and not 1 <= number <= MOST:
        raise UserError(f"the number of answers must be 1 to {MOST}, not {number}")
    total = Steered()
    for part in batches(tasks, BATCH):
        with store.write() as connection:
            total += _steer(connection, project, part, action, actor, number)
    return total


def _steer(
    connection: Connection,
    project: str,
    tasks: Sequence[str],
    action: Action,
    actor: str,
    number: int | None,
) -> Steered:
    query = select(task).where(task.c.id.in_(tasks), task.c.project == project)
    # Slots are numbered one after the other: two leads take turns, and so does a review.
    rows = connection.execute(query.order_by(task.c.id).with_for_update()).all()
    regular = [row for row in rows if not row.is_gold and row.swap_of is None]
    ids = [row.id for row in regular]
    if action in ("overlap", "ask_again"):
        answers = _more(connection, regular, action, number or 1)
    else:
        answers = SIMPLE[action](connection, ids)
    about = {"number": number} if action in ("overlap", "ask_again") else {}
    if ids:
        event = f"questions.{action}"
        audit.record(connection, actor, event, project=project, tasks=ids, answers=answers, **about)
    return Steered(len(ids), answers, len(rows) - len(ids))


def unanswered(connection: Connection, project: str) -> list[str]:
    """The questions that ask which response is better and still want answers, the oldest first."""
    t = task.c
    asked = exists().where(task_slot.c.task == t.id, task_slot.c.state.in_(STILL_ASKED))
    query = select(t.id, t.kind, t.options).where(
        t.project == project, t.swap_of.is_(None), t.is_gold.is_(False), asked
    )
    rows = connection.execute(query.order_by(t.created_at, t.id))
    return [row.id for row in rows if screens.first_ranking(row.kind, row.options)]


def prioritise(
    store: Store, project: str, values: Mapping[str, float], *, actor: str | None, **about: Any
) -> int:
    """Give these questions the places of their values, the highest first; returns how many wanted answers moved.

    Raters who are past a place are told of what has come before it as of slots that were opened.
    """
    moved = 0
    change = (
        task_slot.update()
        .where(
            task_slot.c.task == bindparam("key"),
            or_(*(task_slot.c.state == x for x in STILL_ASKED)),
        )
        .values(position=bindparam("place"), open_since=DatabaseClock())
    )
    for part in batches(list(values), BATCH):
        rows = [{"key": key, "place": -values[key]} for key in part]
        with store.write() as connection:
            there = (task_slot.c.task.in_(part), task_slot.c.state.in_(STILL_ASKED))
            count = select(func.count()).select_from(task_slot).where(*there)
            moved += connection.execute(count).scalar_one()
            connection.execute(change, rows)
            event = {"project": project, "questions": len(part), **about}
            audit.record(connection, actor, "questions.order", **event)
    return moved


def _withdraw(connection: Connection, ids: list[str]) -> int:
    """Not asked any more. Who has one on the screen may still answer: a lease that has ended, as any other."""
    states = ("open", "parked", "leased")
    changed = _change(connection, ids, states, {"state": "closed"})
    a = assignment.c
    active = (a.task.in_(ids), a.state == "active", ~_reviews())
    connection.execute(assignment.update().where(*active).values(state="expired"))
    return changed


def _put_back(connection: Connection, ids: list[str]) -> int:
    for key in ids:
        asides.settle(connection, key)
    return _change(connection, ids, ("closed", "parked"), OPENED)


def _set_aside(connection: Connection, ids: list[str]) -> int:
    return _change(connection, ids, ("open",), {"state": "parked"})


SIMPLE: dict[str, Callable[[Connection, list[str]], int]] = {
    "withdraw": _withdraw,
    "put_back": _put_back,
    "set_aside": _set_aside,
}


def _change(
    connection: Connection, ids: list[str], states: Sequence[str], values: dict[str, Any]
) -> int:
    """Slots of answers that are wanted, from one of these states to another."""
    wanted = (
        select(task.c.id).where(task.c.id == task_slot.c.task, wanted_slot()).correlate(task_slot)
    )
    condition = (task_slot.c.task.in_(ids), task_slot.c.state.in_(states), wanted.exists())
    return connection.execute(task_slot.update().where(*condition).values(**values)).rowcount


def _reviews() -> Any:
    """An assignment for a look of somebody's own, which no withdrawal ends."""
    s = task_slot.c
    same = (s.task == assignment.c.task, s.slot == assignment.c.slot)
    return (select(s.slot).where(*same, s.state == "review").correlate(assignment)).exists()


def _more(connection: Connection, rows: Sequence[Row], action: str, number: int) -> int:
    """Slots beside those that are there, in the numbers that come next; of what is set aside they are, too."""
    s = task_slot.c
    query = (
        select(s.task, s.slot, s.state, wanted_slot().label("wanted"))
        .join(task, task.c.id == s.task)
        .where(s.task.in_([row.id for row in rows]))
    )
    slots: dict[str, list[Row]] = {row.id: [] for row in rows}
    for slot in connection.execute(query):
        slots[slot.task].append(slot)
    timestamp = now(connection)
    added: list[dict[str, Any]] = []
    for row in rows:
        there = slots[row.id]
        wanted = sum(bool(slot.wanted) for slot in there)
        missing = number if action == "ask_again" else number - wanted
        if wanted + missing > MOST:
            raise UserError(f"at most {MOST} answers can be wanted of a question")
        first = max((slot.slot for slot in there), default=-1) + 1
        parked = any(slot.state == "parked" for slot in there)
        common = {
            "task": row.id,
            "project": row.project,
            "state": "parked" if parked else "open",
            "position": -row.score if row.score is not None else random.random(),
            "open_since": timestamp,
            "added": True,
        }
        added += ({**common, "slot": first + i} for i in range(missing))
    insert_all(connection, task_slot, added)
    return len(added)
