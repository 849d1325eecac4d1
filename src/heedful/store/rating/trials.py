"""Gold questions before the real work: a training round that explains each answer, then a qualification.

A project may ask both of each of its raters; who reviews or leads it is let in. The questions are gold questions that
the rater has not had. What they say is stored as any judgment is, marked by a row of `trial`, and is never a row for
training. A skip or a flag counts as wrong, or the hard ones would be skipped.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, Select, exists, func, select

from heedful.errors import UserError
from heedful.store.database import audit
from heedful.store.database.db import insert, now
from heedful.store.database.prepared import prepared
from heedful.store.kinds import UNANSWERED
from heedful.store.membership import rights
from heedful.store.project import gold
from heedful.store.project.content import task_of
from heedful.store.project.projects import Settings, settings_from, settings_of
from heedful.store.project.records import corrected
from heedful.store.project.screens import compared_by, questions_of
from heedful.store.tables.schema import (
    assignment,
    gold_explanation,
    gold_key,
    judgment,
    qualification,
    ranking_item,
    rater,
    rule_flag,
    score,
    task,
    trial,
)
from heedful.store.tables.schema import project as project_table

Stage = Literal["training", "qualification"]
Reason = Literal["not qualified", "no gold questions"]
ANSWERED = ("done", "skipped", "flagged")  # states of an assignment that has been answered
LET_IN = ("passed", "granted")
AMONG = 100  # gold questions that a qualification draws from


@dataclass(frozen=True)
class Due:
    """What comes before the real work: a question of a stage, a reason why there is none, or (neither) those that the
    rater has to answer first."""

    stage: Stage | None = None
    attempt: int = 1
    task: Row | None = None
    reason: Reason | None = None


def due(
    connection: Connection, project: str, person: Row, settings: Settings, rng: random.Random
) -> Due | None:
    """What a rater is asked before the real work; None where nothing is left of it. Within a write transaction."""
    if not _wanted(settings):
        return None
    has = rights.standing(connection, project, person.id, person.role)
    if has is None or has.may("reviewer"):
        return None
    state = _state(connection, project, person.id)
    if state is not None and state.state in LET_IN:
        return None
    if state is not None and state.state == "failed":
        return Due(reason="not qualified")
    stages: list[tuple[Stage, int, int]] = [
        ("training", 1, settings.training_questions),
        ("qualification", state.attempt if state else 1, settings.qualification_questions),
    ]
    for stage, number, wanted in stages:
        given = _given(connection, project, person.id, stage, number)
        answered = sum(row.state in ANSWERED for row in given)
        if answered >= wanted:
            continue
        if answered + sum(row.state == "active" for row in given) >= wanted:
            return Due()
        question = _question(connection, project, person.id, stage, rng)
        if question is None:
            return Due(reason="no gold questions")
        return Due(stage, number, question)
    state = decide(connection, project, person.id, settings)
    return Due(reason="not qualified") if state == "failed" else None


def begin(connection: Connection, project: str, rater_id: str, lease: str, question: Due) -> None:
    """The question has been leased under this assignment: mark it."""
    row = {"assignment": lease, "project": project, "rater": rater_id}
    connection.execute(trial.insert().values(**row, stage=question.stage, attempt=question.attempt))


def answered(connection: Connection, assignment_id: str) -> None:
    """A gold question has been answered; the last one of a qualification decides it."""
    row = connection.execute(select(trial).where(trial.c.assignment == assignment_id)).first()
    if row is not None:
        # Of a deleted project, too: what was on somebody's screen is kept.
        query = select(project_table.c.settings).where(project_table.c.id == row.project)
        settings = settings_from(connection.execute(query).scalar_one())
        decide(connection, row.project, row.rater, settings)


def decide(connection: Connection, project: str, rater_id: str, settings: Settings) -> str | None:
    """passed or failed, kept from then on whatever is corrected or set later; None while answers are missing."""
    state = _state(connection, project, rater_id)
    if state is not None and state.state != "asked":
        return state.state
    attempt = state.attempt if state else 1
    training = _answered(connection, project, rater_id, "training", 1)
    asked = _answered(connection, project, rater_id, "qualification", attempt)
    wanted = settings.qualification_questions
    if len(training) < settings.training_questions or len(asked) < wanted:
        return None
    counted = asked[:wanted]
    correct = sum(right_ones(connection, counted).values())
    verdict = "passed" if correct >= needed(settings) else "failed"
    values = {"attempt": attempt, "state": verdict, "correct": correct, "asked": wanted}
    _keep(connection, project, rater_id, values, None)
    return verdict


def needed(settings: Settings) -> int:
    """So many of a qualification's questions must be right."""
    return math.ceil(settings.qualification_share * settings.qualification_questions - 1e-9)


