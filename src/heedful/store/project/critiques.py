"""What models say against responses: kept beside the questions, and shown to a rater who asks for it.

A critique is no judgment. Raters can ask where the project's lead has chosen whose critiques there are; on a share of
these questions they cannot, drawn for each rater and question by itself. What differs between the two is the effect of
being able to ask, whoever then does.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from heedful.errors import UserError
from heedful.store.database import audit
from heedful.store.database.bulk import batches, insert_all
from heedful.store.database.db import new_id, now
from heedful.store.database.prepared import prepared
from heedful.store.project import suggestions
from heedful.store.project.content import task_of
from heedful.store.project.projects import Settings
from heedful.store.tables.suggestions import critique_asked, critique_offered, model_critique

MOST = 20_000  # characters


def wanted(connection: Connection, project: str, source: str, version: str) -> list[str]:
    """The questions with responses that still ask for answers and of which this version of the source has said nothing,
    gold ones among them, the oldest first."""
    rows = suggestions.untold(connection, model_critique, project, source, version)
    return [row.id for row in rows if row.completions]


def add(
    connection: Connection,
    project: str,
    source: str,
    version: str,
    written: Mapping[str, Sequence[str | None]],
    *,
    actor: str | None = None,
) -> int:
    """Keep what `source` says against the responses of each task, in the order of its completions, None or nothing
    where it is silent; returns of how many responses that is new. What this version has said before stays."""
    suggestions.refuse_nameless(source)
    there = suggestions.questions(connection, project, written)
    c, before = model_critique.c, set[tuple[str, str]]()
    for part in batches(list(written)):
        of = (c.task.in_(part), c.source == source, c.version == version)
        before |= {
            (row.task, row.completion)
            for row in connection.execute(select(c.task, c.completion).where(*of))
        }
    timestamp, new = now(connection), []
    for key, texts in written.items():
        if len(texts) != len(there[key].completions):
            raise UserError(
                f"there is one critique, or none, for each of {len(there[key].completions)} responses"
            )
        for completion, text in zip(there[key].completions, texts, strict=True):
            if not text or not text.strip() or (key, completion) in before:
                continue
            if len(text) > MOST:
                raise UserError(f"a critique has at most {MOST} characters, not {len(text)}")
            row = {"task": key, "completion": completion, "source": source, "version": version}
            new.append({"id": new_id(), **row, "text": text, "created_at": timestamp})
    insert_all(connection, model_critique, new)
    if new:
        about = {"project": project, "source": source, "version": version, "number": len(new)}
        audit.record(connection, actor, "critiques.add", **about)
    return len(new)


def draw(
    connection: Connection, settings: Settings, task_row: Row, assignment: str, rng: random.Random
) -> None:
    """Of a question that is given to a rater: whether they can ask what is said against its responses."""
    if not settings.critiques or not _newest(connection, task_row, settings.critiques):
        return
    offered = rng.random() >= settings.critiques_hidden
    row = {"assignment": assignment, "project": task_row.project, "source": settings.critiques}
    connection.execute(critique_offered.insert().values(**row, offered=offered))


def seen(connection: Connection, lease: Row) -> list[dict[str, Any]] | None:
    """By place on the screen {there, text}: whether there is a critique, and its words once they were asked for; None
    where the rater cannot ask."""
    places = _by_place(connection, lease)
    if not places:
        return None
    asked = _asked(connection, lease)
    return [{"there": row is not None, "text": asked.get(key)} for key, row in places]


def ask(connection: Connection, lease: Row, place: int) -> str:
    """The rater of an assignment, locked by the caller, asks for the critique of a response by its place: what it says,
    which is recorded as shown."""
    places = _by_place(connection, lease)
    if not 0 <= place < len(lease.order_shown):
        raise UserError("there is no such response")
    key, row = places[place] if places else ("", None)
    if row is None:
        raise UserError("no critique of this response can be asked for")
    if text := _asked(connection, lease).get(key):  # as it was, whatever has come since
        return text
    asked = {"assignment": lease.id, "critique": row.id, "created_at": now(connection)}
    connection.execute(critique_asked.insert().values(**asked))
    return row.text


def _by_place(connection: Connection, lease: Row) -> list[tuple[str, Row | None]]:
    """The responses on a rater's screen, each with the critique that they can ask for; none where they can ask for
    none."""
    if (source := _source(connection, lease.id).scalar()) is None:
        return []
    task_row = task_of(connection, lease.task).one()
    there = _newest(connection, task_row, source)
    shown = (task_row.completions[i] for i in lease.order_shown)
    return [(c, there.get(c)) for c in shown]


@prepared
def _source(assignment_id: str) -> Select:
    o = critique_offered.c
    return select(o.source).where(o.assignment == assignment_id, o.offered.is_(True))


def _newest(connection: Connection, task_row: Row, source: str) -> dict[str, Row]:
    """By completion, the newest version's."""
    c = model_critique.c
    query = select(c.id, c.completion, c.text).where(c.task == task_row.id, c.source == source)
    rows = connection.execute(query.order_by(c.created_at, c.id))
    return {row.completion: row for row in rows}


def _asked(connection: Connection, lease: Row) -> dict[str, str]:
    """By completion, what was shown."""
    c = model_critique.c
    query = select(c.completion, c.text).join(critique_asked, critique_asked.c.critique == c.id)
    rows = connection.execute(query.where(critique_asked.c.assignment == lease.id))
    return {row.completion: row.text for row in rows}
