"""Judgments with all their parts and what the rater was shown, read in batches for exports and webhooks."""

from __future__ import annotations

import json
from collections import defaultdict, namedtuple
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    Connection,
    Exists,
    Select,
    Table,
    Text,
    bindparam,
    exists,
    func,
    select,
)

from heedful.store.database.bulk import batches, fetch_all
from heedful.store.database.prepared import prepared
from heedful.store.tables.schema import (
    assignment,
    completion,
    critique,
    demonstration,
    edit,
    judgment,
    offer,
    prompt,
    question_answer,
    question_drawn,
    ranking_item,
    rater,
    rule_flag,
    score,
    suggestion,
    suggestion_shown,
    task,
    trial,
    turn,
)
from heedful.store.tables.suggestions import critique_asked, critique_offered, model_critique

Row = Any  # a named tuple of a table's columns, which is read faster by name than SQLAlchemy's rows
PARTS = (ranking_item, score, rule_flag, critique, edit, question_answer)
Columns = Mapping[
    str, tuple[str, ...]
]  # by table, the id first; of others all but what nobody reads
# What the forms for training read; where a response is shown is for rankings alone.
TRAINING: Columns = {
    "judgment": ("id", "assignment", "task", "rater", "outcome", "strength", "active_ms", "created_at"),
    "task": ("id", "kind", "options", "prompt", "completions"),
    "prompt": ("id", "content"),
    "rater": ("id", "pseudonym"),
    "completion": ("id", "text", "model", "checkpoint"),
    "trial": (),
    "suggestion_shown": (),
    "critique_offered": (),
    "critique_asked": (),
    "question_drawn": (),
}  # fmt: skip
UNSHOWN: Columns = {**TRAINING, "assignment": ()}  # what most of them read: not in which order
EVERYTHING: Columns = {}
BATCH = 1000  # judgments read together
NEVER_READ = {"completion": ("token_ids", "logprobs")}  # by judgments; long


class JudgmentRecord(NamedTuple):
    """One revision of an answer, or what it says to one question of a screen: see `by_question`."""

    judgment: Row
    task: Row
    question: str  # empty: all of it
    kind: str  # of what was asked
    said: Row  # outcome, strength, confidence and text
    prompt: Row
    rater: Row
    order_shown: list[int]
    guidelines: str | None  # the version that was shown beside it
    texts: dict[str, Row]  # completions by id: those shown, and an edited one
    ranked: Sequence[Row]  # the best first; those that were not ranked are not there
    scores: Sequence[Row]
    rules: Sequence[Row]
    critiques: Sequence[Row]
    edits: Sequence[Row]
    demonstrations: Sequence[Row]  # written in the judgment
    turns: Sequence[Row]  # of the conversation, each an offer with `chosen` and `turn_strength`
    answers: Sequence[Row] = ()  # of a screen: rows of question_answer, in order
    trial: str | None = None  # training or qualification, where it was asked before the real work
    suggestion: Row | None = (
        None  # that was drawn for it: source, version, ranks; and whether it was `shown`
    )
    offered: Row | None = None  # whose critiques its rater could ask for, or (not `offered`) not
    asked: Sequence[Row] = ()  # for which they had asked: completion, version, text; created_at
    drawn: Row | None = None  # how it came to be asked next: by_chance, propensity

    @property
    def ranks(self) -> dict[str, int]:
        """By completion id, the best first."""
        return {row.completion: row.rank for row in self.ranked}

    def by_question(self) -> Sequence[JudgmentRecord]:
        """Each answered question of a screen as if it had been asked alone; itself, where the task asks one."""
        if not self.answers:
            return (self,)
        return [
            self._replace(
                question=row.question,
                kind=row.kind,
                said=row,
                answers=(),
                **{name: _of(getattr(self, name), row.question) for name in SAID},
            )
            for row in self.answers
        ]


NOTHING: tuple[Sequence[Row], ...] = ((),) * 6  # of scores to turns; all behind them has a default
SAID = ("ranked", "scores", "rules", "critiques", "edits", "demonstrations")


