"""What a rater is shown of an assignment, blinded: no id of a completion, model, score or gold key is included."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Select, select

from heedful.store.database.db import now
from heedful.store.database.prepared import prepared
from heedful.store.kinds import KINDS
from heedful.store.project import critiques, suggestions
from heedful.store.project.content import task_of
from heedful.store.project.records import shown
from heedful.store.project.screens import questions_of
from heedful.store.rating.judging import assignment_of, latest
from heedful.store.rating.talk import history
from heedful.store.rating.trials import place_of
from heedful.store.tables.schema import guideline_version, prompt

LETTERS = "ABCDEFGHIJKL"


def question(connection: Connection, assignment_id: str, rater_id: str) -> dict[str, Any]:
    """The question as its rater sees it, with the answer they gave, if any. Texts are raw, as models wrote them.

    {assignment, kind, state, lease_seconds, prompt: str | [{role, content}], language, responses: [{label, text,
    episode: {whole}, where it is one: never what it was worth}], options,
    questions: [{name, kind, options, required, title, help}], guidelines: {id, body} | None,
    turns: [{said, replies: [text, text], chosen: place | None}], answer: as it was said | None, revision,
    trial: `trials.place_of`, suggestion: ranks by place, as a model suggests | None,
    critiques: `critiques.seen`}
    """
    lease = assignment_of(connection, assignment_id, rater_id)
    task_row = task_of(connection, lease.task).one()
    prompt_row = _prompt(connection, task_row.prompt).one()
    words = shown(connection, task_row.completions)
    guidelines = _guidelines(connection, lease.guideline_version).first()
    judgment_row = latest(connection, assignment_id)
    places = [task_row.completions[i] for i in lease.order_shown]
    questions = questions_of(task_row.kind, task_row.options)
    talks = any(q.kind in KINDS and KINDS[q.kind].talks for q in questions)
    return {
        "assignment": lease.id,
        "kind": task_row.kind,
        "state": lease.state,
        "lease_seconds": max(0.0, lease.leased_until - now(connection)),
        "prompt": prompt_row.content,
        "language": prompt_row.language,
        "responses": [
            {"label": LETTERS[place], "text": words[key][0]}
            | ({"episode": {"whole": words[key][1]["whole"]}} if words[key][1] else {})
            for place, key in enumerate(places)
        ],
        "options": task_row.options,
        "questions": [asdict(q) for q in questions],
        "guidelines": {"id": guidelines.id, "body": guidelines.body} if guidelines else None,
        "turns": turns(connection, assignment_id) if talks else [],
        "answer": judgment_row.said if judgment_row else None,
        "revision": judgment_row.revision if judgment_row else 0,
        "suggestion": suggestions.seen(connection, lease),
        "critiques": critiques.seen(connection, lease),
        "trial": place_of(connection, assignment_id) if task_row.is_gold else None,
    }


@prepared
def _prompt(prompt_id: str) -> Select:
    return select(prompt).where(prompt.c.id == prompt_id)


@prepared
def _guidelines(version: str) -> Select:
    return select(guideline_version).where(guideline_version.c.id == version)


def turns(connection: Connection, assignment_id: str) -> list[dict[str, Any]]:
    """The conversation so far, replies by place; the last one may still wait for the rater's choice."""
    return [
        {
            "said": row.said,
            "replies": [row.candidates[i]["text"] for i in row.order_shown],
            "chosen": None if row.chosen is None else row.order_shown.index(row.chosen),
        }
        for row in history(connection, assignment_id)
    ]
