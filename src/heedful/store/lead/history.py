"""One question's whole history: to whom it was shown, who said what of it and when, what leads did with it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Text, select, type_coerce

from heedful.errors import UserError
from heedful.store.kinds import KINDS
from heedful.store.lead import reports
from heedful.store.lead.browse import state_of, wanted_slot
from heedful.store.lead.quality import origins
from heedful.store.project import records
from heedful.store.project.content import in_short, task_of
from heedful.store.tables.schema import (
    assignment,
    audit_event,
    completion,
    judgment,
    prompt,
    rater,
    suggestion,
    suggestion_shown,
    task,
    task_slot,
)
from heedful.store.tables.suggestions import critique_asked, model_critique

EXCERPT = 240  # characters of a text in the list
# What the audit log says of questions; about judgments the judgments themselves say more.
ACTIONS = ("task.review", "task.close", "task.unpark", "questions.withdraw", "questions.put_back",
           "questions.set_aside", "questions.overlap", "questions.ask_again")  # fmt: skip


def rows(connection: Connection, ids: Sequence[str]) -> list[dict[str, Any]]:
    """What a list shows of these questions, in this order; texts are raw and cut off.

    {task, kind, state, created_at, round, wanted, answers, declined, prompt, responses: [{text, model}]}
    """
    tasks = {r.id: r for r in connection.execute(select(task).where(task.c.id.in_(ids)))}
    query = select(prompt.c.id, prompt.c.content)
    query = query.where(prompt.c.id.in_({r.prompt for r in tasks.values()}))
    contents = {row.id: row.content for row in connection.execute(query)}
    shown = [c for r in tasks.values() for c in r.completions]
    words, names = records.texts(connection, shown), origins(connection, shown)
    states = _states(connection, ids)
    said = select(judgment.c.task, judgment.c.outcome).where(
        judgment.c.task.in_(ids), ~records.corrected()
    )
    outcomes: dict[str, list[str]] = {key: [] for key in ids}
    for row in connection.execute(said):
        outcomes[row.task].append(row.outcome)
    return [
        {
            "task": key,
            "kind": tasks[key].kind,
            "state": state_of(tasks[key], states[key]),
            "created_at": tasks[key].created_at,
            "round": tasks[key].round,
            "wanted": sum(wanted for _, wanted in states[key]),
            "answers": sum(o not in ("skip", "flag") for o in outcomes[key]),
            "declined": sum(o in ("skip", "flag") for o in outcomes[key]),
            "prompt": _cut(
                in_short(tasks[key].kind, tasks[key].options, contents[tasks[key].prompt])
            ),
            "responses": [
                {"text": _cut(words[c]), "model": names.get(c)} for c in tasks[key].completions
            ],
        }
        for key in ids
    ]


def history(connection: Connection, task_id: str) -> dict[str, Any]:
    """Everything about a question; texts are raw, ranks and marks by the responses' places in `responses`.

    {task, project, kind, state, options, prompt, responses, models, completions, gold, overlap, wanted, …,
    events: [{at, what, who, …}]}, the oldest first. `what`: shown, critique (asked for), an outcome,
    or what a lead did.
    """
    about = task_of(connection, task_id).first()
    if about is None:
        raise UserError("there is no such task")
    question = reports.questions(connection, [task_id])[task_id]
    names = origins(connection, about.completions)
    origin = connection.execute(select(prompt).where(prompt.c.id == about.prompt)).one()
    states = _states(connection, [task_id])[task_id]
    parts = (_shown, _asked, _said, _done)
    events = [event for part in parts for event in part(connection, about)]
    return question | {
        "project": about.project,
        "state": state_of(about, states),
        "created_at": about.created_at,
        "overlap": about.overlap,
        "wanted": sum(wanted for _, wanted in states),
        "gold": about.is_gold,
        "swap_of": about.swap_of,
        "models": [names.get(c) for c in about.completions],
        **{name: about._mapping[name] for name in ("round", "strategy", "score")},
        **{name: origin._mapping[name] for name in ("source", "licence", "language", "split")},
        "events": sorted(events, key=lambda event: event["at"]),
    }


def _states(connection: Connection, ids: Sequence[str]) -> dict[str, list[tuple[str, bool]]]:
    """Of each question its slots' states, and whether their answers are wanted of it."""
    s = task_slot.c
    query = select(s.task, s.state, wanted_slot().label("wanted")).join(task, task.c.id == s.task)
    states: dict[str, list[tuple[str, bool]]] = {key: [] for key in ids}
    for row in connection.execute(query.where(s.task.in_(ids))):
        states[row.task].append((row.state, bool(row.wanted)))
    return states


