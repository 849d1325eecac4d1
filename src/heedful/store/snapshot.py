"""From answers to rows: which are taken, why the others are not, and the same rows again and again.

Whoever reads what people have said comes here: `heedful export`, `db:` sources and the rounds of `heedful iterate`.
Everything that rows are made of is immutable, so the same snapshot gives the same rows for ever, whatever raters
say in the meantime. Exported and excluded with a reason are together all that is stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, Select, func, select

from heedful.errors import UserError, did_you_mean
from heedful.store import export, records
from heedful.store.columns import escape, unescape
from heedful.store.content import digest
from heedful.store.db import Store, insert
from heedful.store.schema import completion, dataset_snapshot, demonstration, judgment, prompt, task

ESCAPE = "\\x1a and four hexadecimal digits stand for NUL, a lone surrogate or \\x1a itself"
Split = Literal["all", "train", "held_out"]


@dataclass(frozen=True)
class Query:
    """What is wanted. Only an answer's latest revision is ever taken for training."""

    what: str
    split: Split = "all"
    surplus: bool = False  # answers beyond the overlap that was asked for
    gold: bool = False  # answers to questions whose answer is known
    swaps: bool = False  # the same pair asked again the other way round
    margin: bool = False  # TRL's column `margin`: the strength, 0 where nobody was asked

    def __post_init__(self) -> None:
        if self.what not in export.COLUMNS:
            known = ", ".join(export.COLUMNS)
            raise UserError(
                f"cannot export '{self.what}'{did_you_mean(self.what, export.COLUMNS)}, only {known}"
            )
        if self.split not in ("all", "train", "held_out"):
            raise UserError(f"split must be all, train or held_out, not '{self.split}'")
        if self.margin and self.what != "comparisons":
            raise UserError("only comparisons have a margin")


@dataclass(frozen=True)
class Count:
    """Of the answers (or prompts, samples, demonstrations) that are stored: where each has gone."""

    stored: int
    exported: int
    excluded: dict[str, int]

    @property
    def missing(self) -> int:
        """0, or a bug."""
        return self.stored - self.exported - sum(self.excluded.values())


@dataclass(frozen=True)
class Snapshot:
    """A row of dataset_snapshot."""

    id: str
    project: str
    query: Query
    ids: tuple[str, ...]
    form: str  # of the prompts: text, messages, mixed
    count: Count
    sha256: str

    @property
    def columns(self) -> dict[str, str]:
        columns = export.columns_of(self.query.what, self.form)
        if self.query.what == "comparisons" and not self.query.margin:
            del columns["margin"]
        return columns


def take(store: Store, project: str, query: Query) -> Snapshot:
    """Choose what to export, in one consistent view, and keep the choice; the same again is the same snapshot."""
    with store.read() as connection:
        ids, form, count = choose(connection, project, query)
    body = {**asdict(query), "schema": export.SCHEMA, "form": form, **asdict(count)}
    judged = query.what in export.FROM_JUDGMENTS
    if not judged:
        body["ids"] = ids
    row = {"query": body, "judgments": ids if judged else []}
    row |= {"project": project, "sha256": digest(row)}
    same = select(dataset_snapshot.c.id).where(
        dataset_snapshot.c.project == project, dataset_snapshot.c.sha256 == row["sha256"]
    )
    with store.write() as connection:
        key = connection.execute(same).scalar()
        if key is None:
            key = insert(connection, dataset_snapshot, **row)
    return Snapshot(key, project, query, tuple(ids), form, count, row["sha256"])


def find(connection: Connection, project: str, key: str) -> Snapshot:
    """A snapshot that was taken before."""
    row = connection.execute(
        select(dataset_snapshot).where(
            dataset_snapshot.c.id == key, dataset_snapshot.c.project == project
        )
    ).first()
    if row is None:
        raise UserError(f"this project has no snapshot {key}")
    body = dict(row.query)
    if body.pop("schema") != export.SCHEMA:
        raise UserError(f"snapshot {key} is of another version of heedful's exports")
    ids, form = body.pop("ids", row.judgments), body.pop("form")
    count = Count(body.pop("stored"), body.pop("exported"), body.pop("excluded"))
    return Snapshot(key, project, Query(**body), tuple(ids), form, count, row.sha256)


def choose(
    connection: Connection, project: str, query: Query, tasks: Sequence[str] | None = None
) -> tuple[list[str], str, Count]:
    """Ids of what has rows, sorted; the form of the prompts; where everything has gone.

    `tasks`: only judgments on these. What a judgment says and whether it counts is decided here alone.
    """
    everything, facts = _facts(project, query.what)
    stored, excluded = 0, Counter[str]()
    candidates: list[str] = []
    for where in _on(tasks):
        stored += connection.execute(everything.where(*where)).scalar_one()
        for fact in connection.execute(facts.where(*where)):
            if reason := _excluded(fact, query):
                excluded[reason] += 1
            else:
                candidates.append(fact.id)
    ids: list[str] = []
    forms: set[str] = set()
    for key, found in _translated(connection, query.what, sorted(candidates)):
        if isinstance(found, str):
            excluded[found] += 1
            continue
        ids.append(key)
        forms.add("text" if isinstance(found[0]["prompt"], str) else "messages")
    form = "mixed" if len(forms) == 2 else (forms or {"text"}).pop()
    return ids, form, Count(stored, len(ids), dict(sorted(excluded.items())))


