"""Rounds of asking: how many questions are answered, what judges that are no people say, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from heedful.store.exports import snapshot
from heedful.store.project import records, screens
from heedful.store.rating import judging, work
from heedful.store.tables.schema import assignment, judgment, task, task_slot


@dataclass(frozen=True)
class Waiting:
    """Answers wanted and given; parked ones wait for the lead, closed ones will not come."""

    expected: int
    done: int
    parked: int
    closed: int

    @property
    def over(self) -> bool:
        """Nothing more will come."""
        return self.done + self.closed >= self.expected


def waiting(connection: Connection, tasks: Sequence[str]) -> Waiting:
    """How far these tasks are, in answers."""
    counts = {"done": 0, "parked": 0, "closed": 0}
    expected = 0
    for part in records.batches(tasks):
        rows = connection.execute(
            select(task_slot.c.state, func.count())
            .join(task, task.c.id == task_slot.c.task)
            .where(task.c.id.in_(part), task_slot.c.slot < task.c.overlap)
            .group_by(task_slot.c.state)
        )
        for state, n in rows:
            expected += n
            if state in counts:
                counts[state] += n
    return Waiting(expected, **counts)


def missing(
    connection: Connection, tasks: Sequence[str], key_of: Callable[[str, int], str]
) -> dict[str, list[int]]:
    """Task → numbers of the answers that are still wanted of it, up to its overlap.

    An answer is there when its slot is done, whoever filled it, or closed, or when a judge has given it under
    `key_of(task, number)`.
    """
    wanted: dict[str, list[int]] = {}
    for part in records.batches(tasks):
        in_part = (task_slot.c.task.in_(part), task_slot.c.slot < task.c.overlap)
        slots = connection.execute(
            select(task_slot.c.task, task_slot.c.state)
            .join(task, task.c.id == task_slot.c.task)
            .where(*in_part)
        )
        states: dict[str, list[str]] = {}
        for row in slots:
            states.setdefault(row.task, []).append(row.state)
        said = select(judgment.c.task, judgment.c.idempotency_key).where(judgment.c.task.in_(part))
        given = {(row.task, row.idempotency_key) for row in connection.execute(said)}
        for key in part:
            left = sum(state not in ("done", "closed") for state in states.get(key, ()))
            numbers = [
                k for k in range(len(states.get(key, ()))) if (key, key_of(key, k)) not in given
            ]
            if numbers[:left]:
                wanted[key] = numbers[:left]
    return wanted


def judge(
    connection: Connection, task_id: str, judge_id: str, ranking: Sequence[int | None], *, key: str
) -> judging.Receipt:
    """What a simulated rater, a model or an imported file says: ranks in the task's canonical order, 1 is best.

    It goes the way of people's answers: an assignment, a judgment, an audit event. The same key again adds
    nothing, and what was said first counts: a judge that was asked once more may have said something else.
    """
    duplicate = (judgment.c.rater == judge_id, judgment.c.idempotency_key == key)
    if before := connection.execute(select(judgment).where(*duplicate)).first():
        return judging.Receipt(before.id, before.revision, before.disposition, replayed=True)
    assignment_id = work.assign(connection, task_id, judge_id)
    row = connection.execute(select(assignment).where(assignment.c.id == assignment_id)).one()
    asked = connection.execute(
        select(task.c.kind, task.c.options).where(task.c.id == task_id)
    ).one()
    answer = screens.ranked(asked.kind, asked.options, [ranking[i] for i in row.order_shown])
    return judging.submit(connection, assignment_id, judge_id, answer, key=key, partly=True)


def comparisons(connection: Connection, project: str, tasks: Sequence[str]) -> list[dict[str, Any]]:
    """The answers to these tasks as `heedful export rankings` has them, in the order in which they were given."""
    query = snapshot.Query("rankings")
    ids, _, _ = snapshot.choose(connection, project, query, tasks)
    return list(snapshot.rows(connection, query, ids))


def assignments(
    connection: Connection, *, judgments: Sequence[str] = (), tasks: Sequence[str] = ()
) -> dict[str, str]:
    """Judgment → assignment, of those that are in this database: an answer and its corrections have the same one."""
    by_judgment: dict[str, str] = {}
    for column, keys in ((judgment.c.id, judgments), (judgment.c.task, tasks)):
        for part in records.batches(keys):
            query = select(judgment.c.id, judgment.c.assignment).where(column.in_(part))
            by_judgment.update((row.id, row.assignment) for row in connection.execute(query))
    return by_judgment
