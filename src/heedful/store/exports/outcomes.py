"""What each form for training makes of judgments: rows, or the reason why there are none, without making the rows.

Whether there are rows follows from a judgment's shape: its kind, which of its texts are empty or equal, how they were
ranked, what was said of which. A million judgments have few shapes, which the database itself tells apart; the forms'
own functions are asked once for each, and what they decide is said nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Select, Text, case, cast, exists, func, literal, select

from heedful.store.exports import export
from heedful.store.exports.forms import rows_of
from heedful.store.kinds import SCREEN
from heedful.store.project import records
from heedful.store.project.records import JudgmentRecord
from heedful.store.tables.schema import (
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

FORMS = [what for what in export.FROM_JUDGMENTS if what in export.TRAINING]
EXPORTED = ""  # in the place of a reason
# What `str.strip` takes off.
BLANKS = "".join(c for c in map(chr, range(0x3001)) if c.isspace())

Outcomes = dict[str, str]  # form → `EXPORTED`, or why not


def outcomes(
    connection: Connection, ids: Collection[str], question: str = ""
) -> dict[str, Outcomes]:
    """What becomes of each of these judgments; `question`: of this one of a screen's."""
    return {j.judgment.id: _of(j, question) for j in records.stream(connection, list(ids))}


def _of(j: JudgmentRecord, question: str) -> Outcomes:
    found: Outcomes = {}
    for what in FORMS:
        result = rows_of(what, j, question)
        found[what] = result if isinstance(result, str) else EXPORTED
    return found


def shaped(connection: Connection, facts: Select) -> Select:
    """The facts of judgments (`snapshot.facts`), each with its shape; those of one shape have the same outcomes."""
    return facts.add_columns(*_shape(connection))


def is_blank(connection: Connection, text: Any) -> Any:
    """Whether nothing is left of a text by `str.strip`, as a condition; of most the first character tells."""
    postgres = connection.dialect.name == "postgresql"
    trim, find = (func.btrim, func.strpos) if postgres else (func.trim, func.instr)
    words, blanks = cast(text, Text), literal(BLANKS, Text)
    return (find(blanks, func.substr(words, 1, 1)) > 0) & (trim(words, blanks) == literal("", Text))


def _shape(connection: Connection) -> list[Any]:
    """All of a judgment but texts, people and times, in columns. What stands in them in which order does not matter: it
    only tells alike ones apart."""
    used = records.reader_of(connection, {}).used
    postgres = connection.dialect.name == "postgresql"
    find = func.strpos if postgres else func.instr

    def parts(table: Any, *told: Any) -> Any:
        """Of each row of a part where its response stands in the task, and what is told."""
        quoted = literal('"', Text).concat(table.c.completion).concat('"')
        words = cast(find(cast(task.c.completions, Text), quoted), Text)
        for one in told:
            words = words.concat(":").concat(cast(one, Text))
        row = select(func.aggregate_strings(words, ",")).where(table.c.judgment == judgment.c.id)
        return row.correlate(judgment, task).scalar_subquery().label(f"{table.name}_parts")

    sign = case((score.c.value > 0, 1), (score.c.value < 0, -1), else_=0)
    rules = case((rule_flag.c.verdict, 1), else_=0)
    asked = case((task.c.kind == SCREEN, cast(task.c.options, Text)), else_="")
    shape: list[Any] = [asked.label("asked"), _pattern(connection).label("pattern")]
    shape += [
        parts(table, *told, _bounded(table.c.question))
        for table, *told in (
            (ranking_item, ranking_item.c.rank),
            (score, sign, _bounded(score.c.axis)),
            (rule_flag, rules),
            (critique,),
        )
        if table.name in used
    ]
    if question_answer.name in used:
        words = _bounded(question_answer.c.question).concat(question_answer.c.outcome)
        row = select(func.aggregate_strings(words, ",")).correlate(judgment, task)
        row = row.where(question_answer.c.judgment == judgment.c.id)
        shape.append(row.scalar_subquery().label("answers"))
    # What has texts of its own has a shape of its own.
    own = [
        exists().where(table.c[by] == judgment.c[of])
        for table, by, of in ((edit, "judgment", "id"), (offer, "assignment", "assignment"))
        if table.name in used
    ]
    if own:
        shape.append(case(*((one, judgment.c.id) for one in own), else_="").label("alone"))
    return shape


def _bounded(name: Any) -> Any:
    """A name between others, of which nothing can be taken for a part."""
    return cast(func.length(cast(name, Text)), Text).concat(":").concat(cast(name, Text))


def _pattern(connection: Connection) -> Any:
    """How many responses a task has; where some are empty or equal, of each its place, and the first one with the same
    text; -1: it is empty."""
    one, same = completion.alias(), completion.alias()
    here, there = (_responses(connection, name) for name in ("here", "there"))
    text, other = cast(one.c.text, Text), cast(same.c.text, Text)
    first = (
        select(func.min(there.c.place))
        .select_from(there.join(same, same.c.id == there.c.response))
        .where(other == text)
        .correlate(task, one)
        .scalar_subquery()
    )
    alike = case((is_blank(connection, text), -1), else_=first)
    words = cast(here.c.place, Text).concat(":").concat(cast(alike, Text))
    joined = here.join(one, one.c.id == here.c.response)
    row = select(func.aggregate_strings(words, ",")).select_from(joined)
    # Nearly always, and quicker: each text is looked at once.
    usual = (func.count() == func.count(text.distinct())) & (
        func.sum(case((is_blank(connection, text), 1), else_=0)) == 0
    )
    number = select(case((usual, cast(func.count(), Text)))).select_from(joined)
    each = (query.correlate(task).scalar_subquery() for query in (number, row))
    return func.coalesce(*each)


def _responses(connection: Connection, name: str) -> Any:
    """The ids of a task's completions, each with its place."""
    ids: Any = cast(task.c.completions, Text)
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import JSON

        each = func.json_array_elements_text(cast(ids, JSON))
        return each.table_valued("response", with_ordinality="place", name=name).render_derived()
    each = func.json_each(ids).table_valued("key", "value", name=name)
    return select(each.c.key.label("place"), each.c.value.label("response")).subquery(name)
