"""Answers as statistics want them: who preferred what, read in bulk, the newest first.

Whoever leads the raters wants numbers at once, also from a million judgments. What can be counted is counted in
SQL (store.reports); what needs every single answer is read from the newest ones, and the numbers say of how many.
Only an answer's latest revision counts, and no answer beyond the overlap that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, func, select

from heedful.store.kinds import Measure, measure_of
from heedful.store.records import batches, corrected
from heedful.store.schema import (
    assignment,
    checkpoint,
    completion,
    gold_key,
    judgment,
    ranking_item,
    rater,
    rule_flag,
    score,
    task,
)

ANSWERS = ("answer", "tie", "both_bad")
BATCH = 1000  # ids in one statement
NEWEST = 10_000  # answers that a statistic is made of
MOST_SHARED = 5_000  # tasks with two answers or more
WEEK = 7 * 86400.0


@dataclass(frozen=True)
class Said:
    """One answer that counts."""

    judgment: str
    task: str
    rater: str
    person: bool  # not a judge
    kind: str
    outcome: str
    strength: float | None
    seconds: float | None
    at: float
    round: int
    gold: bool
    swap_of: str | None
    review: bool  # beyond the task's own slots: somebody looked again
    completions: list[str]  # in the task's order, which no rater sees
    order: list[int]  # how they were shown, as indices into `completions`
    ranks: dict[str, int] = field(default_factory=dict)
    scores: dict[tuple[str, str], float] = field(default_factory=dict)  # completion, axis
    rules: dict[tuple[str, str], bool] = field(default_factory=dict)  # completion, rule

    @property
    def measure(self) -> Measure | None:
        """How answers of this kind are compared."""
        return measure_of(self.kind)

    @property
    def own(self) -> bool:
        """Asked for its own sake: no gold question, no repetition, no review."""
        return not (self.gold or self.swap_of or self.review)

    @property
    def place(self) -> int | None:
        """Of a pair: the place on the screen of the preferred response; None for a tie."""
        if len(self.ranks) != 2 or len(set(self.ranks.values())) == 1:
            return None
        best = min(self.ranks, key=lambda c: self.ranks[c])
        return self.order.index(self.completions.index(best))


def valid(table: Any = judgment) -> tuple[Any, ...]:
    """Conditions on a judgment: it counts."""
    return table.c.outcome.in_(ANSWERS), table.c.disposition != "surplus", ~corrected(table)


def newest(
    connection: Connection,
    project: str,
    *,
    limit: int = NEWEST,
    rater_id: str | None = None,
    after: float = 0.0,
    before: float | None = None,
) -> list[str]:
    """Ids of the newest answers in a project, or of one rater, or of a stretch of time."""
    j = judgment.c
    query = select(j.id).where(j.project == project, j.created_at >= after, *valid())
    if before is not None:
        query = query.where(j.created_at < before)
    if rater_id is not None:
        query = query.where(j.rater == rater_id)
    return list(connection.execute(query.order_by(j.created_at.desc()).limit(limit)).scalars())


def newest_gold(connection: Connection, project: str, *, each: int) -> list[str]:
    """Ids of each rater's newest answers to gold questions."""
    j = judgment.c
    place = func.row_number().over(partition_by=j.rater, order_by=j.created_at.desc())
    ranked = (
        select(j.id, place.label("place"))
        .join(task, task.c.id == j.task)
        .where(task.c.project == project, task.c.is_gold.is_(True), *valid())
        .subquery()
    )
    return list(connection.execute(select(ranked.c.id).where(ranked.c.place <= each)).scalars())


def gold_answers(connection: Connection, tasks: Sequence[str]) -> dict[str, dict[str, int]]:
    """The ranks by completion that gold questions ought to get; never for raters' eyes."""
    found: dict[str, dict[str, int]] = {}
    for part in batches(tasks, BATCH):
        query = select(gold_key.c.task, gold_key.c.answer).where(gold_key.c.task.in_(part))
        found.update({key: answer["ranks"] for key, answer in connection.execute(query)})
    return found


def swapped(connection: Connection, project: str, *, most: int) -> list[tuple[str, str]]:
    """(first answer, answer to the same pair the other way round) of one rater each, the newest repetitions."""
    first, again, t = judgment.alias(), judgment.alias(), task.alias()
    # Ids sort by time; those of the first tasks are in an index.
    tasks = select(t.c.id, t.c.swap_of).where(t.c.project == project, t.c.swap_of.is_not(None))
    recent = tasks.order_by(t.c.swap_of.desc()).limit(most).subquery()
    query = (
        select(first.c.id, again.c.id)
        .select_from(recent)
        .join(again, again.c.task == recent.c.id)
        .join(first, (first.c.task == recent.c.swap_of) & (first.c.rater == again.c.rater))
        .where(*valid(first), *valid(again))
    )
    return [(row[0], row[1]) for row in connection.execute(query)]


