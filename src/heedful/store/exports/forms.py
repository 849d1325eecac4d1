"""Which question of a screen the rows of a form for training are of."""

from __future__ import annotations

from heedful.store.exports.export import FROM_JUDGMENTS, Rows
from heedful.store.kinds import SCREEN, exports_of
from heedful.store.project import screens
from heedful.store.project.records import JudgmentRecord

OF_EVERY_QUESTION = (
    "scores",
    "critiques",
)  # each row says of which; the others are of one question
ANOTHER = "another question"


def rows_of(what: str, j: JudgmentRecord, question: str = "") -> Rows | str:
    """A judgment's rows in a form for training, or why it has none: of the question of this name, or by default of the
    first that ranks, or that has such rows at all. A task that asks one question alone calls it by its kind."""
    to_rows = FROM_JUDGMENTS[what]
    if j.kind != SCREEN:
        return to_rows(j) if question in ("", j.kind) else ANOTHER
    answered = {one.question: one for one in j.by_question()} if j.answers else {}
    asked = [q for q in screens.questions_of(j.kind, j.task.options) if what in exports_of(q.kind)]
    if question:
        asked = [q for q in asked if q.name == question]
    elif what not in OF_EVERY_QUESTION:
        asked = sorted(asked, key=lambda q: not q.ranks)[:1]
    if not asked:
        return ANOTHER if question else "another kind of answer"
    results = [to_rows(answered[q.name]) for q in asked if q.name in answered]
    if not results:
        return "not answered"
    return [row for rows in results if not isinstance(rows, str) for row in rows] or results[0]
