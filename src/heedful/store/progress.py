"""How far a rater is: quick also with a million judgments, since only this rater's newest are read."""

from __future__ import annotations

from statistics import median
from typing import Any

from sqlalchemy import Connection, func, select

from heedful.store.db import now
from heedful.store.projects import settings_of
from heedful.store.schema import judgment, rater, task_slot
from heedful.store.work import DAY, answers_given

RECENT = 50  # answers that say how fast somebody is
SHOWN = 1000  # "more than that" is enough to know


def progress(connection: Connection, project: str, rater_id: str) -> dict[str, Any]:
    """{today, total, waiting, seconds_median, daily_limit} of a rater in a project; `waiting` counts up to 1000."""
    at = now(connection)
    mine = (judgment.c.rater == rater_id, judgment.c.project == project, judgment.c.revision == 1)
    recent = connection.execute(
        select(judgment.c.active_ms)
        .where(*mine, judgment.c.active_ms.is_not(None))
        .order_by(judgment.c.created_at.desc())
        .limit(RECENT)
    ).scalars()
    times = [ms / 1000 for ms in recent]
    open_slots = (
        select(task_slot.c.task)
        .where(task_slot.c.project == project, task_slot.c.state == "open")
        .limit(SHOWN)
        .subquery()
    )
    waiting = connection.execute(select(func.count()).select_from(open_slots)).scalar_one()
    own = connection.execute(select(rater.c.settings).where(rater.c.id == rater_id)).scalar_one()
    limit = own.get("daily_limit", settings_of(connection, project).daily_limit)
    return {
        "today": answers_given(connection, project, rater_id, after=at - DAY),
        "total": answers_given(connection, project, rater_id),
        "waiting": waiting,
        "seconds_median": round(median(times), 1) if times else None,
        "daily_limit": limit or None,
    }
