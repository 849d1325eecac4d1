"""Answers for statistics: who preferred which response, read in bulk, the newest first.

The lead's pages must be fast with a million judgments too. What can be counted is counted in SQL (store.reports);
statistics that need each answer use the newest ones, and say how many these are.
Only an answer's latest revision counts, no answer beyond the overlap that was asked for, and none that was taken back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Row, Select, exists, func, select

from heedful.store.database.bulk import batches
from heedful.store.kinds import Measure, measure_of
from heedful.store.project import gold
from heedful.store.project.consent import took_back
from heedful.store.project.records import corrected, grouped
from heedful.store.project.screens import compared_by
from heedful.store.tables.schema import (
    assignment,
    checkpoint,
    completion,
    gold_key,
    judgment,
    question_answer,
    ranking_item,
    rater,
    rule_flag,
    score,
    task,
    task_slot,
    trial,
)

ANSWERS = ("answer", "tie", "both_bad")
BATCH = 1000  # ids in one statement
NEWEST = 10_000  # answers that a statistic is made of
GOLD_EACH = 1_000  # gold answers of a rater
MAX_SHARED = 5_000  # tasks with two answers or more
WEEK = 7 * 86400.0


@dataclass(frozen=True)
class Answer:
    """One answer that counts."""

    judgment: str
    task: str
    rater: str
    person: bool  # not a judge
    kind: str
    outcome: str
    strength: float | None
    seconds: float | None
    created_at: float
    round: int
    gold: bool
    swap_of: str | None
    review: bool  # beyond the task's own slots: somebody looked again
    completions: list[str]  # in the task's order, which no rater sees
    order_shown: list[int]  # how they were shown, as indices into `completions`
    prompt: str = ""
    question: str = ""  # of a screen; empty where the task asks one alone
    compares: bool = (
        True  # it is the question that is the task's comparison: a screen's first that ranks
    )
    ranks: dict[str, int] = field(default_factory=dict)
    scores: dict[tuple[str, str], float] = field(default_factory=dict)  # completion, axis
    rules: dict[tuple[str, str], bool] = field(default_factory=dict)  # completion, rule

    @property
    def measure(self) -> Measure | None:
        """How answers of this kind are compared."""
        return measure_of(self.kind)

    @property
    def prefers(self) -> bool:
        """Whether it says which response is better."""
        return self.measure is not None and self.measure.of == "ranks"

    @property
    def regular(self) -> bool:
        """Neither a gold question, nor a repetition, nor a review."""
        return not (self.gold or self.swap_of or self.review)

    @property
    def place(self) -> int | None:
        """Of a pair: the place on the screen of the preferred response; None for a tie."""
        if len(self.ranks) != 2 or len(set(self.ranks.values())) == 1:
            return None
        best = min(self.ranks, key=lambda c: self.ranks[c])
        return self.order_shown.index(self.completions.index(best))


def valid(table: Any = judgment) -> tuple[Any, ...]:
    """Conditions on a judgment: it counts, in whatever is said of answers as a whole."""
    given = table.c.outcome.in_(ANSWERS), table.c.disposition != "surplus", ~corrected(table)
    return *given, ~took_back(table)


def newest(
    connection: Connection,
    project: str,
    *,
    limit: int | None = NEWEST,
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


def newest_gold(connection: Connection, project: str, *, per_rater: int) -> list[str]:
    """Ids of each rater's newest answers to gold questions among their work."""
    j = judgment.c
    place = func.row_number().over(partition_by=j.rater, order_by=j.created_at.desc())
    before = exists().where(trial.c.assignment == j.assignment)  # training, qualification
    ranked = (
        select(j.id, place.label("place"))
        .join(task, task.c.id == j.task)
        .where(task.c.project == project, task.c.is_gold.is_(True), *valid(), ~before)
        .subquery()
    )
    return list(
        connection.execute(select(ranked.c.id).where(ranked.c.place <= per_rater)).scalars()
    )


def compared(connection: Connection, project: str, rater_id: str | None = None) -> dict[str, int]:
    """How many questions each rater has compared or ranked responses to, gold left out, by pseudonym; or one rater."""
    j, t = judgment.c, task.c
    ranked = exists().where(ranking_item.c.judgment == j.id)
    new = (ranked, t.is_gold.is_(False), t.swap_of.is_(None))
    query = select(rater.c.pseudonym, func.count(j.task.distinct())).join(
        rater, rater.c.id == j.rater
    )
    query = query.join(task, t.id == j.task).where(j.project == project, *valid(), *new)
    if rater_id is not None:
        query = query.where(j.rater == rater_id)
    rows = connection.execute(query.group_by(rater.c.pseudonym))
    return {row[0]: row[1] for row in rows}