def right_ones(connection: Connection, assignments: Sequence[str]) -> dict[str, bool]:
    """Whether what was last said to each gold question is what is known of it."""
    last = (judgment.c.assignment.in_(assignments), ~corrected())
    query = select(judgment.c.id, judgment.c.assignment, judgment.c.outcome)
    query = query.add_columns(gold_key.c.answer, task.c.kind, task.c.options)
    query = query.join(gold_key, gold_key.c.task == judgment.c.task)
    rows = connection.execute(query.join(task, task.c.id == judgment.c.task).where(*last)).all()
    said = _said(connection, [row.id for row in rows])
    return {
        row.assignment: row.outcome not in UNANSWERED
        and gold.right(said[row.id], gold.read(row.kind, row.options, row.answer))
        for row in rows
    }


def _said(connection: Connection, ids: Sequence[str]) -> dict[str, dict[str, gold.Known]]:
    """What judgments say, by question."""
    said: dict[str, dict[str, Any]] = {key: {} for key in ids}

    def of(row: Row) -> Any:
        return said[row.judgment].setdefault(row.question, gold.Known())

    for row in connection.execute(select(ranking_item).where(ranking_item.c.judgment.in_(ids))):
        of(row).ranks[row.completion] = row.rank
    for row in connection.execute(select(score).where(score.c.judgment.in_(ids))):
        of(row).scores[row.completion, row.axis] = row.value
    for row in connection.execute(select(rule_flag).where(rule_flag.c.judgment.in_(ids))):
        of(row).rules[row.completion, row.rule] = row.verdict
    return said


# ── for raters ───────────────────────────────────────────────────────────────────────────────────


def place_of(connection: Connection, assignment_id: str) -> dict[str, Any] | None:
    """{stage, number, of, needed} of a question before the real work: which of how many it is, how many must be right
    (None in training); None for any other question."""
    row = connection.execute(select(trial).where(trial.c.assignment == assignment_id)).first()
    if row is None:
        return None
    settings = settings_of(connection, row.project)
    given = _given(connection, row.project, row.rater, row.stage, row.attempt)
    there = [a.assignment for a in given if a.state != "expired" or a.assignment == assignment_id]
    training = row.stage == "training"
    return {
        "stage": row.stage,
        "number": there.index(assignment_id) + 1,
        "of": settings.training_questions if training else settings.qualification_questions,
        "needed": None if training else needed(settings),
    }