def shared(connection: Connection, project: str, *, most: int = MOST_SHARED) -> list[str]:
    """Ids of the answers to the newest tasks that two or more have answered, gold and repetitions left out."""
    j = judgment.c
    recent = select(j.task, j.created_at).where(j.project == project, *valid())
    recent = recent.order_by(j.created_at.desc()).limit(NEWEST).subquery()
    tasks = (
        select(recent.c.task, func.max(recent.c.created_at).label("at"))
        .join(task, task.c.id == recent.c.task)
        .where(task.c.is_gold.is_(False), task.c.swap_of.is_(None))
        .group_by(recent.c.task)
        .subquery()
    )
    several = (
        select(tasks.c.task)
        .join(judgment, j.task == tasks.c.task)
        .where(*valid())
        .group_by(tasks.c.task, tasks.c.at)
        .having(func.count() > 1)
        .order_by(tasks.c.at.desc(), tasks.c.task)
        .limit(most)
    )
    found: list[str] = []
    for part in batches(list(connection.execute(several).scalars()), BATCH):
        found += connection.execute(select(j.id).where(j.task.in_(part), *valid())).scalars()
    return found


def by_week(connection: Connection, project: str, at: float, *, weeks: int, each: int) -> list[str]:
    """Ids of the newest answers of each of the last weeks, counted back from `at`."""
    found: list[str] = []
    for k in range(weeks):
        after, before = at - (k + 1) * WEEK, at - k * WEEK + (k == 0)
        found += newest(connection, project, limit=each, after=after, before=before)
    return found


def load(connection: Connection, ids: Sequence[str]) -> list[Said]:
    """These answers, in no certain order."""
    j, a, t = judgment.c, assignment.c, task.c
    facts = (
        select(
            j.id, j.task, j.rater, j.outcome, j.strength, j.active_ms, j.created_at,
            a.slot, a.order_shown, rater.c.role,
            t.kind, t.round, t.is_gold, t.swap_of, t.overlap, t.completions,
        )
        .join(assignment, a.id == j.assignment)
        .join(task, t.id == j.task)
        .join(rater, rater.c.id == j.rater)
    )  # fmt: skip
    found: list[Said] = []
    for part in batches(ids, BATCH):
        own: dict[str, Said] = {}
        for r in connection.execute(facts.where(j.id.in_(part))):
            fixed = not r.is_gold and r.swap_of is None
            own[r.id] = Said(
                judgment=r.id,
                task=r.task,
                rater=r.rater,
                person=r.role != "judge",
                kind=r.kind,
                outcome=r.outcome,
                strength=r.strength,
                seconds=None if r.active_ms is None else r.active_ms / 1000,
                at=r.created_at,
                round=r.round,
                gold=r.is_gold,
                swap_of=r.swap_of,
                review=fixed and r.slot >= r.overlap,
                completions=r.completions,
                order=r.order_shown,
            )
        compared = {s.measure.of for s in own.values() if s.measure}
        c = ranking_item.c
        for key, what, rank in _children(
            connection, select(c.judgment, c.completion, c.rank), part
        ):
            own[key].ranks[what] = rank
        if "scores" in compared:
            c = score.c
            query = select(c.judgment, c.completion, c.axis, c.value)
            for key, what, axis, value in _children(connection, query, part):
                own[key].scores[what, axis] = value
        if "rules" in compared:
            c = rule_flag.c
            query = select(c.judgment, c.completion, c.rule, c.verdict)
            for key, what, rule, verdict in _children(connection, query, part):
                own[key].rules[what, rule] = verdict
        found += own.values()
    return found


def lengths(connection: Connection, completions: Sequence[str]) -> dict[str, int]:
    """Characters of each response."""
    c, found = completion.c, {}
    for part in batches(completions, BATCH):
        query = select(c.id, func.length(c.text)).where(c.id.in_(part))
        found.update({key: int(n) for key, n in connection.execute(query)})
    return found


def origins(connection: Connection, completions: Sequence[str]) -> dict[str, str | None]:
    """Who wrote each response: the name of a model, a checkpoint's path; None for people."""
    c, found = completion.c, {}
    for part in batches(completions, BATCH):
        query = select(c.id, func.coalesce(c.model, checkpoint.c.path))
        query = query.outerjoin(checkpoint, checkpoint.c.id == c.checkpoint)
        found.update({row[0]: row[1] for row in connection.execute(query.where(c.id.in_(part)))})
    return found


def _children(connection: Connection, query: Select, ids: Sequence[str]) -> Iterator[Any]:
    column = query.selected_columns.judgment
    return iter(connection.execute(query.where(column.in_(ids))))
