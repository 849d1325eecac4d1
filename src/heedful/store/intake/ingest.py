"""Files' contents into a project: prompts, responses, demonstrations, questions, and what others have judged before.

Everything is kept once, by its content, so importing the same again adds nothing. Writing goes in short
transactions, so that raters who work meanwhile do not wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, func, select
from sqlalchemy.exc import IntegrityError

from heedful.errors import UserError
from heedful.store.database.bulk import Overtaken, rarely_collecting, renew_statistics
from heedful.store.database.db import Store
from heedful.store.database.log import copied_beside
from heedful.store.kinds import SCREEN, kind_of
from heedful.store.kinds.kind import grouped
from heedful.store.project import content, screens
from heedful.store.project.content import Origin
from heedful.store.project.projects import settings_of
from heedful.store.tables.schema import (
    completion,
    demonstration,
    judgment,
    prompt,
    task,
)
from heedful.types import Demonstration, Prompt

MAX_OVERLAP = 1000
BATCH = 1000  # items a transaction
TRIES = 5  # of a transaction
T = TypeVar("T")
Response = tuple[str, dict[str, Any]]  # a text and its origin
Tick = Callable[[int], None]


@dataclass(frozen=True)
class TaskSpec:
    """The tasks to make of imported data; none unless `kind` is given."""

    kind: str | None = None  # or SCREEN
    overlap: int = 1
    options: dict[str, Any] | None = (
        None  # of a screen by default the questions of the project's settings
    )
    together: bool = False  # all responses of a prompt side by side, where each could stand alone

    def __post_init__(self) -> None:
        if self.kind is None:
            return
        if self.kind != SCREEN:
            kind_of(self.kind)
        if not 1 <= self.overlap <= MAX_OVERLAP:
            raise UserError(f"the overlap must be 1 to {MAX_OVERLAP}, not {self.overlap}")
        if self.kind != SCREEN or self.options:
            screens.check_options(self.kind, self.options or {})

    def of(self, store: Store, project: str) -> TaskSpec:
        """With the project's own questions, where a screen has none yet."""
        if self.kind != SCREEN or self.options:
            return self
        questions = store.in_read(lambda connection: settings_of(connection, project)).questions
        if not questions:
            raise UserError(
                "this project has no questions of its own yet: say on its page under Screen what raters are asked"
            )
        return replace(self, options={"questions": [*questions]})

    @property
    def is_known(self) -> bool:
        """Whether there are tasks of which is known what they ask: not where that stands in the project's settings."""
        return self.kind is not None and (self.kind != SCREEN or bool(self.options))

    def shown(self, responses: Sequence[str]) -> Iterator[Sequence[str]]:
        """Which of a prompt's different responses stand together in a task."""
        if not self.kind:
            return iter(())
        anchored = screens.anchored(self.kind, self.options or {})
        return grouped(self.limits, responses, together=self.together, anchored=anchored)

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the most responses that are shown."""
        assert self.kind
        return screens.limits(self.kind, self.options or {})


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
    tasks = tasks.of(store, project)
    refuse_responses(tasks)

    def add(connection: Connection, batch: Sequence[tuple[Prompt, Origin]]) -> None:
        keys = content.add_prompts(connection, project, batch)
        if tasks.kind:
            asks = [one for key in keys for one in _asks(tasks, key)]
            content.add_tasks(connection, project, asks)

    return add_all(store, project, items, add, tick)


def demonstrations(
    store: Store,
    project: str,
    items: Sequence[Demonstration],
    *,
    origin: Origin = UNKNOWN_ORIGIN,
    tick: Tick | None = None,
) -> dict[str, int]:
    """Responses worth imitating."""

    def add(connection: Connection, batch: Sequence[Demonstration]) -> None:
        keys = content.add_prompts(connection, project, [(d.prompt, origin) for d in batch])
        rows = [
            {"prompt": key, "text": d.completion, "source": origin.source}
            for key, d in zip(keys, batch, strict=True)
        ]
        content.add_demonstrations(connection, rows)

    return add_all(store, project, items, add, tick)


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

    `kinds.kind.grouped` says which tasks they make, from a prompt's different texts.
    """
    tasks = tasks.of(store, project)
    groups: dict[Prompt, list[Response]] = {}
    for value, text, fields in items:
        groups.setdefault(value, []).append((text, fields))
    refuse_unasked(tasks, ([text for text, _ in rows] for rows in groups.values()))

    def add(connection: Connection, batch: Sequence[tuple[Prompt, list[Response]]]) -> None:
        keys = content.add_prompts(connection, project, [(value, origin) for value, _ in batch])
        rows = [(key, *row) for key, (_, rows) in zip(keys, batch, strict=True) for row in rows]
        shown: dict[str, dict[str, str]] = {key: {} for key in keys}  # different texts → ids
        for (key, text, _), made in zip(
            rows, content.add_completions(connection, rows), strict=True
        ):
            if text.strip():
                shown[key].setdefault(text, made)
        asks = [
            one
            for key, texts in shown.items()
            for completions in tasks.shown(list(texts.values()))
            for one in _asks(tasks, key, completions)
        ]
        content.add_tasks(connection, project, asks)

    return add_all(store, project, list(groups.items()), add, tick)