def rows(connection: Connection, query: Query, ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of chosen ids, always in the same order."""
    for key, found in _translated(connection, query.what, ids):
        if isinstance(found, str):
            raise AssertionError(f"{key} was chosen and has no rows: {found}")
        for row in found:
            yield {**row, "margin": row["strength"] or 0.0} if query.margin else row


def reconcile(connection: Connection, project: str) -> dict[str, Count]:
    """For each form, how many are stored, exported and excluded for which reason; `missing` ought to be 0."""
    return {what: choose(connection, project, Query(what))[2] for what in export.COLUMNS}


def escaped(value: Any) -> Any:
    """A row as a file can hold it, see `ESCAPE`."""
    return _deep(escape, value)


def unescaped(value: Any) -> Any:
    """The inverse of `escaped`."""
    return _deep(unescape, value)


def _on(tasks: Sequence[str] | None) -> Iterator[list[Any]]:
    """Conditions that together hold for the judgments on these tasks, few enough of them for one statement each."""
    if tasks is None:
        yield []
        return
    for part in records.batches(tasks):
        yield [judgment.c.task.in_(part)]


def _deep(change: Callable[[str], str], value: Any) -> Any:
    """The value with every string in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, (list, tuple)):
        return [_deep(change, v) for v in value]
    if isinstance(value, dict):
        return {change(k): _deep(change, v) for k, v in value.items()}
    return value


def _facts(project: str, what: str) -> tuple[Select, Select]:
    """How many there are, counted on the table alone; and the ids with what decides about them."""
    about: list[Any] = [
        judgment.c.outcome,
        judgment.c.disposition,
        judgment.c.task,
        records.corrected().label("corrected"),
        task.c.is_gold,
        task.c.swap_of,
    ]
    own = prompt.c.project == project
    if what == "prompts":
        count = select(func.count()).select_from(prompt).where(own)
        return count, select(prompt.c.id, prompt.c.split).where(own)
    if what in ("samples", "demonstrations"):
        table = completion if what == "samples" else demonstration
        mine = table.c.prompt.in_(select(prompt.c.id).where(own))
        count = select(func.count()).select_from(table).where(mine)
        joined = table.join(prompt, prompt.c.id == table.c.prompt)
        columns: list[Any] = [table.c.id, prompt.c.split]
        if what == "demonstrations":
            joined = joined.outerjoin(judgment, judgment.c.id == table.c.judgment)
            joined = joined.outerjoin(task, task.c.id == judgment.c.task)
            columns += about
        return count, select(*columns).select_from(joined).where(own)
    mine = judgment.c.project == project
    count = select(func.count()).select_from(judgment).where(mine)
    joined = judgment.join(task, task.c.id == judgment.c.task)
    joined = joined.join(prompt, prompt.c.id == task.c.prompt)
    columns = [judgment.c.id, prompt.c.split, *about]
    return count, select(*columns).select_from(joined).where(mine)


def _excluded(fact: Row, query: Query) -> str | None:
    """Why this is not exported; the first reason counts."""
    known = fact._mapping
    if query.what in export.TRAINING and known["task"] is not None:
        if fact.corrected:
            return "corrected later"
        if fact.outcome in ("skip", "flag"):
            return "skipped" if fact.outcome == "skip" else "flagged"
        if fact.disposition == "surplus" and not query.surplus:
            return "surplus"
        if fact.is_gold and not query.gold:
            return "gold question"
        if fact.swap_of is not None and not query.swaps:
            return "repeated the other way round"
    if query.split not in ("all", fact.split):
        return f"in the split {fact.split}"
    return None


def _translated(
    connection: Connection, what: str, ids: Sequence[str]
) -> Iterator[tuple[str, export.Rows | str]]:
    """Each id with its rows, or with why it has none."""
    for part in records.batches(ids):
        if what in export.FROM_JUDGMENTS:
            make = export.FROM_JUDGMENTS[what]
            yield from ((j.judgment.id, make(j)) for j in records.load(connection, part))
        else:
            yield from zip(part, _content(connection, what, part), strict=True)


def _content(connection: Connection, what: str, ids: Any) -> Iterator[export.Rows | str]:
    table = {"prompts": prompt, "samples": completion, "demonstrations": demonstration}[what]
    found = {r.id: r for r in connection.execute(select(table).where(table.c.id.in_(list(ids))))}
    if what == "prompts":
        for key in ids:
            row = found[key]
            kept = ("source", "licence", "language", "split")
            yield [{"prompt": row.content} | {name: row._mapping[name] for name in kept}]
        return
    wanted = {r.prompt for r in found.values()}
    asked = select(prompt.c.id, prompt.c.content).where(prompt.c.id.in_(wanted))
    contents = {r.id: r.content for r in connection.execute(asked)}
    said = [r.judgment for r in found.values() if what == "demonstrations" and r.judgment]
    judged = {j.judgment.id: j for j in records.load(connection, said)} if said else {}
    for key in ids:
        row, content = found[key], contents[found[key].prompt]
        if not row.text.strip():
            yield "an empty response"
        elif what == "samples":
            yield "written by a person" if row.author else [export.sample(content, row)]
        else:
            yield [export.demonstration(content, row, judged.get(row.judgment))]
