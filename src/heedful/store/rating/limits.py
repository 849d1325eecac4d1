"""How much one rater may answer, and leave unanswered."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Row, Select, exists, func, select

from heedful.store.database.prepared import prepared
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
    if not (daily or total):
        return None
    of = said(connection, project, person.id, since=timestamp - DAY)
    if daily and active + of.answers_since >= daily:
        return "daily limit"
    # Otherwise who may answer five a day could look at all questions and choose five.
    if daily and of.declined_since >= max(daily, FEWEST_SKIPS):
        return "skip limit"
    return "total limit" if total and active + of.answers >= total else None


class Said(NamedTuple):
    """How many questions a rater has answered; how many of these, and skipped or flagged and not answered, lately."""

    answers: int
    answers_since: int
    declined_since: int


def said(connection: Connection, project: str, rater_id: str, *, since: float) -> Said:
    """What a rater has said here, and since then; a correction is not counted again."""
    first = _first(connection, project, rater_id, since).one()
    declined = _declined(connection, project, rater_id, since).one()
    return Said(first.n - declined.n, first.new - declined.new, declined.new)


@prepared
def _first(project: str, rater_id: str, since: float) -> Select:
    j = judgment.c
    theirs = (j.rater == rater_id, j.project == project, j.revision == 1)
    return select(*_numbers(since)).where(*theirs)


@prepared
def _declined(project: str, rater_id: str, since: float) -> Select:
    j, later = judgment.c, judgment.alias().c
    answered = exists().where(later.assignment == j.assignment, later.outcome.not_in(UNANSWERED))
    # By their outcome, since they are few: by their revision all of the rater's rows would be read.
    passed = (j.project == project, j.rater == rater_id, j.outcome.in_(UNANSWERED))
    return select(*_numbers(since)).where(*passed, func.coalesce(j.revision, 1) == 1, ~answered)


def _numbers(since: float) -> tuple[Any, Any]:
    new = func.count().filter(judgment.c.created_at > since)
    return func.count().label("n"), new.label("new")