def lesson(connection: Connection, lease: Row) -> dict[str, Any]:
    """What a training question teaches once it is answered: {right, ranks, known, explanation}: the right ranks by
    place on the screen or None; what is known of each of its questions; the explanation as written, or None."""
    row = connection.execute(select(trial).where(trial.c.assignment == lease.id)).first()
    if row is None or row.stage != "training" or lease.state not in ANSWERED:
        raise UserError("there is nothing to be told about this question")
    query = select(task, gold_key.c.answer).join(gold_key, gold_key.c.task == task.c.id)
    about = connection.execute(query.where(task.c.id == lease.task)).one()
    places = [about.completions[i] for i in lease.order_shown]
    key = gold.read(about.kind, about.options, about.answer)
    asked = {q.name: q for q in questions_of(about.kind, about.options)}
    compared = key.get(compared_by(about.kind, about.options) or "", gold.Known()).ranks
    return {
        "right": right_ones(connection, [lease.id])[lease.id],
        "ranks": [compared.get(c) for c in places] if compared else None,
        "known": [
            {
                "question": asked[name].title or name if name else "",
                "kind": asked[name].kind if name else about.kind,
                "ranks": [known.ranks.get(c) for c in places] if known.ranks else None,
                "scores": _by_mark(known.scores, places),
                "rules": _by_mark(known.rules, places),
                "within": known.within,
            }
            for name, known in key.items()
        ],
        "explanation": explanation(connection, lease.task),
    }


def _by_mark(values: Mapping[tuple[str, str], Any], places: Sequence[str]) -> dict[str, list[Any]]:
    """By axis or rule, and place."""
    marks = dict.fromkeys(mark for _, mark in values)
    return {mark: [values.get((c, mark)) for c in places] for mark in marks}


def explanation(connection: Connection, task_id: str) -> str | None:
    """Why a gold answer is right, in the newest words."""
    g = gold_explanation.c
    newest = select(g.body).where(g.task == task_id).order_by(g.created_at.desc(), g.id.desc())
    return connection.execute(newest.limit(1)).scalar()


def verdict(connection: Connection, project: str, rater_id: str) -> dict[str, Any] | None:
    """{state, correct, asked, needed} of a rater whose qualification was decided by questions."""
    row = _state(connection, project, rater_id)
    if row is None or row.state not in ("passed", "failed") or not row.asked:
        return None
    share = settings_of(connection, project).qualification_share
    least = math.ceil(share * row.asked - 1e-9)
    return {"state": row.state, "correct": row.correct, "asked": row.asked, "needed": least}


# ── for leads ────────────────────────────────────────────────────────────────────────────────────


def settle(
    connection: Connection,
    project: str,
    rater_id: str,
    what: Literal["again", "pass"],
    *,
    actor: str,
) -> None:
    """The lead gives another try, with other questions, or lets somebody in without one."""
    if connection.execute(select(rater.c.id).where(rater.c.id == rater_id)).first() is None:
        raise UserError("there is no such rater")
    settings_of(connection, project)
    state = _state(connection, project, rater_id)
    attempt = state.attempt if state else 1
    if what == "again":
        if state is None or state.state != "failed":
            raise UserError("only who has failed can be given another try")
        values = {"attempt": attempt + 1, "state": "asked", "correct": None, "asked": None}
    else:
        scores = {"correct": state and state.correct, "asked": state and state.asked}
        values = {"attempt": attempt, "state": "granted", **scores}
    _keep(connection, project, rater_id, values, actor)


def of_project(connection: Connection, project: str) -> list[dict[str, Any]]:
    """Who has begun, or was let in: {rater, pseudonym, state, attempt, correct, asked, answered}; `state` is training,
    asked, passed, failed or granted, `answered` how many questions of this stage and attempt."""
    q, t = qualification.c, trial.c
    states = {
        row.rater: row
        for row in connection.execute(select(qualification).where(q.project == project))
    }
    counts: dict[tuple[str, str, int], int] = {}
    query = select(t.rater, t.stage, t.attempt, func.count().label("n"))
    query = query.join(assignment, assignment.c.id == t.assignment)
    query = query.where(t.project == project, assignment.c.state.in_(ANSWERED))
    for row in connection.execute(query.group_by(t.rater, t.stage, t.attempt)):
        counts[row.rater, row.stage, row.attempt] = row.n
    begun = connection.execute(select(t.rater).where(t.project == project).distinct()).scalars()
    people = select(rater.c.id, rater.c.pseudonym).where(rater.c.id.in_({*states, *begun}))
    wanted = settings_of(connection, project).training_questions
    listed = []
    for person in connection.execute(people.order_by(rater.c.pseudonym)):
        state = states.get(person.id)
        attempt = state.attempt if state else 1
        trained = counts.get((person.id, "training", 1), 0)
        training = state is None and trained < wanted
        answers = counts.get((person.id, "qualification", attempt), 0)
        listed.append(
            {
                "rater": person.id,
                "pseudonym": person.pseudonym,
                "state": state.state if state else "training" if training else "asked",
                "attempt": attempt,
                "correct": state and state.correct,
                "asked": state and state.asked,
                "answered": trained if training else answers,
            }
        )
    return listed


