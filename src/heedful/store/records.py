"""Judgments with all their parts and what the rater was shown, read in batches for exports and webhooks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Exists, Row, Table, exists, select

from heedful.store.schema import (
    assignment,
    completion,
    critique,
    demonstration,
    edit,
    judgment,
    offer,
    prompt,
    ranking_item,
    rater,
    rule_flag,
    score,
    task,
    turn,
)

BATCH = 200
CHILDREN = (ranking_item, score, rule_flag, critique, edit)


@dataclass(frozen=True)
class JudgmentRecord:
    """One revision of an answer."""

    judgment: Row
    task: Row
    prompt: Row
    rater: Row
    order_shown: list[int]
    guidelines: str | None  # the version that was shown beside it
    texts: dict[str, Row]  # completions by id: those shown, and an edited one
    children: dict[str, list[Row]]  # by table: ranking_item, score, rule_flag, critique, edit
    demonstrations: list[Row]  # written in the judgment
    turns: list[Row]  # of the conversation, each an offer with `chosen` and `turn_strength`

    @property
    def ranks(self) -> dict[str, int]:
        """Rank by completion id, the best first; those that were not ranked are not there."""
        items = sorted(self.children["ranking_item"], key=lambda r: (r.rank, r.place))
        return {r.completion: r.rank for r in items}


def load(connection: Connection, ids: Sequence[str]) -> list[JudgmentRecord]:
    """These judgments, in this order; call it with about `BATCH` ids at a time."""
    judgments = _by_id(connection, judgment, ids)
    tasks = _by_id(connection, task, {j.task for j in judgments.values()})
    prompts = _by_id(connection, prompt, {t.prompt for t in tasks.values()})
    raters = _by_id(connection, rater, {j.rater for j in judgments.values()})
    assignments = _by_id(connection, assignment, {j.assignment for j in judgments.values()})
    children = {
        table.name: _grouped(connection, table, table.c.judgment, ids, table.c.place)
        for table in CHILDREN
    }
    edited = {r.edited for rows in children["edit"].values() for r in rows}
    completion_ids = {c for t in tasks.values() for c in t.completions}
    texts = _by_id(connection, completion, completion_ids | edited)
    d = demonstration.c
    demonstrations = _grouped(connection, demonstration, d.judgment, ids, d.id)
    turns = _turns(connection, [j.assignment for j in judgments.values()])
    loaded = []
    for key in ids:
        parts = {name: rows.get(key, []) for name, rows in children.items()}
        task_row = tasks[judgments[key].task]
        needed = [*task_row.completions, *(r.edited for r in parts["edit"])]
        loaded.append(
            JudgmentRecord(
                judgment=judgments[key],
                task=task_row,
                prompt=prompts[task_row.prompt],
                rater=raters[judgments[key].rater],
                order_shown=assignments[judgments[key].assignment].order_shown,
                guidelines=assignments[judgments[key].assignment].guideline_version,
                texts={c: texts[c] for c in needed},
                children=parts,
                demonstrations=demonstrations.get(key, []),
                turns=turns.get(judgments[key].assignment, []),
            )
        )
    return loaded


def batches(ids: Sequence[str], size: int = BATCH) -> Iterator[Sequence[str]]:
    return (ids[i : i + size] for i in range(0, len(ids), size))


def corrected(table: Any = judgment) -> Exists:
    """A later revision has taken the judgment's place."""
    newer = judgment.alias()
    return exists().where(newer.c.supersedes == table.c.id)


def texts(connection: Connection, completions: Sequence[str]) -> dict[str, str]:
    """The responses' texts by id."""
    c, by_id = completion.c, dict[str, str]()
    for part in batches(completions):
        rows = connection.execute(select(c.id, c.text).where(c.id.in_(part)))
        by_id.update((row.id, row.text) for row in rows)
    return by_id


def _by_id(connection: Connection, table: Table, ids: Iterable[str]) -> dict[str, Row]:
    rows = connection.execute(select(table).where(table.c.id.in_(list(ids))))
    return {row.id: row for row in rows}


def _grouped(
    connection: Connection, table: Table, owner: Column, ids: Sequence[str], order: Column
) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in connection.execute(select(table).where(owner.in_(list(ids))).order_by(order)):
        groups[row._mapping[owner.name]].append(row)
    return groups


def _turns(connection: Connection, assignments: Sequence[str]) -> dict[str, list[Row]]:
    by_assignment: dict[str, list[Any]] = defaultdict(list)
    rows = connection.execute(
        select(offer, turn.c.chosen, turn.c.strength.label("turn_strength"))
        .join(turn, turn.c.offer == offer.c.id)
        .where(offer.c.assignment.in_(list(assignments)))
        .order_by(offer.c.assignment, offer.c.place)
    )
    for row in rows:
        by_assignment[row.assignment].append(row)
    return by_assignment
