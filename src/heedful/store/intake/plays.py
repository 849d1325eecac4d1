"""An environment's tasks as questions that people play, and two plays of one task as a question of which is better."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, select

from heedful.errors import UserError
from heedful.store.database.bulk import insert_all
from heedful.store.database.db import Store
from heedful.store.intake.ingest import MAX_OVERLAP, TaskSpec, add_all
from heedful.store.kinds import KINDS
from heedful.store.project import content
from heedful.store.rating.judging import PLAYED
from heedful.store.tables.asking import own_response
from heedful.store.tables.schema import completion, prompt

SOURCE = "environment"  # of prompts
(KIND,) = (kind for kind in KINDS.values() if kind.plays)
PAIR = next(kind for kind in KINDS.values() if kind.swaps)


def ask(
    store: Store,
    project: str,
    env: str,
    prompts: Sequence[Any],
    *,
    first: int = 1,
    overlap: int = 1,
    max_turns: int = 8,
    seed: int = 0,
) -> int:
    """Ask people to play these tasks of an environment, whose first has the number `first`; each as often as `overlap`
    says. Returns how many are new."""
    if not 1 <= overlap <= MAX_OVERLAP:
        raise UserError(f"the overlap must be 1 to {MAX_OVERLAP}, not {overlap}")
    origin = content.Origin(source=f"{SOURCE} {env}")

    def add(connection: Connection, batch: Sequence[tuple[int, Any]]) -> None:
        values = [(content.prompt_from_content(value), origin) for _, value in batch]
        keys = content.add_prompts(connection, project, values)
        options = [{"env": env, "task": n, "seed": seed, "max_turns": max_turns} for n, _ in batch]
        asks = [
            content.Ask(KIND.name, key, options=one, overlap=overlap, strategy=SOURCE)
            for key, one in zip(keys, options, strict=True)
        ]
        content.add_tasks(connection, project, asks)

    return add_all(store, project, list(enumerate(prompts, first)), add, None)["tasks"]


def compare(store: Store, project: str, *, overlap: int = 1) -> int:
    """Ask which is better, of each two different plays of one task, those who played neither; returns how many of these
    questions are new."""
    spec, c = TaskSpec(PAIR.name, overlap), completion.c
    query = select(c.prompt, c.id, c.text, c.author).join(prompt, prompt.c.id == c.prompt)
    query = query.where(prompt.c.project == project, c.engine == PLAYED).order_by(c.prompt, c.id)
    with store.read() as connection:
        played = [
            (key, _plays(rows))
            for key, rows in groupby(connection.execute(query).all(), lambda row: row.prompt)
        ]

    def add(connection: Connection, batch: Sequence[tuple[str, dict[str, list[str]]]]) -> None:
        asks, players = list[content.Ask](), list[set[str]]()
        for key, plays in batch:
            for pair in spec.shown(list(plays)):
                asks.append(
                    content.Ask(PAIR.name, key, pair, overlap=spec.overlap, strategy=SOURCE)
                )
                players.append({author for play in pair for author in plays[play]})
        told = content.add_tasks(connection, project, asks)
        own = [
            {"task": key, "rater": author}
            for (key, _), authors in zip(told, players, strict=True)
            for author in sorted(authors)
        ]
        insert_all(connection, own_response, own, skip_known=True)

    return add_all(store, project, played, add, None)["tasks"]


def _plays(rows: Iterable[Any]) -> dict[str, list[str]]:
    """By the first response with each text, who has played so."""
    by_text: dict[str, tuple[str, list[str]]] = {}
    for row in rows:
        by_text.setdefault(row.text, (row.id, []))[1].append(row.author)
    return dict(by_text.values())
