"""What models suggest about questions: kept beside them, each with who proposed it, and never a judgment.

Raters see one where the project's lead has chosen whose they see. Of those questions a share is drawn, by chance and
for each rater anew, on which it stays hidden: the two kinds differ in nothing else, so what differs in the answers is
the effect of having seen it. Gold questions are treated like all others, or they would give themselves away.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, and_, exists, func, or_, select

from heedful.errors import UserError
from heedful.store.database import audit
from heedful.store.database.bulk import batches, insert_all
from heedful.store.database.db import new_id, now
from heedful.store.database.prepared import prepared
from heedful.store.project import screens
from heedful.store.project.projects import Settings
from heedful.store.tables.columns import MAX_NAME
from heedful.store.tables.schema import suggestion, suggestion_shown, task, task_slot

Ranks = Sequence[int | None]  # by response, 1 is the best, equal is a tie, None in no order
STILL_ASKED = ("open", "leased", "parked")


def wanted(
    connection: Connection, project: str, source: str, version: str
) -> tuple[list[str], int]:
    """The questions that still ask for answers and have no suggestion by this version of the source, gold ones among
    them, the oldest first; and how many more there are that do not ask which response is better."""
    rows = untold(connection, suggestion, project, source, version)
    ranking = [row.id for row in rows if screens.first_ranking(row.kind, row.options)]
    return ranking, len(rows) - len(ranking)


def untold(
    connection: Connection, table: Table, project: str, source: str, version: str
) -> Sequence[Row]:
    """{id, kind, options, completions} of the questions that still ask for answers, or are gold, and of which this
    version of the source has told nothing in `table`, the oldest first."""
    t = task.c
    asked = exists().where(task_slot.c.task == t.id, task_slot.c.state.in_(STILL_ASKED))
    given = and_(table.c.source == source, table.c.version == version)
    query = select(t.id, t.kind, t.options, t.completions).where(
        t.project == project,
        t.swap_of.is_(None),
        or_(t.is_gold.is_(True), asked),
        ~exists().where(table.c.task == t.id, given),
    )
    return connection.execute(query.order_by(t.created_at, t.id)).all()


def add(
    connection: Connection,
    project: str,
    source: str,
    version: str,
    suggested: Mapping[str, Ranks],
    *,
    actor: str | None = None,
) -> int:
    """Keep what `source` suggests, ranks by task in the order of its completions; returns how many are new. What it
    has suggested before, in the same version, stays as it was."""
    refuse_nameless(source)
    there = questions(connection, project, suggested)
    before: set[str] = set()
    for part in batches(list(suggested)):
        same = (suggestion.c.source == source, suggestion.c.version == version)
        known = select(suggestion.c.task).where(suggestion.c.task.in_(part), *same)
        before |= set(connection.execute(known).scalars())
    timestamp, new = now(connection), []
    for key, ranks in suggested.items():
        _refuse_unfit(there[key], ranks)
        if key not in before:
            of = {"task": key, "source": source, "version": version, "ranks": list(ranks)}
            new.append({"id": new_id(), **of, "created_at": timestamp})
    insert_all(connection, suggestion, new)
    if new:
        about = {"project": project, "source": source, "version": version, "number": len(new)}
        audit.record(connection, actor, "suggestions.add", **about)
    return len(new)


def refuse_nameless(source: str) -> None:
    if not source.strip() or len(source) > MAX_NAME:
        raise UserError(f"who suggests or criticises has a name of 1 to {MAX_NAME} characters")


def questions(connection: Connection, project: str, tasks: Collection[str]) -> dict[str, Row]:
    """{id, kind, options, completions} of these questions by id, which are the project's."""
    there: dict[str, Row] = {}
    for part in batches(list(tasks)):
        query = select(task.c.id, task.c.kind, task.c.options, task.c.completions)
        rows = connection.execute(query.where(task.c.id.in_(part), task.c.project == project))
        there |= {row.id: row for row in rows}
    if len(there) < len(tasks):
        raise UserError("there is no such question in this project")
    return there


def sources(
    connection: Connection, project: str, table: Table = suggestion
) -> list[dict[str, Any]]:
    """Who has suggested something here: {source, version, questions, newest_at}, the newest first."""
    s, newest = table.c, func.max(table.c.created_at)
    number = func.count(s.task.distinct())
    query = select(s.source, s.version, number.label("questions"), newest.label("newest_at"))
    query = query.join(task, task.c.id == s.task).where(task.c.project == project)
    query = query.group_by(s.source, s.version).order_by(newest.desc(), s.source, s.version)
    return [dict(row._mapping) for row in connection.execute(query)]


def draw(
    connection: Connection, settings: Settings, task_row: Row, assignment: str, rng: random.Random
) -> None:
    """Of a question that is given to a rater: whether they see what is suggested about it."""
    if not settings.suggestions:
        return
    s = suggestion.c
    theirs = select(s.id).where(s.task == task_row.id, s.source == settings.suggestions)
    newest = theirs.order_by(s.created_at.desc(), s.id.desc()).limit(1)
    if (key := connection.execute(newest).scalar()) is None:
        return
    shown = rng.random() >= settings.suggestions_hidden
    row = {"assignment": assignment, "suggestion": key, "project": task_row.project, "shown": shown}
    connection.execute(suggestion_shown.insert().values(**row))


def seen(connection: Connection, lease: Row) -> list[int | None] | None:
    """The ranks by place on the screen that a rater is shown, if any."""
    ranks = _shown(connection, lease.id).scalar()
    return None if ranks is None else [ranks[i] for i in lease.order_shown]


@prepared
def _shown(assignment_id: str) -> Select:
    here = (suggestion_shown.c.assignment == assignment_id, suggestion_shown.c.shown.is_(True))
    return select(suggestion.c.ranks).join_from(suggestion, suggestion_shown).where(*here)


def _refuse_unfit(about: Row, ranks: Ranks) -> None:
    if not screens.first_ranking(about.kind, about.options):
        raise UserError("this question does not ask which response is better")
    fits = all(rank is None or (type(rank) is int and rank >= 1) for rank in ranks)
    if len(ranks) != len(about.completions) or not fits or not any(ranks):
        raise UserError(
            f"a suggestion has a rank from 1 or null for each of {len(about.completions)} responses, and one at least, "
            f"not {list(ranks)!r}"
        )
