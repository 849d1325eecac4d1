"""Rounds of asking: questions of a round, how many are answered, and what judges that are no people say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from heedful.store import judging, work
from heedful.store.schema import (
    assignment,
    completion,
    judgment,
    prompt,
    ranking_item,
    task,
    task_slot,
)


@dataclass(frozen=True)
class Waiting:
    """Answers wanted and given; parked ones wait for the lead, closed ones will not come."""

    wanted: int
    done: int
    parked: int
    closed: int

    @property
    def over(self) -> bool:
        """Nothing more will come."""
        return self.done + self.closed >= self.wanted


def waiting(connection: Connection, tasks: Sequence[str]) -> Waiting:
    """How far these tasks are, in answers."""
    counts = {"done": 0, "parked": 0, "closed": 0}
    wanted = 0
    for start in range(0, len(tasks), 500):
        rows = connection.execute(
            select(task_slot.c.state, func.count())
            .join(task, task.c.id == task_slot.c.task)
            .where(task.c.id.in_(tasks[start : start + 500]), task_slot.c.slot < task.c.overlap)
            .group_by(task_slot.c.state)
        )
        for state, n in rows:
            wanted += n
            if state in counts:
                counts[state] += n
    return Waiting(wanted, **counts)


def question(connection: Connection, task_id: str) -> tuple[Any, list[str]]:
    """The prompt's content and the responses' texts in canonical order, for judges."""
    asked = connection.execute(select(task).where(task.c.id == task_id)).one()
    content = connection.execute(
        select(prompt.c.content).where(prompt.c.id == asked.prompt)
    ).scalar_one()
    texts = {
        row.id: row.text
        for row in connection.execute(
            select(completion.c.id, completion.c.text).where(completion.c.id.in_(asked.completions))
        )
    }
    return content, [texts[c] for c in asked.completions]


def judge(
    connection: Connection, task_id: str, judge_id: str, ranking: Sequence[int], *, key: str
) -> judging.Receipt:
    """What a simulated rater, a model or an imported file says: ranks in the task's canonical order, 1 is best.

    It goes the way of people's answers: an assignment, a judgment, an audit event. The same key again adds
    nothing.
    """
    mine = (judgment.c.rater == judge_id, judgment.c.idempotency_key == key)
    before = connection.execute(select(judgment).where(*mine)).first()
    given = before.assignment if before else work.assign(connection, task_id, judge_id)
    row = connection.execute(select(assignment).where(assignment.c.id == given)).one()
    kind = connection.execute(select(task.c.kind).where(task.c.id == task_id)).scalar_one()
    ranks = [ranking[i] for i in row.order_shown]
    said: dict[str, Any] = {"ranks": ranks}
    if kind == "pair":
        first, second = ranks
        said = {"tie": True} if first == second else {"value": 2 if first < second else 7}
    return judging.submit(connection, given, judge_id, said, key=key)


def comparisons(connection: Connection, tasks: Sequence[str]) -> list[dict[str, Any]]:
    """The answers to these tasks as rows of a comparisons file: the latest revision of each, surplus left out.

    Sorted by task and rater, so that the same answers are the same bytes.
    """
    found: list[dict[str, Any]] = []
    newer = judgment.alias()
    superseded = select(newer.c.id).where(newer.c.supersedes == judgment.c.id).exists()
    for task_id in sorted(tasks):
        answers = connection.execute(
            select(judgment, assignment.c.order_shown)
            .join(assignment, assignment.c.id == judgment.c.assignment)
            .where(
                judgment.c.task == task_id,
                judgment.c.outcome.in_(("answer", "tie", "both_bad")),
                judgment.c.disposition != "surplus",
                ~superseded,
            )
            .order_by(judgment.c.rater)
        ).all()
        if not answers:
            continue
        content, texts = question(connection, task_id)
        ids = connection.execute(
            select(task.c.completions).where(task.c.id == task_id)
        ).scalar_one()
        for row in answers:
            items = connection.execute(
                select(ranking_item.c.completion, ranking_item.c.rank).where(
                    ranking_item.c.judgment == row.id
                )
            )
            ranks = {i.completion: i.rank for i in items}
            shown = [k for k, c in enumerate(ids) if c in ranks]
            if len(shown) < 2:
                continue
            found.append(
                {
                    "prompt": content,
                    "responses": [texts[k] for k in shown],
                    "ranking": [ranks[ids[k]] for k in shown],
                    "strength": row.strength,
                    "rater": row.rater,
                    "order_shown": [shown.index(k) for k in row.order_shown if k in shown],
                    "seconds": None if row.active_ms is None else row.active_ms / 1000,
                }
            )
    return found
