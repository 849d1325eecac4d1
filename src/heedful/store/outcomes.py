"""What each form for training makes of judgments: rows, or the reason why there are none, without making the rows.

Whether there are rows follows from a judgment's shape: its kind, which of its texts are empty or equal, how they were
ranked, what was said of which. A million judgments have few shapes, so the forms' own functions are asked once for
each, and what they decide is said nowhere else.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from sqlalchemy import Connection, Row

from heedful.store import export, records
from heedful.store.forms import rows_of
from heedful.store.kinds import SCREEN
from heedful.store.records import JudgmentRecord, Reader, grouped
from heedful.store.schema import (
    completion,
    critique,
    edit,
    judgment,
    offer,
    question_answer,
    ranking_item,
    rule_flag,
    score,
    task,
)
from heedful.store.screens import questions_of

FORMS = [what for what in export.FROM_JUDGMENTS if what in export.TRAINING]
EXPORTED = ""  # in the place of a reason
MOST = 100_000  # shapes that are remembered
READ: records.Columns = {
    "judgment": ("id", "task", "outcome", "assignment"),
    "task": ("id", "kind", "options", "prompt", "completions"),
    "completion": ("id", "text"),
}

Outcomes = dict[str, str]  # form → `EXPORTED`, or why not
Shape = Hashable  # None: of its own


def outcomes(
    connection: Connection, ids: Sequence[str], question: str = ""
) -> Iterator[tuple[str, str, Outcomes]]:
    """Each judgment's id, its prompt's, and what becomes of it; the same dictionary for those of one shape. `question`:
    of this one of a screen's."""
    reader = records.reader_of(connection, READ)
    known: dict[Shape, Outcomes] = {}
    for part in records.batches(ids):
        if len(known) > MOST:
            known.clear()
        shapes, prompts = _shapes(reader, part)
        unknown = {shape: key for key, shape in shapes.items() if shape not in known}
        unknown.pop(None, None)
        alone = [key for key, shape in shapes.items() if shape is None]
        apart: dict[str, Outcomes] = {}
        for j in (
            records.stream(connection, [*unknown.values(), *alone]) if unknown or alone else ()
        ):
            apart[j.judgment.id] = _of(j, question)
        known |= {shape: apart[key] for shape, key in unknown.items()}
        for key in part:
            shape = shapes[key]
            yield key, prompts[key], apart[key] if shape is None else known[shape]


def _of(j: JudgmentRecord, question: str) -> Outcomes:
    found: Outcomes = {}
    for what in FORMS:
        result = rows_of(what, j, question)
        found[what] = result if isinstance(result, str) else EXPORTED
    return found


def _shapes(reader: Reader, ids: Sequence[str]) -> tuple[dict[str, Shape], dict[str, str]]:
    """By judgment, all of it but texts, people and times; and its prompt."""
    judgments = reader.by_id(judgment, ids)
    tasks = reader.by_id(task, {j.task for j in judgments.values()})
    texts = reader.by_id(completion, {c for t in tasks.values() for c in t.completions})
    alike = {key: _alike(t, texts) for key, t in tasks.items()}
    ranks = grouped(reader.rows(ranking_item, "judgment", ids, "rank", "place"), "judgment")
    scores, rules, critiques, edits, answers = (
        grouped(reader.rows(table, "judgment", ids, "place"), "judgment")
        for table in (score, rule_flag, critique, edit, question_answer)
    )
    leases = [j.assignment for j in judgments.values()]
    said = grouped(reader.rows(offer, "assignment", leases, "place"), "assignment")
    shapes: dict[str, Shape] = {}
    for key, j in judgments.items():
        if key in edits or j.assignment in said:
            shapes[key] = None
            continue
        place, pattern = alike[j.task]
        shapes[key] = (
            tasks[j.task].kind,
            j.outcome,
            pattern,
            tuple([(place[r.completion], r.rank, r.question) for r in ranks.get(key, ())]),
            tuple(
                [(place[r.completion], r.axis, r.value, r.question) for r in scores.get(key, ())]
            ),
            tuple(
                [(place[r.completion], r.rule, r.verdict, r.question) for r in rules.get(key, ())]
            ),
            tuple(
                [(place[r.completion], r.start, r.end, r.question) for r in critiques.get(key, ())]
            ),
            tuple([(r.question, r.outcome) for r in answers.get(key, ())]),
            _asked(tasks[j.task]),
        )
    return shapes, {key: tasks[j.task].prompt for key, j in judgments.items()}


def _asked(about: Row) -> tuple[tuple[str, str], ...]:
    """The questions of a screen; of other tasks the kind says all."""
    if about.kind != SCREEN:
        return ()
    return tuple([(q.name, q.kind) for q in questions_of(about.kind, about.options)])


def _alike(about: Row, texts: dict[str, Row]) -> tuple[dict[str, int], tuple[int, ...]]:
    """Where each response of a task stands, and which one has the same text first; -1: it is empty."""
    place = {key: i for i, key in enumerate(about.completions)}
    first: dict[str, int] = {}
    pattern: list[int] = []
    for key, i in place.items():
        text = texts[key].text
        pattern.append(first.setdefault(text, i) if text.strip() else -1)
    return place, tuple(pattern)