def _of(rows: Sequence[Row], question: str) -> Sequence[Row]:
    return [row for row in rows if row.question == question]


def load(connection: Connection, ids: Sequence[str]) -> list[JudgmentRecord]:
    """These judgments, in this order, with all that is known of them."""
    return list(stream(connection, ids, EVERYTHING))


def stream(
    connection: Connection, ids: Sequence[str], read: Columns = TRAINING
) -> Iterator[JudgmentRecord]:
    """These judgments, in this order, some at a time, with these columns."""
    raters: dict[str, Row] = {}
    reader = reader_of(connection, read)
    for part in batches(ids, BATCH):
        yield from _load(reader, raters, part)


def _load(reader: Reader, raters: dict[str, Row], ids: Sequence[str]) -> Iterator[JudgmentRecord]:
    judgments = reader.by_id(judgment, ids)
    tasks = reader.by_id(task, {j.task for j in judgments.values()})
    prompts = reader.by_id(prompt, {t.prompt for t in tasks.values()})
    raters |= reader.by_id(rater, {j.rater for j in judgments.values()} - raters.keys())
    assignments = reader.by_id(assignment, {j.assignment for j in judgments.values()})
    ranks = grouped(reader.rows(ranking_item, "judgment", ids, "rank", "place"), "judgment")
    scores, rules, critiques, edits, answers = (
        grouped(reader.rows(table, "judgment", ids, "place"), "judgment") for table in PARTS[1:]
    )
    written = grouped(reader.rows(demonstration, "judgment", ids, "id"), "judgment")
    leases = [j.assignment for j in judgments.values()]
    said = grouped(reader.rows(offer, "assignment", leases, "place"), "assignment")
    drawn = {row.assignment: row for row in reader.rows(suggestion_shown, "assignment", leases)}
    offered = {row.assignment: row for row in reader.rows(critique_offered, "assignment", leases)}
    asked = grouped(reader.rows(critique_asked, "assignment", leases, "created_at"), "assignment")
    chosen = {row.assignment: row for row in reader.rows(question_drawn, "assignment", leases)}
    stages = {row.assignment: row.stage for row in reader.rows(trial, "assignment", leases)}
    shown = {c for t in tasks.values() for c in t.completions}
    edited = {row.edited for rows in edits.values() for row in rows}
    texts = reader.by_id(completion, shown | edited)
    more = (scores, rules, critiques, edits, written, said, answers, stages, drawn, offered, asked, chosen)  # fmt: skip
    nothing_more = not any(more)  # nearly always, and then so many look-ups of each are saved
    for key in ids:
        row = judgments[key]
        about, lease = tasks[row.task], assignments.get(row.assignment)
        changed = edits.get(key, ())
        used = about.completions
        told: tuple[Any, ...] = (
            NOTHING
            if nothing_more
            else (
                scores.get(key, ()),
                rules.get(key, ()),
                critiques.get(key, ()),
                changed,
                written.get(key, ()),
                said.get(row.assignment, ()),
                answers.get(key, ()),
                stages.get(row.assignment),
                drawn.get(row.assignment),
                offered.get(row.assignment),
                [a for a in asked.get(row.assignment, ()) if a.created_at <= row.created_at],
                chosen.get(row.assignment),
            )
        )
        yield JudgmentRecord(  # by place, which is quicker: in the order of its fields
            row,
            about,
            "",
            about.kind,
            row,
            prompts[about.prompt],
            raters[row.rater],
            lease.order_shown if lease else [],
            lease.guideline_version if lease else None,
            {c: texts[c] for c in ([*used, *(r.edited for r in changed)] if changed else used)},
            ranks.get(key, ()),
            *told,
        )


