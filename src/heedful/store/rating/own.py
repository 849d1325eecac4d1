"""A rater's own answers, to look at and to correct; nothing of anybody else's."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from heedful.store.project.content import in_short
from heedful.store.project.projects import settings_of
from heedful.store.project.records import corrected
from heedful.store.tables.schema import judgment, prompt, task

EXCERPT = 160  # characters of a prompt


def answers(
    connection: Connection,
    project: str,
    rater_id: str,
    *,
    after: str | None = None,
    limit: int = 50,
) -> dict[str, Any]:
    """{answers, next}: the newest first, the last revision of each; older ones with `after` = `next`.

    An answer is {assignment, kind, prompt, outcome, said, revision, at}; `prompt` is its last turn, cut off.
    """
    settings_of(connection, project)
    j = judgment.c
    query = (
        select(
            j.id,
            j.assignment,
            j.outcome,
            j.said,
            j.revision,
            j.created_at,
            task.c.kind,
            task.c.options,
        )
        .add_columns(prompt.c.content)
        .join(task, task.c.id == j.task)
        .join(prompt, prompt.c.id == task.c.prompt)
        .where(j.rater == rater_id, j.project == project, ~corrected())
        .order_by(j.id.desc())
        .limit(limit + 1)
    )
    if after is not None:
        query = query.where(j.id < after)
    rows = connection.execute(query).all()
    told = [
        {
            "assignment": row.assignment,
            "kind": row.kind,
            "prompt": _cut(in_short(row.kind, row.options, row.content)),
            "outcome": row.outcome,
            "said": row.said,
            "revision": row.revision,
            "at": row.created_at,
        }
        for row in rows[:limit]
    ]
    return {"answers": told, "next": rows[limit - 1].id if len(rows) > limit else None}


def _cut(text: str) -> str:
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]}…"