def refuse_unasked(tasks: TaskSpec, responses: Iterable[Iterable[str]]) -> None:
    """`UserError` where the tasks could not show a prompt's responses; `responses` are those of each prompt."""
    if not tasks.is_known:
        return
    most = tasks.limits[1]
    if not most:
        raise UserError(f"tasks of the kind {tasks.kind} show no responses")
    largest = 0
    for texts in map(set, responses):
        largest = max(largest, len(texts))
    if 0 < largest < tasks.limits[0]:
        raise UserError(
            f"no prompt has more than {largest} different response{'s' * (largest > 1)}; a task of the kind "
            f"{tasks.kind} shows at least {tasks.limits[0]}"
        )
    if len(next(tasks.shown([""] * largest), ())) > most:
        raise UserError(
            f"a prompt has {largest} different responses; a task of the kind {tasks.kind} shows at "
            f"most {most}"
        )


def refuse_responses(tasks: TaskSpec) -> None:
    """`UserError` where tasks of prompts alone were to show responses."""
    if tasks.is_known and tasks.limits[0]:
        raise UserError(f"tasks of the kind {tasks.kind} show responses, and prompts have none")


def _asks(spec: TaskSpec, prompt: str, completions: Sequence[str] = ()) -> Iterator[content.Ask]:
    """One question, or one for each entry of the option that is asked apart."""
    assert spec.kind
    options, apart = spec.options or {}, spec.kind != SCREEN and kind_of(spec.kind).apart
    how = {"overlap": spec.overlap, "strategy": "import"}
    for one in [{apart: [value]} for value in options[apart]] if apart else [{}]:
        yield content.Ask(spec.kind, prompt, list(completions), {**options, **one}, **how)


@rarely_collecting()
def add_all(
    store: Store,
    project: str,
    items: Sequence[T],
    add: Callable[[Connection, Sequence[T]], None],
    tick: Tick | None,
) -> dict[str, int]:
    """Add the items in batches; returns how many rows of each table are new.

    `add` adds what is not there: a batch whose commit was not confirmed is written again.
    """

    def count(connection: Connection) -> dict[str, int]:
        return _counts(connection, project)

    counts_before, done, remaining = store.in_read(count), 0, iter(items)
    many = len(items) > BATCH
    with copied_beside(store) if many else nullcontext(lambda: None) as copy_log:
        while batch := list(islice(remaining, BATCH)):
            _add_batch(store, add, batch, leaves_log=many)
            copy_log()
            done += len(batch)
            if tick:
                tick(done)
    if done >= BATCH and store.dialect == "postgresql":
        store.in_write(renew_statistics)
    counts_after = store.in_read(count)
    return {"items": done} | {
        name: counts_after[name] - counts_before[name] for name in counts_after
    }


def _add_batch(
    store: Store,
    add: Callable[[Connection, Sequence[T]], None],
    batch: Sequence[T],
    *,
    leaves_log: bool,
) -> None:
    for tries_left in reversed(range(TRIES)):
        try:
            return store.in_write(lambda c: add(c, batch), leaves_log=leaves_log)
        except (Overtaken, IntegrityError):  # others write as well, on PostgreSQL at the same time
            if not tries_left:
                raise
    return None


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
