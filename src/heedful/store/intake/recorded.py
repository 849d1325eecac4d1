"""Records that were answered elsewhere, with several questions each: screens of a project, and judgments of judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from heedful.store.database.db import Store
from heedful.store.intake.ingest import UNKNOWN_ORIGIN, Origin, Tick, add_all
from heedful.store.kinds import SCREEN
from heedful.store.membership import people
from heedful.store.project import content, projects
from heedful.store.rating import judging, work
from heedful.store.tables.schema import assignment, judgment, task
from heedful.types import Prompt

Body = Callable[[Sequence[str]], dict[str, Any]]  # texts as they are shown → an answer by place


@dataclass(frozen=True)
class Given:
    """What somebody said to the questions that they answered."""

    rater: str
    said: Mapping[str, Body]
    seconds: float | None = None
    client_at: float | None = None


@dataclass(frozen=True)
class Item:
    """A prompt with its different responses, and what people said of them; nobody: a question that is still open."""

    prompt: Prompt
    responses: Sequence[str]
    given: Sequence[Given] = ()


def screens(
    store: Store,
    project: str,
    items: Sequence[Item],
    *,
    questions: Sequence[Mapping[str, Any]],
    origin: Origin = UNKNOWN_ORIGIN,
    tick: Tick | None = None,
) -> dict[str, int]:
    """Keep the records as tasks that ask all of `questions`, answered by judges with the names of their raters. A
    project that asks nothing of its own yet asks these from now on. Importing the same again adds nothing."""
    options = {"questions": [*map(dict, questions)]}

    def begin(connection: Connection) -> dict[str, str]:
        if not projects.settings_of(connection, project).questions:
            projects.change(connection, project, options, actor=None)
        names = dict.fromkeys(given.rater for item in items for given in item.given)
        return {name: people.ensure_judge(connection, name) for name in names}

    judges = store.in_write(begin)

    def add(connection: Connection, batch: Sequence[Item]) -> None:
        prompts = content.add_prompts(
            connection, project, [(item.prompt, origin) for item in batch]
        )
        rows = [(p, t, {}) for p, item in zip(prompts, batch, strict=True) for t in item.responses]
        made = iter(content.add_completions(connection, rows))
        ids = [[next(made) for _ in item.responses] for item in batch]
        how = {"options": options, "strategy": "import"}
        asks = [
            content.Ask(SCREEN, p, keys, overlap=max(1, len({g.rater for g in item.given})), **how)
            for p, keys, item in zip(prompts, ids, batch, strict=True)
        ]
        tasks = content.add_tasks(connection, project, asks)
        for (key, _), keys, item in zip(tasks, ids, batch, strict=True):
            texts = dict(zip(keys, item.responses, strict=True))
            for given in item.given:
                _answer(connection, key, judges[given.rater], texts, given, item.responses)

    return add_all(store, project, items, add, tick)


def _answer(
    connection: Connection,
    task_id: str,
    judge: str,
    texts: Mapping[str, str],
    given: Given,
    responses: Sequence[str],
) -> None:
    """Once: the same answer to the same question again is there already. Another one of theirs corrects the first."""
    said = {name: body(responses) for name, body in given.said.items()}
    key = content.digest(["record", task_id, judge, said])
    there = (judgment.c.rater == judge, judgment.c.idempotency_key == key)
    if connection.execute(select(judgment.c.id).where(*there)).first():
        return
    mine = (assignment.c.task == task_id, assignment.c.rater == judge)
    lease = connection.execute(select(assignment.c.id).where(*mine)).scalar()
    lease = lease or work.assign(connection, task_id, judge)
    query = select(assignment.c.order_shown, task.c.completions)
    query = query.join(task, task.c.id == assignment.c.task).where(assignment.c.id == lease)
    row = connection.execute(query).one()
    shown = [texts[row.completions[i]] for i in row.order_shown]
    judging.submit(
        connection,
        lease,
        judge,
        {name: body(shown) for name, body in given.said.items()},
        key=key,
        active_ms=None if given.seconds is None else round(given.seconds * 1000),
        client_at=given.client_at,
        ui_version="import",
        partly=True,
    )