def stock(connection: Connection, project: str) -> dict[str, int]:
    """{gold, explained}: how many gold questions a project has, and how many of them say why."""
    gold = (task.c.project == project, task.c.is_gold.is_(True))
    number = select(func.count()).select_from(task).where(*gold)
    explained = number.where(exists().where(gold_explanation.c.task == task.c.id))
    both = [connection.execute(query).scalar_one() for query in (number, explained)]
    return dict(zip(("gold", "explained"), both, strict=True))


def explain(connection: Connection, explanations: Iterable[tuple[str, str]]) -> int:
    """Keep why gold answers are right, by the question's id, unless the newest words are the same; returns how many."""
    kept = 0
    for key, body in explanations:
        if explanation(connection, key) != body:
            insert(connection, gold_explanation, task=key, body=body)
            kept += 1
    return kept


def _wanted(settings: Settings) -> bool:
    return bool(settings.training_questions or settings.qualification_questions)


def _state(connection: Connection, project: str, rater_id: str) -> Row | None:
    return _qualification(connection, project, rater_id).first()


@prepared
def _qualification(project: str, rater_id: str) -> Select:
    q = qualification.c
    return select(qualification).where(q.project == project, q.rater == rater_id)


def _given(
    connection: Connection, project: str, rater_id: str, stage: str, attempt: int
) -> Sequence[Row]:
    """{assignment, state} of the questions of a stage, in the order in which they were given."""
    t, a = trial.c, assignment.c
    this = (t.project == project, t.rater == rater_id, t.stage == stage, t.attempt == attempt)
    query = select(t.assignment, a.state).join(assignment, a.id == t.assignment).where(*this)
    return connection.execute(query.order_by(t.assignment)).all()


def _answered(
    connection: Connection, project: str, rater_id: str, stage: str, attempt: int
) -> list[str]:
    given = _given(connection, project, rater_id, stage, attempt)
    return [row.assignment for row in given if row.state in ANSWERED]


def _question(
    connection: Connection, project: str, rater_id: str, stage: str, rng: random.Random
) -> Row | None:
    """A gold question that this rater has not had. Training takes those with an explanation, in the order in which they
    came in; a qualification leaves these to it while it has others."""
    had = exists().where(assignment.c.task == task.c.id, assignment.c.rater == rater_id)
    explained = exists().where(gold_explanation.c.task == task.c.id)
    gold = (task.c.project == project, task.c.is_gold.is_(True), ~had)
    preferred = (explained, ~explained) if stage == "training" else (~explained, explained)
    for condition in preferred:
        ids = select(task.c.id).where(*gold, condition).order_by(task.c.id)
        most = 1 if stage == "training" else AMONG
        keys = list(connection.execute(ids.limit(most)).scalars())
        if keys:
            return task_of(connection, rng.choice(keys)).one()
    return None


def _keep(
    connection: Connection, project: str, rater_id: str, values: dict[str, Any], actor: str | None
) -> None:
    q = qualification.c
    row = {**values, "decided_by": actor, "decided_at": now(connection)}
    there = qualification.update().where(q.project == project, q.rater == rater_id)
    if not connection.execute(there.values(**row)).rowcount:
        connection.execute(qualification.insert().values(project=project, rater=rater_id, **row))
    audit.record(connection, actor, "qualification", project=project, rater=rater_id, **values)