@dataclass(frozen=True)
class Reader:
    """Rows of tables by keys, many at once."""

    connection: Connection
    read: Columns
    used: Collection[str]  # of the tables that may be empty, those that are not

    def by_id(self, table: Table, keys: Collection[str]) -> dict[str, Row]:
        return {row[0]: row for row in self._execute(table, "id", keys)}

    def rows(self, table: Table, owner: str, keys: Collection[str], *order: str) -> Sequence[Row]:
        return self._execute(table, owner, keys, *order) if table.name in self.used else ()

    def _execute(
        self, table: Table, owner: str, keys: Collection[str], *order: str
    ) -> Sequence[Row]:
        if not keys or self.read.get(table.name) == ():
            return ()
        sqlite = self.connection.dialect.name == "sqlite"
        query = _query(table, self.read.get(table.name), owner, order, sqlite)
        wanted = json.dumps(list(keys)) if sqlite else list(keys)
        rows = fetch_all(self.connection, query, {"keys": wanted})
        return [*map(_named(table.name, tuple(query.selected_columns.keys())), rows)]


@cache
def _named(table: str, names: tuple[str, ...]) -> Callable[[Any], Row]:
    """What makes a named tuple of a row."""
    return partial(tuple.__new__, namedtuple(table, names))


def reader_of(connection: Connection, read: Columns) -> Reader:
    tables = [
        *PARTS,
        demonstration,
        offer,
        trial,
        suggestion_shown,
        critique_offered,
        critique_asked,
        question_drawn,
    ]
    used = {t.name for t in tables if connection.execute(select(t).limit(1)).first()}
    return Reader(connection, read, used)


@cache
def _query(
    table: Table, names: tuple[str, ...] | None, owner: str, order: tuple[str, ...], sqlite: bool
) -> Select:
    """Made once, with all keys as one parameter: a parameter for each would be written out anew for every batch."""
    left_out = NEVER_READ.get(table.name, ())
    columns = [table.c[name] for name in names or table.c.keys() if name not in left_out]
    query = select(*columns)
    if table is offer:
        query = select(*columns, turn.c.chosen, turn.c.strength.label("turn_strength"))
        query = query.join(turn, turn.c.offer == offer.c.id)
    if table is suggestion_shown:
        told = (suggestion.c.source, suggestion.c.version, suggestion.c.ranks)
        query = select(*columns, *told).join(suggestion)
    if table is critique_asked:
        c = model_critique.c
        query = select(*columns, c.completion, c.version, c.text).join(model_critique)
    if sqlite:
        keys = func.json_each(bindparam("keys", type_=Text)).table_valued("value")
        query = query.where(table.c[owner].in_(select(keys.c.value)))
    else:
        query = query.where(table.c[owner] == func.any(bindparam("keys", type_=ARRAY(Text))))
    return query.order_by(*(table.c[name] for name in order))


def grouped(rows: Sequence[Row], owner: str) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    of = attrgetter(owner)
    for row in rows:
        groups[of(row)].append(row)
    return groups


def corrected(table: Any = judgment) -> Exists:
    """A later revision has taken the judgment's place."""
    newer = judgment.alias()
    return exists().where(newer.c.supersedes == table.c.id)


def shown(
    connection: Connection, completions: Sequence[str]
) -> dict[str, tuple[str, dict[str, Any]]]:
    """The responses' texts by id, and of episodes what `data.episodes.played_of` tells; of others nothing."""
    by_id: dict[str, tuple[str, dict[str, Any]]] = {}
    for part in batches(completions):
        by_id.update((r.id, (r.text, _played(r.sampling))) for r in _completions(connection, part))
    return by_id


@prepared
def _completions(ids: Sequence[str]) -> Select:
    c = completion.c
    return select(c.id, c.text, c.sampling).where(c.id.in_(ids))


def _played(sampling: Mapping[str, Any] | None) -> dict[str, Any]:
    played = (sampling or {}).get("episode")
    return played if isinstance(played, dict) and "whole" in played else {}


def texts(connection: Connection, completions: Sequence[str]) -> dict[str, str]:
    """The responses' texts by id."""
    c, by_id = completion.c, dict[str, str]()
    for part in batches(completions):
        rows = connection.execute(select(c.id, c.text).where(c.id.in_(part)))
        by_id.update((row.id, row.text) for row in rows)
    return by_id
