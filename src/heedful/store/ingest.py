"""Files' contents into a project: prompts, responses, demonstrations, questions, and what others have judged before.

Everything is kept once, by its content, so importing the same again adds nothing. Writing goes in short
transactions, so that raters who work meanwhile do not wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, func, select

from heedful.errors import UserError
from heedful.store import content
from heedful.store.db import Store
from heedful.store.kinds import KINDS, check_options, kind_of
from heedful.store.schema import (
    completion,
    demonstration,
    judgment,
    prompt,
    task,
)
from heedful.types import Demonstration, Prompt

MAX_OVERLAP = 1000
BATCH = 100  # items a transaction
T = TypeVar("T")
Tick = Callable[[int], None]


@dataclass(frozen=True)
class Origin:
    """Where prompts are from."""

    source: str | None = None
    licence: str | None = None
    language: str | None = None


@dataclass(frozen=True)
class TaskSpec:
    """The tasks to make of imported data; none unless `kind` is given."""

    kind: str | None = None
    overlap: int = 1
    options: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.kind is None:
            return
        kind_of(self.kind)
        if not 1 <= self.overlap <= MAX_OVERLAP:
            raise UserError(f"the overlap must be 1 to {MAX_OVERLAP}, not {self.overlap}")
        check_options(self.kind, self.options or {})


UNKNOWN_ORIGIN, NO_TASKS = Origin(), TaskSpec()


def prompts(
    store: Store,
    project: str,
    items: Sequence[tuple[Prompt, Origin]],
    *,
    tasks: TaskSpec = NO_TASKS,
    tick: Tick | None = None,
) -> dict[str, int]:
    """Prompts and where they are from; if asked for, tasks in which people write an answer or talk with models."""
    if tasks.kind and KINDS[tasks.kind].responses != (0, 0):
        raise UserError(f"tasks of the kind {tasks.kind} show responses, and prompts have none")

    def add_item(connection: Connection, item: tuple[Prompt, Origin]) -> None:
        key = prompt_id(connection, project, *item)
        if tasks.kind:
            _task(connection, project, tasks, key, [])

    return add_all(store, project, items, add_item, tick)


def demonstrations(
    store: Store,
    project: str,
    items: Sequence[Demonstration],
    *,
    origin: Origin = UNKNOWN_ORIGIN,
    tick: Tick | None = None,
) -> dict[str, int]:
    """Responses worth imitating."""

    def add_item(connection: Connection, item: Demonstration) -> None:
        key = prompt_id(connection, project, item.prompt, origin)
        content.add_demonstration(connection, key, item.completion, source=origin.source)

    return add_all(store, project, items, add_item, tick)


def samples(
    store: Store,
    project: str,
    items: Iterable[tuple[Prompt, str, dict[str, Any]]],
    *,
    origin: Origin = UNKNOWN_ORIGIN,
    tasks: TaskSpec = NO_TASKS,
    tick: Tick | None = None,
) -> dict[str, int]:
    """Responses of models: prompt, text, and the fields of `content.add_completion` that are known.

    `Kind.questions` says which tasks they make, from a prompt's different texts.
    """
    kind = KINDS[tasks.kind] if tasks.kind else None
    if kind and kind.responses == (0, 0):
        raise UserError(f"tasks of the kind {kind.name} show no responses")
    groups: dict[Prompt, list[tuple[str, dict[str, Any]]]] = {}
    for value, text, fields in items:
        groups.setdefault(value, []).append((text, fields))
    largest = max((len({t for t, _ in rows}) for rows in groups.values()), default=0)
    if kind and len(next(kind.questions([""] * largest), ())) > kind.responses[1]:
        raise UserError(
            f"a prompt has {largest} different responses; a task of the kind {kind.name} shows at "
            f"most {kind.responses[1]}"
        )

    def add_item(
        connection: Connection, item: tuple[Prompt, list[tuple[str, dict[str, Any]]]]
    ) -> None:
        value, rows = item
        key = prompt_id(connection, project, value, origin)
        ids: dict[str, str] = {}
        for text, fields in rows:
            completion_id = content.add_completion(connection, key, text, **fields)
            if text.strip():
                ids.setdefault(text, completion_id)
        for completions in kind.questions(list(ids.values())) if kind else ():
            _task(connection, project, tasks, key, completions)

    return add_all(store, project, list(groups.items()), add_item, tick)


def prompt_id(connection: Connection, project: str, value: Prompt, origin: Origin) -> str:
    """The prompt's id, with where it is from."""
    return content.add_prompt(
        connection,
        project,
        value,
        source=origin.source,
        licence=origin.licence,
        language=origin.language,
    )


def _task(
    connection: Connection, project: str, spec: TaskSpec, key: str, completions: Sequence[str]
) -> None:
    assert spec.kind
    content.add_task(
        connection, project, spec.kind, key, completions,
        options=spec.options, overlap=spec.overlap, strategy="import",
    )  # fmt: skip


def add_all(
    store: Store,
    project: str,
    items: Sequence[T],
    add_item: Callable[[Connection, T], None],
    tick: Tick | None,
) -> dict[str, int]:
    """Add the items in batches; returns how many rows of each table are new.

    `add_item` adds what is not there: a batch whose commit was not confirmed is written again.
    """

    def count(connection: Connection) -> dict[str, int]:
        return _counts(connection, project)

    counts_before, done, remaining = store.in_read(count), 0, iter(items)
    while batch := list(islice(remaining, BATCH)):
        store.in_write(lambda connection, batch=batch: [add_item(connection, i) for i in batch])
        done += len(batch)
        if tick:
            tick(done)
    counts_after = store.in_read(count)
    return {"items": done} | {
        name: counts_after[name] - counts_before[name] for name in counts_after
    }


def _counts(connection: Connection, project: str) -> dict[str, int]:
    def number(table: Table, *conditions: Any) -> int:
        return connection.execute(
            select(func.count()).select_from(table).where(*conditions)
        ).scalar_one()

    prompt_ids = select(prompt.c.id).where(prompt.c.project == project)
    return {
        "prompts": number(prompt, prompt.c.project == project),
        "responses": number(completion, completion.c.prompt.in_(prompt_ids)),
        "demonstrations": number(demonstration, demonstration.c.prompt.in_(prompt_ids)),
        "tasks": number(task, task.c.project == project),
        "judgments": number(judgment, judgment.c.project == project),
    }
