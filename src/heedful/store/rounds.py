"""Rounds of asking: how many questions are answered, what judges that are no people say, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from heedful.store import judging, records, snapshot, work
from heedful.store.schema import assignment, judgment, task, task_slot


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


def judge(
    connection: Connection, task_id: str, judge_id: str, ranking: Sequence[int], *, key: str
) -> judging.Receipt:
    """What a simulated rater, a model or an imported file says: ranks in the task's canonical order, 1 is best.

    It goes the way of people's answers: an assignment, a judgment, an audit event. The same key again adds
    nothing.
    """
    duplicate = (judgment.c.rater == judge_id, judgment.c.idempotency_key == key)
    previous = connection.execute(select(judgment).where(*duplicate)).first()
    assignment_id = previous.assignment if previous else work.assign(connection, task_id, judge_id)
    row = connection.execute(select(assignment).where(assignment.c.id == assignment_id)).one()
    kind = connection.execute(select(task.c.kind).where(task.c.id == task_id)).scalar_one()
    ranks = [ranking[i] for i in row.order_shown]
    answer: dict[str, Any] = {"ranks": ranks}
    if kind == "pair":
        first, second = ranks
        answer = {"tie": True} if first == second else {"value": 2 if first < second else 7}
    return judging.submit(connection, assignment_id, judge_id, answer, key=key)


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
