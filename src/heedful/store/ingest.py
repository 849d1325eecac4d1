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

MOST_OVERLAP = 1000
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
class Ask:
    """What raters are asked about the imported; nothing, unless `kind` is given."""

    kind: str | None = None
    overlap: int = 1
    options: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.kind is None:
            return
        kind_of(self.kind)
        if not 1 <= self.overlap <= MOST_OVERLAP:
            raise UserError(f"the overlap must be 1 to {MOST_OVERLAP}, not {self.overlap}")
        check_options(self.kind, self.options or {})


NOWHERE, NOTHING = Origin(), Ask()


def prompts(
    store: Store,
    project: str,
    items: Sequence[tuple[Prompt, Origin]],
    *,
    ask: Ask = NOTHING,
    tick: Tick | None = None,
) -> dict[str, int]:
    """Prompts and where they are from; if asked for, tasks in which people write an answer or talk with models."""
    if ask.kind and KINDS[ask.kind].responses != (0, 0):
        raise UserError(f"tasks of the kind {ask.kind} show responses, and prompts have none")

    def each(connection: Connection, item: tuple[Prompt, Origin]) -> None:
        key = prompt_id(connection, project, *item)
        if ask.kind:
            _task(connection, project, ask, key, [])

    return added(store, project, items, each, tick)


def demonstrations(
    store: Store,
    project: str,
    items: Sequence[Demonstration],
    *,
    origin: Origin = NOWHERE,
    tick: Tick | None = None,
) -> dict[str, int]:
    """Responses worth imitating."""

    def each(connection: Connection, item: Demonstration) -> None:
        key = prompt_id(connection, project, item.prompt, origin)
        content.add_demonstration(connection, key, item.completion, source=origin.source)

    return added(store, project, items, each, tick)


def samples(
    store: Store,
    project: str,
    items: Iterable[tuple[Prompt, str, dict[str, Any]]],
    *,
    origin: Origin = NOWHERE,
    ask: Ask = NOTHING,
    tick: Tick | None = None,
) -> dict[str, int]:
    """Responses of models: prompt, text, and the fields of `content.add_completion` that are known.

    Which tasks they make is said by `Kind.questions` of a prompt's different texts.
    """
    kind = KINDS[ask.kind] if ask.kind else None
    if kind and kind.responses == (0, 0):
        raise UserError(f"tasks of the kind {kind.name} show no responses")
    groups: dict[Prompt, list[tuple[str, dict[str, Any]]]] = {}
    for value, text, fields in items:
        groups.setdefault(value, []).append((text, fields))
    crowd = max((len({t for t, _ in rows}) for rows in groups.values()), default=0)
    if kind and len(next(kind.questions([""] * crowd), ())) > kind.responses[1]:
        raise UserError(
            f"a prompt has {crowd} different responses; a task of the kind {kind.name} shows at "
            f"most {kind.responses[1]}"
        )

    def each(connection: Connection, item: tuple[Prompt, list[tuple[str, dict[str, Any]]]]) -> None:
        value, rows = item
        key = prompt_id(connection, project, value, origin)
        ids: dict[str, str] = {}
        for text, fields in rows:
            made = content.add_completion(connection, key, text, **fields)
            if text.strip():
                ids.setdefault(text, made)
        for shown in kind.questions(list(ids.values())) if kind else ():
            _task(connection, project, ask, key, shown)

    return added(store, project, list(groups.items()), each, tick)


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


def _task(connection: Connection, project: str, ask: Ask, key: str, shown: Sequence[str]) -> None:
    assert ask.kind
    content.add_task(
        connection, project, ask.kind, key, shown,
        options=ask.options, overlap=ask.overlap, strategy="import",
    )  # fmt: skip


def added(
    store: Store,
    project: str,
    items: Sequence[T],
    each: Callable[[Connection, T], None],
    tick: Tick | None,
) -> dict[str, int]:
    """Do it in batches; how many there are more of each thing than before."""
    with store.read() as connection:
        before = _counts(connection, project)
    done, rest = 0, iter(items)
    while batch := list(islice(rest, BATCH)):
        with store.write() as connection:
            for item in batch:
                each(connection, item)
        done += len(batch)
        if tick:
            tick(done)
    with store.read() as connection:
        after = _counts(connection, project)
    return {"items": done} | {name: after[name] - before[name] for name in after}


def _counts(connection: Connection, project: str) -> dict[str, int]:
    def number(table: Table, *where: Any) -> int:
        return connection.execute(
            select(func.count()).select_from(table).where(*where)
        ).scalar_one()

    own = select(prompt.c.id).where(prompt.c.project == project)
    return {
        "prompts": number(prompt, prompt.c.project == project),
        "responses": number(completion, completion.c.prompt.in_(own)),
        "demonstrations": number(demonstration, demonstration.c.prompt.in_(own)),
        "tasks": number(task, task.c.project == project),
        "judgments": number(judgment, judgment.c.project == project),
    }