def judged(connection: Connection, project: str) -> set[str]:
    """What somebody has said in a project: "ranks", "scores", "rules"."""
    parts = {"ranks": ranking_item, "scores": score, "rules": rule_flag}
    return {
        name
        for name, part in parts.items()
        if connection.execute(
            select(judgment.c.id)
            .where(judgment.c.project == project, exists().where(part.c.judgment == judgment.c.id))
            .limit(1)
        ).first()
    }


def gold_keys(connection: Connection, tasks: Collection[str]) -> dict[str, gold.Key]:
    """What is known of the answers to gold questions; never for raters' eyes."""
    keys: dict[str, gold.Key] = {}
    for part in batches(list(tasks), BATCH):
        query = select(task.c.id, task.c.kind, task.c.options, gold_key.c.answer)
        query = query.join(gold_key, gold_key.c.task == task.c.id).where(task.c.id.in_(part))
        for row in connection.execute(query):
            keys[row.id] = gold.read(row.kind, row.options, row.answer)
    return keys


def right(answers: Iterable[Answer], keys: Mapping[str, gold.Key]) -> dict[str, bool]:
    """Of judgments of gold questions, of which all answers are here, whether they say what is known; `keys` by task."""
    said: dict[str, dict[str, Answer]] = defaultdict(dict)
    for answer in answers:
        said[answer.judgment][answer.question] = answer
    return {key: gold.right(of, keys[next(iter(of.values())).task]) for key, of in said.items()}


def known(
    connection: Connection, answers: Sequence[Answer]
) -> tuple[dict[str, gold.Key], dict[str, bool]]:
    """Of the gold questions among these answers: the keys by task, and by judgment whether it is right."""
    of_gold = [a for a in answers if a.gold]
    keys = gold_keys(connection, {a.task for a in of_gold})
    return keys, right(of_gold, keys)


def gold_shares(connection: Connection, project: str) -> dict[str, tuple[int, int]]:
    """(right, of how many) gold questions among their work, by pseudonym, of each rater's newest `GOLD_EACH`."""
    answers = load(connection, newest_gold(connection, project, per_rater=GOLD_EACH))
    _, correct = known(connection, answers)
    names = {r.id: r.pseudonym for r in connection.execute(select(rater.c.id, rater.c.pseudonym))}
    shares: dict[str, tuple[int, int]] = {}
    for said in by_judgment(answers).values():
        count, n = shares.get(names[said.rater], (0, 0))
        shares[names[said.rater]] = count + correct[said.judgment], n + 1
    return shares


def swapped(connection: Connection, project: str, *, limit: int) -> list[tuple[str, str]]:
    """(first answer, answer to the same pair the other way round) of one rater each, the newest repetitions."""
    first, repeat, t = judgment.alias(), judgment.alias(), task.alias()
    # Ids sort by time; those of the first tasks are in an index.
    tasks = select(t.c.id, t.c.swap_of).where(t.c.project == project, t.c.swap_of.is_not(None))
    recent = tasks.order_by(t.c.swap_of.desc()).limit(limit).subquery()
    query = (
        select(first.c.id, repeat.c.id)
        .select_from(recent)
        .join(repeat, repeat.c.task == recent.c.id)
        .join(first, (first.c.task == recent.c.swap_of) & (first.c.rater == repeat.c.rater))
        .where(*valid(first), *valid(repeat))
    )
    return [(row[0], row[1]) for row in connection.execute(query)]


def shared(connection: Connection, project: str, *, limit: int = MAX_SHARED) -> list[str]:
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
        .limit(limit)
    )
    return of_tasks(connection, list(connection.execute(several).scalars()))


def of_tasks(connection: Connection, tasks: Collection[str]) -> list[str]:
    """Ids of all answers to these tasks."""
    ids: list[str] = []
    for part in batches(list(tasks), BATCH):
        ids += connection.execute(
            select(judgment.c.id).where(judgment.c.task.in_(part), *valid())
        ).scalars()
    return ids


def by_week(
    connection: Connection, project: str, end: float, *, weeks: int, per_week: int
) -> list[str]:
    """Ids of the newest answers of each of the last weeks, counted back from `at`."""
    ids: list[str] = []
    for k in range(weeks):
        after, before = end - (k + 1) * WEEK, end - k * WEEK + (k == 0)
        ids += newest(connection, project, limit=per_week, after=after, before=before)
    return ids


def by_judgment(answers: Iterable[Answer]) -> dict[str, Answer]:
    """Of each judgment the answer to the question that is its comparison, or else to its first."""
    chosen: dict[str, Answer] = {}
    for answer in answers:
        first = chosen.setdefault(answer.judgment, answer)
        if answer.compares and not first.compares:
            chosen[answer.judgment] = answer
    return chosen


