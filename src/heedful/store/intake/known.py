"""Gold questions of any kind out of a file: what is asked of some responses, and what the answer is known to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from heedful.errors import UserError
from heedful.store.database.db import Store
from heedful.store.intake.imported import responses
from heedful.store.intake.ingest import UNKNOWN_ORIGIN, Origin, TaskSpec, Tick, add_all
from heedful.store.project import content, gold
from heedful.store.rating import trials
from heedful.types import Prompt


@dataclass(frozen=True)
class Gold:
    """A question whose answer is known, as a page would send it with the responses in this order; see `gold.key_of`."""

    where: str  # it stands
    prompt: Prompt
    texts: tuple[str, ...]
    answer: Mapping[str, Any]
    within: float = 0.0  # a score is right as near as this
    explanation: str | None = None
    model: str | None = None


def questions(
    store: Store,
    project: str,
    items: Sequence[Gold],
    *,
    tasks: TaskSpec,
    origin: Origin = UNKNOWN_ORIGIN,
    tick: Tick | None = None,
) -> dict[str, int]:
    """Keep them as gold questions, after all have been checked; those that are there keep the answer that they have."""
    spec = tasks.of(store, project)
    refuse_unfit(spec, items)

    def add(connection: Connection, batch: Sequence[Gold]) -> None:
        told = content.add_new_prompts(connection, project, [(g.prompt, origin) for g in batch])
        prompts, new = [key for key, _ in told], {key for key, is_new in told if is_new}
        ids = responses(connection, prompts, batch, new)
        asks = [_ask(spec, p, of, g) for p, of, g in zip(prompts, ids, batch, strict=True)]
        why = zip(content.add_tasks(connection, project, asks), batch, strict=True)
        trials.explain(connection, [(k, g.explanation) for (k, _), g in why if g.explanation])

    return add_all(store, project, items, add, tick)


def refuse_unfit(spec: TaskSpec, items: Sequence[Gold]) -> None:
    """`UserError` where an answer is none to what is asked; nothing where that stands in the project's settings."""
    if not spec.is_known:
        return
    for item in items:
        try:
            _ask(spec, "", item.texts, item)
        except UserError as error:
            raise UserError(f"{item.where}: {error}") from None


def _ask(spec: TaskSpec, prompt: str, completions: Sequence[str], item: Gold) -> content.Ask:
    assert spec.kind
    options = spec.options or {}
    key = gold.key_of(spec.kind, options, completions, item.answer, item.within)
    how = {"options": options, "strategy": "import", "gold": key}
    return content.Ask(spec.kind, prompt, completions, **how)