def _shown(connection: Connection, about: Any) -> list[dict[str, Any]]:
    drawn, s = suggestion_shown.c, suggestion.c
    told = (drawn.shown, s.source, s.version, s.ranks)
    query = select(assignment, rater.c.pseudonym, *told)
    query = query.join(rater, rater.c.id == assignment.c.rater)
    query = query.outerjoin(suggestion_shown, drawn.assignment == assignment.c.id)
    query = query.outerjoin(suggestion, s.id == drawn.suggestion)
    found = connection.execute(query.where(assignment.c.task == about.id))
    return [
        {
            "at": row.leased_at,
            "what": "shown",
            "who": row.pseudonym,
            "order": row.order_shown,
            "state": row.state,
            "guidelines": row.guideline_version,
            "suggestion": None
            if row.shown is None
            else {"source": row.source, "ranks": row.ranks, "shown": row.shown},
        }
        for row in found
    ]


def _asked(connection: Connection, about: Any) -> list[dict[str, Any]]:
    """Who asked what a model says against a response."""
    a, c = critique_asked.c, model_critique.c
    query = select(a.created_at, rater.c.pseudonym, c.completion, c.source, c.text)
    query = query.join(model_critique, c.id == a.critique)
    query = query.join(assignment, assignment.c.id == a.assignment)
    query = query.join(rater, rater.c.id == assignment.c.rater)
    return [
        {
            "at": row.created_at,
            "what": "critique",
            "who": row.pseudonym,
            "response": about.completions.index(row.completion),
            "source": row.source,
            "text": row.text,
        }
        for row in connection.execute(query.where(assignment.c.task == about.id))
    ]


def _said(connection: Connection, about: Any) -> list[dict[str, Any]]:
    ids = list(
        connection.execute(select(judgment.c.id).where(judgment.c.task == about.id)).scalars()
    )
    place = {c: i for i, c in enumerate(about.completions)}
    events, kind = [], KINDS.get(about.kind)
    loaded = records.load(connection, ids)
    replaced = {r.judgment.supersedes for r in loaded}
    for r in chain.from_iterable(whole.by_question() for whole in loaded):
        j = r.judgment
        broken = None
        if kind and kind.talks and kind.apart:
            broken = {row.place: "kept" if row.verdict else "broken" for row in r.rules}
        events.append(
            {
                "at": j.created_at,
                "what": r.said.outcome,
                "question": r.question,
                "who": r.rater.pseudonym,
                "judgment": j.id,
                "revision": j.revision,
                "corrected": j.id in replaced,
                "disposition": j.disposition,
                "seconds": None if j.active_ms is None else j.active_ms / 1000,
                "strength": r.said.strength,
                "confidence": r.said.confidence,
                "comment": r.said.text,
                "ranks": [r.ranks.get(c) for c in about.completions],
                "scores": _marks(r.scores, "axis", "value", about.completions),
                "rules": {} if r.turns else _marks(r.rules, "rule", "verdict", about.completions),
                "critiques": [
                    {
                        "response": place[c.completion],
                        "quote": None
                        if c.start is None
                        else r.texts[c.completion].text[c.start : c.end],
                        "text": c.text,
                    }
                    for c in r.critiques
                ],
                "edits": [
                    {"response": place[e.completion], "text": r.texts[e.edited].text}
                    for e in r.edits
                ],
                "written": [d.text for d in r.demonstrations] if not r.edits else [],
                "turns": [
                    {
                        "said": t.said,
                        "replies": [
                            {"text": c["text"], "model": c.get("model")} for c in t.candidates
                        ],
                        "chosen": t.chosen,
                        "verdict": None if broken is None else broken.get(i, "unsure"),
                    }
                    for i, t in enumerate(r.turns)
                ],
            }
        )
    return events


def _marks(rows: Any, name: str, value: str, completions: Sequence[str]) -> dict[str, list[Any]]:
    marks: dict[str, list[Any]] = {}
    for row in rows:
        line = marks.setdefault(getattr(row, name), [None] * len(completions))
        line[completions.index(row.completion)] = getattr(row, value)
    return marks


def _done(connection: Connection, about: Any) -> list[dict[str, Any]]:
    """What leads did with it, out of the audit log."""
    e = audit_event.c
    named = type_coerce(e.detail, Text).contains(about.id)
    query = select(e.at, e.action, e.detail, rater.c.pseudonym)
    query = query.outerjoin(rater, rater.c.id == e.actor)
    return [
        {
            "at": row.at,
            "what": row.action.partition(".")[2],
            "who": row.pseudonym,
            "number": row.detail.get("number"),
        }
        for row in connection.execute(query.where(e.action.in_(ACTIONS), named))
    ]


def _cut(text: str) -> str:
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]}…"


def models(connection: Connection, project: str) -> list[str]:
    """Who wrote the responses of a project, for a list to choose from."""
    query = select(completion.c.model).join(prompt, prompt.c.id == completion.c.prompt)
    named = (prompt.c.project == project, completion.c.model.is_not(None))
    return sorted(connection.execute(query.where(*named).distinct()).scalars())
