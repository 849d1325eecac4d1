"""A rater's progress; fast with a million judgments too, since only this rater's newest are read."""

from __future__ import annotations

from statistics import median
from typing import Any

from sqlalchemy import Connection, Select, case, func, select

from heedful.store.database.db import now
from heedful.store.database.prepared import prepared
from heedful.store.project.projects import settings_of
from heedful.store.rating.limits import DAY, said
from heedful.store.rating.queue import had, shows_own
from heedful.store.tables.schema import assignment, judgment, rater, task_slot

RECENT = 50  # answers that the median time is taken over
SHOWN = 500  # questions are counted up to this number,
SEEN = 1000  # among so many open slots: who has had most of them is not searched for the rest


def progress(connection: Connection, project: str, rater_id: str) -> dict[str, Any]:
    """{today, total, waiting, at_least, seconds_median, daily_limit} of a rater in a project.

    `today` and `total` are answers; skips and flags are none. `waiting` are the questions that wait for this rater:
    those that are leased to them, and those that they have not had. Not all are counted where many are open, and
    `at_least` says that there may be more, also where `waiting` is 0.
    """
    day = now(connection) - DAY
    times = [ms / 1000 for ms in _times(connection, rater_id, project).scalars()]
    personal = _personal(connection, rater_id).scalar_one()
    limit = personal.get("daily_limit", settings_of(connection, project).daily_limit)
    of = said(connection, project, rater_id, since=day)
    left = _waiting(connection, project, rater_id).one()
    return {
        "today": of.answers_since,
        "total": of.answers,
        "waiting": min(left.number, SHOWN),
        "at_least": bool(left.at_least),
        "seconds_median": round(median(times), 1) if times else None,
        "daily_limit": limit or None,
    }


@prepared
def _times(rater_id: str, project: str) -> Select:
    j = judgment.c
    answered = (j.rater == rater_id, j.project == project, j.revision == 1)
    newest_first = select(j.active_ms).where(*answered, j.active_ms.is_not(None))
    return newest_first.order_by(j.created_at.desc()).limit(RECENT)


@prepared
def _personal(rater_id: str) -> Select:
    return select(rater.c.settings).where(rater.c.id == rater_id)


@prepared
def _waiting(project: str, rater_id: str) -> Select:
    """How much is on the rater's screen, or loaded ahead for it, or was not had yet; and whether there may be more."""
    a, s = assignment.c, task_slot.c
    held = (a.project == project, a.rater == rater_id, a.state == "active")
    leased = select(func.count()).select_from(assignment).where(*held).scalar_subquery()
    is_open = select(s.task).where(s.project == project, s.state == "open")
    some = is_open.limit(SEEN).subquery()
    new = ~had(some.c.task, rater_id), ~shows_own(some.c.task, rater_id)
    left = select(some.c.task).where(*new).distinct().limit(SHOWN).subquery()
    # Looked for only where fewer were found: then all that was looked at has been read anyway.
    beyond = is_open.offset(SEEN).limit(1).exists()
    at_least = case((func.count() + leased >= SHOWN, True), else_=beyond)
    number = (func.count() + leased).label("number")
    return select(number, at_least.label("at_least")).select_from(left)
