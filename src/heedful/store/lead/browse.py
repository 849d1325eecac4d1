"""Questions of a project by what is asked for: words, state, rater, answer, disagreement, metadata, model.

Words are looked for twice: SQL leaves out what cannot match, and Python looks at the very texts, so that both databases
find the same and nothing is found in the names of JSON's keys. Pages go by the last question's id (keyset): ids sort by
time, and what comes in meanwhile moves nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Text,
    and_,
    exists,
    func,
    or_,
    select,
    type_coerce,
)

from heedful.errors import UserError, did_you_mean
from heedful.store.database.bulk import BATCH
from heedful.store.kinds import KINDS, UNANSWERED
from heedful.store.lead.quality import ANSWERS, valid
from heedful.store.project.content import own_text
from heedful.store.project.records import corrected, texts
from heedful.store.tables.schema import (
    checkpoint,
    completion,
    judgment,
    prompt,
    question_answer,
    ranking_item,
    rater,
    rule_flag,
    score,
    task,
    task_slot,
)

State = Literal["open", "aside", "withdrawn", "done", "gold", "repetition"]
OUTCOMES = (*ANSWERS, *UNANSWERED)
METADATA = {
    "source": prompt.c.source, "licence": prompt.c.licence, "language": prompt.c.language, "split": prompt.c.split,
    "kind": task.c.kind, "strategy": task.c.strategy, "round": task.c.round,
}  # fmt: skip
VERDICTS = {"yes": True, "no": False}
WORD = re.compile(r'"([^"]+)"|(\S+)')
ASCII = re.compile(r"[ A-Za-z0-9.,;:!?'()/-]")  # as a database compares them, and JSON writes them


@dataclass(frozen=True)
class Filter:
    """Which questions: whatever is given must hold of each."""

    text: str = (
        ""  # words, and "phrases"; each is in the prompt or in a response, whatever its case
    )
    state: State | None = None
    rater: str | None = None  # a pseudonym or an id: who has said something of it
    answer: str | None = (
        None  # an outcome (tie, flag …), or what an axis or a rule was given: helpful=7, polite=no
    )
    differ: bool = False  # two raters said different things
    where: tuple[str, ...] = ()  # key=value, see `METADATA`
    model: str | None = None  # who wrote a response

    def __post_init__(self) -> None:
        if self.state is not None and self.state not in get_args(State):
            raise UserError(f"state must be {', '.join(get_args(State))}, not '{self.state}'")

    @property
    def words(self) -> list[str]:
        return [(phrase or word).lower() for phrase, word in WORD.findall(self.text)]


def matching(
    connection: Connection, project: str, wanted: Filter, *, after: str | None = None
) -> Iterator[str]:
    """Ids of the questions that match, the newest first; those made before the question `after`."""
    query = _query(connection, project, wanted).order_by(task.c.id.desc())
    if after is not None:
        query = query.where(task.c.id < after)
    words = wanted.words
    for part in connection.execute(query.execution_options(yield_per=BATCH)).partitions():
        yield from (row.id for row in _with_words(connection, part, words))


def count(connection: Connection, project: str, wanted: Filter) -> int:
    """How many match."""
    if wanted.words:
        return sum(1 for _ in matching(connection, project, wanted))
    matched = _query(connection, project, wanted).subquery()
    return connection.execute(select(func.count()).select_from(matched)).scalar_one()


def state_of(about: Row, states: Sequence[tuple[str, bool]]) -> State:
    """Of a question by its slots: (state, whether it is one of those that are wanted)."""
    if about.is_gold:
        return "gold"
    if about.swap_of is not None:
        return "repetition"
    there = {state for state, _ in states}
    if "parked" in there:
        return "aside"
    if there & {"open", "leased"}:
        return "open"
    return "withdrawn" if ("closed", True) in states else "done"


def wanted_slot(s: Any = task_slot.c) -> ColumnElement[bool]:
    """A slot for an answer that is wanted, not one for a review."""
    return or_(s.slot < task.c.overlap, s.added.is_(True))


def _query(connection: Connection, project: str, wanted: Filter) -> Select:
    columns = (task.c.id, task.c.prompt, task.c.completions)
    query = select(*columns).join(prompt, prompt.c.id == task.c.prompt)
    query = query.where(task.c.project == project, *map(_metadata, wanted.where))
    if wanted.state is not None:
        query = query.where(_state(wanted.state))
    if wanted.rater is not None or wanted.answer is not None:
        query = query.where(_judged(wanted.rater, wanted.answer))
    if wanted.differ:
        query = query.where(_differ())
    if wanted.model is not None:
        query = query.where(_written_by(wanted.model))
    like = "ilike" if connection.dialect.name == "postgresql" else "like"
    for pattern in filter(None, map(_pattern, wanted.words)):
        said = type_coerce(prompt.c.content, Text)
        replied = exists().where(
            completion.c.prompt == task.c.prompt, getattr(completion.c.text, like)(pattern)
        )
        query = query.where(or_(getattr(said, like)(pattern), replied))
    return query


def _pattern(word: str) -> str | None:
    """What LIKE finds wherever the word is, and perhaps elsewhere; None where that is everything.

    Letters that only Python knows to be one in both cases, and what JSON or the column escapes, may be anything.
    """
    kept = "".join(c if _plain(c) else "%" for c in word)
    pattern = re.sub("%+", "%", f"%{kept}%")
    return None if pattern == "%" else pattern


def _plain(c: str) -> bool:
    if c.isascii():
        return bool(ASCII.match(c))
    return c.lower() == c.upper() and c.isprintable()


def _with_words(connection: Connection, rows: Sequence[Row], words: list[str]) -> Iterator[Row]:
    """Those whose prompt and responses have all the words."""
    if not words:
        yield from rows
        return
    contents = select(prompt.c.id, prompt.c.content).where(
        prompt.c.id.in_({r.prompt for r in rows})
    )
    prompts = {row.id: row.content for row in connection.execute(contents)}
    replies = texts(connection, [c for r in rows for c in r.completions])
    for row in rows:
        parts = [*own_text(prompts[row.prompt]), *(replies[c] for c in row.completions)]
        lower = [part.lower() for part in parts]
        if all(any(word in part for part in lower) for word in words):
            yield row


def _has(*states: str, wanted: bool = False) -> ColumnElement[bool]:
    s = task_slot.alias()
    slots = exists().where(s.c.task == task.c.id, s.c.state.in_(states))
    return slots.where(wanted_slot(s.c)) if wanted else slots


def _state(state: State) -> ColumnElement[bool]:
    """As `state_of` says it."""
    if state == "gold":
        return task.c.is_gold.is_(True)
    if state == "repetition":
        return and_(task.c.is_gold.is_(False), task.c.swap_of.is_not(None))
    conditions: list[ColumnElement[bool]] = [task.c.is_gold.is_(False), task.c.swap_of.is_(None)]
    if state == "aside":
        return and_(*conditions, _has("parked"))
    conditions.append(~_has("parked"))
    if state == "open":
        return and_(*conditions, _has("open", "leased"))
    closed = _has("closed", wanted=True)
    return and_(*conditions, ~_has("open", "leased"), closed if state == "withdrawn" else ~closed)


def _judged(by: str | None, answer: str | None) -> ColumnElement[bool]:
    j = judgment.alias()
    found = exists().where(j.c.task == task.c.id)
    if by is not None:
        people = select(rater.c.id).where(or_(rater.c.id == by, rater.c.pseudonym == by))
        found = found.where(j.c.rater.in_(people))
    if answer is None:
        return found
    found = found.where(~corrected(j))
    if answer in OUTCOMES:
        q = question_answer.c
        of_one = exists().where(q.judgment == j.c.id, q.outcome == answer)
        return found.where(or_(j.c.outcome == answer, of_one))
    name, equals, value = answer.rpartition("=")
    if not equals or not name:
        raise UserError(
            f"answer must be {', '.join(OUTCOMES)}, or NAME=VALUE of an axis or a rule, not '{answer}'"
        )
    if value in VERDICTS:
        r = rule_flag.c
        return found.where(
            exists().where(r.judgment == j.c.id, r.rule == name, r.verdict.is_(VERDICTS[value]))
        )
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"answer: {name} was given a number, yes or no, not '{value}'")
    s = score.c
    return found.where(exists().where(s.judgment == j.c.id, s.axis == name, s.value == number))


def _differ() -> ColumnElement[bool]:
    """Two answers that count and are not the same: another outcome, or a rank, a score or a verdict that the other has
    not. Each of the two is once the first. Of conversations each has its own replies, which are no other's."""
    a, b = judgment.alias(), judgment.alias()
    parts = []
    for table, same in (
        (ranking_item, ("completion", "rank")),
        (score, ("completion", "axis", "value")),
        (rule_flag, ("completion", "rule", "verdict")),
    ):
        mine, theirs = table.alias(), table.alias()
        equal = (mine.c[name] == theirs.c[name] for name in same)
        there = exists().where(theirs.c.judgment == b.c.id, *equal).correlate(mine, b)
        parts.append(exists().where(mine.c.judgment == a.c.id, ~there).correlate(a, b))
    talks = [kind.name for kind in KINDS.values() if kind.talks]
    return exists().where(
        task.c.kind.not_in(talks),
        a.c.task == task.c.id,
        b.c.task == task.c.id,
        a.c.rater != b.c.rater,
        *valid(a),
        *valid(b),
        or_(a.c.outcome != b.c.outcome, *parts),
    )


def _written_by(model: str) -> ColumnElement[bool]:
    c = completion.outerjoin(checkpoint, checkpoint.c.id == completion.c.checkpoint)
    shown = type_coerce(task.c.completions, Text).contains(completion.c.id)
    named = or_(completion.c.model == model, checkpoint.c.path == model)
    of_prompt = completion.c.prompt == task.c.prompt
    return (
        select(completion.c.id).select_from(c).where(of_prompt, shown, named).correlate(task)
    ).exists()


def _metadata(pair: str) -> ColumnElement[bool]:
    key, equals, value = pair.partition("=")
    if not equals or key not in METADATA:
        raise UserError(
            f"where must be KEY=VALUE with one of {', '.join(METADATA)}, not '{pair}'"
            f"{did_you_mean(key, METADATA)}"
        )
    column = METADATA[key]
    if key == "round":
        if not re.fullmatch(r"\d{1,9}", value):
            raise UserError(f"where: round is a number, not '{value}'")
        return column == int(value)
    return column == value