def load(connection: Connection, ids: Sequence[str]) -> list[Answer]:
    """These answers, in no particular order; of a screen one for each question that was answered, in their order."""
    j, a, t = judgment.c, assignment.c, task.c
    facts = (
        select(
            j.id, j.task, j.rater, j.outcome, j.strength, j.active_ms, j.created_at,
            a.slot, a.order_shown, rater.c.role,
            t.prompt, t.kind, t.options, t.round, t.is_gold, t.swap_of, t.overlap, t.completions, task_slot.c.added,
        )
        .join(assignment, a.id == j.assignment)
        .join(task, t.id == j.task)
        .join(rater, rater.c.id == j.rater)
        .join(task_slot, (task_slot.c.task == a.task) & (task_slot.c.slot == a.slot))
    )  # fmt: skip
    answers: list[Answer] = []
    for part in batches(ids, BATCH):
        by_id: dict[tuple[str, str], Answer] = {}  # judgment, question
        several = _several(connection, part)
        for r in connection.execute(facts.where(j.id.in_(part))):
            has_overlap = not r.is_gold and r.swap_of is None
            alone = Answer(
                judgment=r.id,
                task=r.task,
                rater=r.rater,
                person=r.role != "judge",
                kind=r.kind,
                outcome=r.outcome,
                strength=r.strength,
                seconds=None if r.active_ms is None else r.active_ms / 1000,
                created_at=r.created_at,
                round=r.round,
                gold=r.is_gold,
                swap_of=r.swap_of,
                review=has_overlap and r.slot >= r.overlap and not r.added,
                completions=r.completions,
                order_shown=r.order_shown,
                prompt=r.prompt,
            )
            if r.id not in several:
                by_id[r.id, ""] = alone
            for said in several.get(r.id, ()):
                compares = said.question == compared_by(r.kind, r.options)
                by_id[r.id, said.question] = _of_screen(alone, said, compares)
        compared = {s.measure.of for s in by_id.values() if s.measure}
        c = ranking_item.c
        query = select(c.judgment, c.question, c.completion, c.rank)
        for key, question, completion_id, rank in _children(connection, query, part):
            by_id[key, question].ranks[completion_id] = rank
        if "scores" in compared:
            c = score.c
            query = select(c.judgment, c.question, c.completion, c.axis, c.value)
            for key, question, completion_id, axis, value in _children(connection, query, part):
                by_id[key, question].scores[completion_id, axis] = value
        if "rules" in compared:
            c = rule_flag.c
            query = select(c.judgment, c.question, c.completion, c.rule, c.verdict)
            for key, question, completion_id, rule, verdict in _children(connection, query, part):
                by_id[key, question].rules[completion_id, rule] = verdict
        answers += by_id.values()
    return answers


def _several(connection: Connection, ids: Sequence[str]) -> dict[str, list[Row]]:
    """What was answered to the questions of screens, by judgment."""
    q = question_answer.c
    query = select(q.judgment, q.question, q.kind, q.outcome, q.strength)
    ordered = query.where(q.judgment.in_(ids)).order_by(q.judgment, q.place)
    return grouped(connection.execute(ordered).all(), "judgment")


def _of_screen(alone: Answer, said: Row, compares: bool) -> Answer:
    """The answer to one question, as if it had been asked alone."""
    values = {name: getattr(said, name) for name in ("question", "kind", "outcome", "strength")}
    return replace(alone, **values, compares=compares, ranks={}, scores={}, rules={})


def lengths(connection: Connection, completions: Sequence[str]) -> dict[str, int]:
    """Characters of each response."""
    c, by_id = completion.c, {}
    for part in batches(completions, BATCH):
        query = select(c.id, func.length(c.text)).where(c.id.in_(part))
        by_id.update({key: int(n) for key, n in connection.execute(query)})
    return by_id


def origins(connection: Connection, completions: Sequence[str]) -> dict[str, str | None]:
    """Who wrote each response: the name of a model, a checkpoint's path; None for people."""
    c, by_id = completion.c, {}
    for part in batches(completions, BATCH):
        query = select(c.id, func.coalesce(c.model, checkpoint.c.path))
        query = query.outerjoin(checkpoint, checkpoint.c.id == c.checkpoint)
        by_id.update({row[0]: row[1] for row in connection.execute(query.where(c.id.in_(part)))})
    return by_id


def _children(connection: Connection, query: Select, ids: Sequence[str]) -> Iterator[Any]:
    column = query.selected_columns.judgment
    return iter(connection.execute(query.where(column.in_(ids))))
