"""Questions set aside because raters flagged or skipped them: when, whose word still counts, and taking it back.

One rater's flags must not stop a project. Beyond the project's limit an hour they are kept, as all judgments are, and
set nothing aside; the lead is told, and may take back what somebody's flags and skips have set aside.
"""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import Connection, Row, case, exists, func, select

from heedful.errors import UserError
from heedful.store.database import audit
from heedful.store.database.bulk import batches
from heedful.store.database.db import now
from heedful.store.kinds import UNANSWERED
from heedful.store.project.projects import settings_of
from heedful.store.rating import work
from heedful.store.tables.schema import assignment, judgment, rater, task_slot

HOUR, DAY = 3600.0, 86400.0
STATES = {"skip": "skipped", "flag": "flagged"}
Effect = Literal["counts", "beyond", "alert"]  # alert: the first one beyond the limit in an hour


def decline(connection: Connection, lease: Row, task_row: Row, outcome: str) -> Effect:
    """A skip or a flag, whose judgment is stored already. Skipped: somebody else is asked, a few times. Flagged: nobody
    is, until the lead has looked; unless this rater has flagged too many in the last hour."""
    settings, timestamp = settings_of(connection, task_row.project), now(connection)
    state = STATES[outcome]
    limit = settings.flags_an_hour if outcome == "flag" else settings.skips_an_hour
    given = _given(connection, lease, outcome, timestamp - HOUR)
    effect: Effect = "counts" if not limit or given <= limit else "beyond"
    if effect == "beyond" and not _alerted(connection, lease, state, timestamp - HOUR):
        effect = "alert"
    discounted = None if effect == "counts" else "limit"
    values = {"state": state, "discounted": discounted}
    connection.execute(assignment.update().where(assignment.c.id == lease.id).values(**values))
    work.free(connection, lease.task, lease.slot)
    if effect == "counts" and _due(connection, [lease.task], settings.skips_until_parked):
        connection.execute(
            task_slot.update()
            .where(task_slot.c.task == lease.task, task_slot.c.state == "open")
            .values(state="parked")
        )
    return effect


def take_back(
    connection: Connection, project: str, rater_id: str, *, since: float, actor: str
) -> dict[str, int]:
    """Take back what a rater's flags and skips since a time have set aside: these questions are asked again, unless
    others' words keep them aside. Nothing is deleted. {taken_back, tasks, answers}: how many of each."""
    settings = settings_of(connection, project)
    if connection.execute(select(rater.c.id).where(rater.c.id == rater_id)).first() is None:
        raise UserError("there is no such rater")
    a = assignment.c
    then = (judgment.c.assignment == a.id, judgment.c.created_at >= since)
    declined = (
        a.rater == rater_id,
        a.project == project,
        a.state.in_(STATES.values()),
        a.discounted.is_(None),
        exists().where(*then, judgment.c.outcome.in_(UNANSWERED)),
    )
    rows = connection.execute(select(a.id, a.task).where(*declined)).all()
    tasks, answers = 0, 0
    of_task = {row.id: row.task for row in rows}
    for ids in batches(list(of_task)):
        connection.execute(assignment.update().where(a.id.in_(ids)).values(discounted="lead"))
        touched = {of_task[key] for key in ids}
        free = touched - _due(connection, sorted(touched), settings.skips_until_parked)
        for task_id in sorted(free):
            changed = work.unpark(connection, task_id)
            tasks, answers = tasks + bool(changed), answers + changed
    done = {"taken_back": len(rows), "tasks": tasks, "answers": answers}
    audit.record(
        connection, actor, "aside.take_back", project=project, rater=rater_id, since=since, **done
    )
    return done


def settle(connection: Connection, task_id: str) -> None:
    """The lead has looked at a question and has it asked again: what was said of it so far counts no more."""
    a = assignment.c
    declined = (a.task == task_id, a.state.in_(STATES.values()), a.discounted.is_(None))
    connection.execute(assignment.update().where(*declined).values(discounted="lead"))


def alerts(connection: Connection, project: str) -> list[dict[str, Any]]:
    """Raters whose flags or skips went beyond the limit in the last day: {rater, pseudonym, status, what, beyond}."""
    a = assignment.c
    beyond = (
        a.rater.in_(
            select(rater.c.id)
        ),  # by rater and state, since that is what there is an index on
        a.state.in_(STATES.values()),
        a.leased_at > now(connection) - DAY,
        # Not by the index that begins with the project: SQLite would take it, and read every assignment of a million.
        func.coalesce(a.project, "") == project,
        a.discounted == "limit",
    )
    counts = (
        select(a.rater, a.state, func.count().label("beyond"))
        .where(*beyond)
        .group_by(a.rater, a.state)
        .subquery()
    )
    query = select(counts, rater.c.pseudonym, rater.c.status).join(
        rater, rater.c.id == counts.c.rater
    )
    return [
        {
            "rater": row.rater,
            "pseudonym": row.pseudonym,
            "status": row.status,
            "what": row.state,
            "beyond": row.beyond,
        }
        for row in connection.execute(query.order_by(counts.c.beyond.desc(), counts.c.rater))
    ]


def _given(connection: Connection, lease: Row, outcome: str, since: float) -> int:
    """Skips or flags of the lease's rater in its project since a time, this one included."""
    j = judgment.c
    theirs = (
        j.rater == lease.rater,
        j.project == lease.project,
        j.revision == 1,
        j.created_at > since,
    )
    return connection.execute(
        select(func.count()).where(*theirs, j.outcome == outcome)
    ).scalar_one()


def _alerted(connection: Connection, lease: Row, state: str, since: float) -> bool:
    a = assignment.c
    theirs = (a.rater == lease.rater, a.state == state, a.leased_at > since)
    return (
        connection.execute(
            select(a.id)
            .where(*theirs, a.project == lease.project, a.discounted == "limit")
            .limit(1)
        ).first()
        is not None
    )


def _due(connection: Connection, tasks: list[str], skips: int) -> set[str]:
    """Those of these tasks that somebody has flagged, or enough people skipped, whose word counts."""
    a = assignment.c
    flagged = func.sum(case((a.state == "flagged", 1), else_=0))
    skipped = func.sum(case((a.state == "skipped", 1), else_=0))
    counted = (a.task.in_(tasks), a.state.in_(STATES.values()), a.discounted.is_(None))
    query = (
        select(a.task, flagged.label("flagged"), skipped.label("skipped"))
        .where(*counted)
        .group_by(a.task)
    )
    return {row.task for row in connection.execute(query) if row.flagged or row.skipped >= skips}
