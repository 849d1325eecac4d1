"""How much one rater may answer, and leave unanswered."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Connection, Row, exists, func, select

from heedful.store.kinds import UNANSWERED
from heedful.store.project.projects import Settings
from heedful.store.tables.schema import judgment

DAY = 86400.0
FEWEST_SKIPS = 20  # in a day, however few answers a rater may give in it

Reached = Literal["daily limit", "skip limit", "total limit"]


def reached(
    connection: Connection,
    project: str,
    person: Row,
    settings: Settings,
    timestamp: float,
    active: int,
) -> Reached | None:
    """The limit that the rater has reached. Active leases count as answers, or each open tab would add one."""
    daily = person.settings.get("daily_limit", settings.daily_limit)
    total = person.settings.get("total_limit", settings.total_limit)

    def used(limit: int | None, after: float) -> bool:
        if not limit:
            return False
        given = answers_given(connection, project, person.id, after=after, most=limit)
        return active + given >= limit

    if used(daily, timestamp - DAY):
        return "daily limit"
    # Otherwise who may answer five a day could look at all questions and choose five.
    passed = declined(connection, project, person.id, after=timestamp - DAY) if daily else 0
    if daily and passed >= max(daily, FEWEST_SKIPS):
        return "skip limit"
    return "total limit" if used(total, 0.0) else None


def answers_given(
    connection: Connection,
    project: str,
    rater_id: str,
    *,
    after: float = 0.0,
    most: int | None = None,
) -> int:
    """Answers of a rater since `after`; a skip or a flag is none, and a correction is not counted again.

    No more than `most` answers are looked at.
    """
    j = judgment.c
    counted = (j.rater == rater_id, j.project == project, j.revision == 1, j.created_at > after)
    passed = declined(connection, project, rater_id, after=after)
    most = None if most is None else most + passed
    given = select(j.revision).where(*counted).limit(most).subquery()
    return connection.execute(select(func.count()).select_from(given)).scalar_one() - passed


def declined(connection: Connection, project: str, rater_id: str, *, after: float) -> int:
    """Questions that a rater has skipped or flagged since `after`, and not answered since then."""
    j, later = judgment.c, judgment.alias().c
    answered = exists().where(later.assignment == j.assignment, later.outcome.not_in(UNANSWERED))
    # By their outcome, since they are few: by their time all of the rater's rows would be read.
    since = (func.coalesce(j.revision, 1) == 1, func.coalesce(j.created_at, 0.0) > after)
    passed = (j.project == project, j.rater == rater_id, j.outcome.in_(UNANSWERED), *since)
    return connection.execute(select(func.count()).where(*passed, ~answered)).scalar_one()
