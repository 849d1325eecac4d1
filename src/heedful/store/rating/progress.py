"""A rater's progress; fast with a million judgments too, since only this rater's newest are read."""

from __future__ import annotations

from statistics import median
from typing import Any

from sqlalchemy import Connection, exists, func, select

from heedful.store.database.db import now
from heedful.store.project.projects import settings_of
from heedful.store.rating.limits import DAY, answers_given
from heedful.store.tables.schema import assignment, judgment, rater, task_slot

RECENT = 50  # answers that the median time is taken over
SHOWN = 1000  # questions are counted up to this number,
SEEN = 2000  # among so many open slots: who has had most of them is not searched for the rest


def progress(connection: Connection, project: str, rater_id: str) -> dict[str, Any]:
    """{today, total, waiting, seconds_median, daily_limit} of a rater in a project.

    `today` and `total` are answers; skips and flags are none. `waiting` are the questions that wait for this rater, who
    has not had them; it counts up to 1000.
    """
    timestamp = now(connection)
    j = judgment.c
    answered = (j.rater == rater_id, j.project == project, j.revision == 1)
    recent = connection.execute(
        select(j.active_ms)
        .where(*answered, j.active_ms.is_not(None))
        .order_by(j.created_at.desc())
        .limit(RECENT)
    ).scalars()
    times = [ms / 1000 for ms in recent]
    open_slots = (
        select(task_slot.c.task)
        .where(task_slot.c.project == project, task_slot.c.state == "open")
        .limit(SEEN)
        .subquery()
    )
    had = exists().where(assignment.c.task == open_slots.c.task, assignment.c.rater == rater_id)
    left = select(open_slots.c.task).where(~had).distinct().limit(SHOWN).subquery()
    waiting = connection.execute(select(func.count()).select_from(left)).scalar_one()
    personal = connection.execute(select(rater.c.settings).where(rater.c.id == rater_id))
    limit = personal.scalar_one().get("daily_limit", settings_of(connection, project).daily_limit)
    return {
        "today": answers_given(connection, project, rater_id, after=timestamp - DAY),
        "total": answers_given(connection, project, rater_id),
        "waiting": waiting,
        "seconds_median": round(median(times), 1) if times else None,
        "daily_limit": limit or None,
    }
