"""From judgments to rows: which are exported, why the others are not, and reproducibly so.

`heedful export`, `db:` sources and the rounds of `heedful iterate` all read judgments through this module. Everything
that rows are made of is immutable, so a snapshot always gives the same rows, whatever raters answer in the meantime.
Exported and excluded with a reason are together all that is stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, Row, Select, case, exists, func, literal, select

from heedful.errors import UserError, did_you_mean
from heedful.store.database.db import Store, insert
from heedful.store.exports import contents, export, forms, layout
from heedful.store.exports.outcomes import EXPORTED, FORMS, is_blank, outcomes, shaped
from heedful.store.kinds import SCREEN, UNANSWERED
from heedful.store.project import consent, records, screens
from heedful.store.project.content import digest
from heedful.store.tables.columns import canonical
from heedful.store.tables.schema import (
    dataset_snapshot,
    judgment,
    prompt,
    question_answer,
    task,
    trial,
)

BATCH = 2000  # rows looked at at once
BEYOND = ("surplus", "gold", "swaps")  # answers that are left out unless they are asked for
MOST = 100_000  # kinds of them that are remembered
WITHDRAWN = "withdrawn by who gave it"
TICK = 500  # rows between two looks at how far it is
Split = Literal["all", "train", "held_out"]


@dataclass(frozen=True)
class Query:
    """What to export. Only an answer's latest revision is ever used for training."""

    what: str
    split: Split = "all"
    surplus: bool = False  # answers beyond the overlap that was asked for
    gold: bool = False  # answers to questions whose answer is known
    swaps: bool = False  # the same pair asked again the other way round
    margin: bool = False  # TRL's column `margin`: the strength, 0 where nobody was asked
    question: str = ""  # of a screen, the one that the rows are of; none: see forms.rows_of

    def __post_init__(self) -> None:
        if self.what not in layout.COLUMNS:
            known = ", ".join(layout.COLUMNS)
            raise UserError(
                f"cannot export '{self.what}'{did_you_mean(self.what, layout.COLUMNS)}, only {known}"
            )
        if self.split not in ("all", "train", "held_out"):
            raise UserError(f"split must be all, train or held_out, not '{self.split}'")
        if self.margin and self.what != "comparisons":
            raise UserError("only comparisons have a margin")
        if self.question and self.what not in export.TRAINING:
            raise UserError(f"{self.what} are not of one question; leave it out")


@dataclass(frozen=True)
class Count:
    """How many of the stored answers (or prompts, …) are exported, and how many are not for which reason."""

    stored: int
    exported: int
    excluded: dict[str, int]

    @property
    def missing(self) -> int:
        """0, unless there is a bug."""
        return self.stored - self.exported - sum(self.excluded.values())


@dataclass(frozen=True)
class Snapshot:
    """A row of dataset_snapshot."""

    id: str
    project: str
    query: Query
    ids: tuple[str, ...]
    form: str  # of the prompts: text, messages, mixed; +tools where some have columns for the chat template
    count: Count
    sha256: str
    of_screens: dict[str, str] = field(default_factory=dict)  # columns of several questions

    @property
    def columns(self) -> dict[str, str]:
        columns = layout.columns_of(self.query.what, self.form) | self.of_screens
        if self.query.what == "comparisons" and not self.query.margin:
            del columns["margin"]
        return columns


def take(store: Store, project: str, query: Query, tasks: Sequence[str] | None = None) -> Snapshot:
    """Choose what to export, in one consistent view, and store the choice; an equal choice is the same snapshot.

    `tasks`: only what was said of these questions.
    """
    wanted = [name for name in BEYOND if getattr(query, name)]
    if wanted and query.what not in export.TRAINING:
        known = ", ".join(export.TRAINING)
        raise UserError(
            f"{' and '.join(wanted)}: only where rows are made for training ({known}); leave it out for {query.what}"
        )
    if tasks is not None and query.what in contents.TABLES:
        raise UserError(
            f"{query.what} are not exported by question, only what is made of judgments"
        )

    def look(connection: Connection) -> tuple[list[str], str, Count, dict[str, str]]:
        if query.question:
            _refuse_unknown(connection, project, query.question)
        chosen = choose(connection, project, query, tasks)
        return *chosen, _of_screens(connection, project, query.what)

    ids, form, count, of_screens = store.in_read(look)
    body = {**asdict(query), "schema": layout.SCHEMA, "form": form, **asdict(count)}
    if not query.question:
        del body["question"]  # as before there were several
    if of_screens:
        body["of_screens"] = list(of_screens.items())
    judged = query.what in export.FROM_JUDGMENTS
    if not judged:
        body["ids"] = ids
    row = {"query": body, "judgments": ids if judged else []}
    row |= {"project": project, "sha256": digest(row)}
    duplicate = select(dataset_snapshot.c.id).where(
        dataset_snapshot.c.project == project, dataset_snapshot.c.sha256 == row["sha256"]
    )

    def add(connection: Connection) -> str:
        key = connection.execute(duplicate).scalar()
        return key or insert(connection, dataset_snapshot, **row)

    key = store.in_write(add)
    return Snapshot(key, project, query, tuple(ids), form, count, row["sha256"], of_screens)


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
    if body.pop("schema") != layout.SCHEMA:
        raise UserError(f"snapshot {key} is of another version of heedful's exports")
    ids, form = body.pop("ids", row.judgments), body.pop("form")
    count = Count(body.pop("stored"), body.pop("exported"), body.pop("excluded"))
    if body["what"] not in ("prompts", "samples"):
        gone = consent.taken_back(connection, ids, contents.TABLES.get(body["what"], judgment))
        ids, excluded = [key for key in ids if key not in gone], Counter(count.excluded)
        excluded[WITHDRAWN] += len(gone)
        count = Count(count.stored, count.exported - len(gone), dict(+excluded))
    of_screens = dict(body.pop("of_screens", ()))
    return Snapshot(key, project, Query(**body), tuple(ids), form, count, row.sha256, of_screens)


def choose(
    connection: Connection, project: str, query: Query, tasks: Sequence[str] | None = None
) -> tuple[list[str], str, Count]:
    """Ids of what has rows, sorted; the form of the prompts; the count.

    `tasks`: only judgments on these. What a judgment says and whether it counts is decided here alone.
    """
    everything = number_stored(project, query.what)
    deciding = facts(connection, project, query.what)
    if query.what in FORMS:
        deciding = shaped(connection, deciding)
    stored, excluded = 0, Counter[str]()
    ids: list[str] = []
    prompts: set[str] = set()
    known: dict[tuple[Any, ...], str] = {}
    for conditions in _task_conditions(tasks):
        stored += connection.execute(everything.where(*conditions)).scalar_one()
        some = deciding.where(*conditions).execution_options(yield_per=BATCH)
        for part in connection.execute(some).partitions():
            _decide(connection, query, part, known)
            for fact in part:
                if reason := known[fact[2:]]:
                    excluded[reason] += 1
                else:
                    ids.append(fact[0])
                    prompts.add(fact[1])
    ids.sort()
    found = contents.forms(connection, query.what, sorted(prompts))
    shapes = found - {"tools"} or {"text"}
    form = "mixed" if len(shapes) > 1 else shapes.pop()
    form = f"{form}+tools" if "tools" in found else form
    return ids, form, Count(stored, len(ids), dict(sorted(excluded.items())))


def _decide(
    connection: Connection, query: Query, facts: Sequence[Row], known: dict[tuple[Any, ...], str]
) -> None:
    """`EXPORTED`, or why not, for whatever stands in these rows behind the ids, as few of which are new."""
    if len(known) > MOST:
        known.clear()
    asked: dict[Any, str] = {}
    for key, fact in {fact[2:]: fact for fact in facts if fact[2:] not in known}.items():
        known[key] = exclusion_reason(fact, query) or EXPORTED
        if known[key] == EXPORTED and query.what in FORMS:
            asked[key] = fact.id
    told = outcomes(connection, asked.values(), query.question) if asked else {}
    known |= {key: told[fact][query.what] for key, fact in asked.items()}


def rows(
    connection: Connection,
    query: Query,
    ids: Sequence[str],
    tick: Callable[[int], object] | None = None,
) -> Iterator[dict[str, Any]]:
    """The rows of chosen ids, always in the same order; `tick` hears of how many ids they are so far."""
    for n, (key, result) in enumerate(_rows(connection, query.what, ids, query.question), 1):
        if tick and (n % TICK == 0 or n == len(ids)):
            tick(n)
        if isinstance(result, str):
            raise AssertionError(f"{key} was chosen and has no rows: {result}")
        for row in map(layout.with_template_columns, result):
            yield {**row, "margin": row["strength"] or 0.0} if query.margin else row


def _of_screens(connection: Connection, project: str, dataset: str) -> dict[str, str]:
    """The columns that a form has because tasks of the project ask several questions."""
    if dataset not in ("judgments", *forms.OF_EVERY_QUESTION):
        return {}
    if connection.execute(select(question_answer.c.judgment).limit(1)).first() is None:
        return {}  # nearly always, and quick
    lists = [options for kind, options in _asked(connection, project) if kind == SCREEN]
    if dataset != "judgments":
        return {"question": "text"} if lists else {}
    columns: dict[str, str] = {}
    for options in sorted(lists, key=canonical):
        columns |= screens.columns(screens.questions_of(SCREEN, options))
    return columns


def _asked(connection: Connection, project: str) -> list[tuple[str, dict[str, Any]]]:
    """The different kinds and options of a project's tasks."""
    query = select(task.c.kind, task.c.options).where(task.c.project == project).distinct()
    return [(row.kind, row.options) for row in connection.execute(query)]


def _refuse_unknown(connection: Connection, project: str, question: str) -> None:
    lists = [screens.questions_of(*asked) for asked in _asked(connection, project)]
    names = sorted({q.name for questions in lists for q in questions})
    if question not in names:
        known = f"; it has {', '.join(names)}" if names else "; it has none"
        raise UserError(
            f"this project asks no question '{question}'{did_you_mean(question, names)}{known}"
        )


def _task_conditions(tasks: Sequence[str] | None) -> Iterator[list[Any]]:
    """Conditions that select the judgments on these tasks, one for each batch of them."""
    if tasks is None:
        yield []
        return
    for part in records.batches(tasks):
        yield [judgment.c.task.in_(part)]


def number_stored(project: str, dataset: str) -> Select:
    """How many rows of a project the form is made of."""
    if dataset in contents.TABLES and dataset != "prompts":
        in_project = select(prompt.c.id).where(prompt.c.project == project)
        condition = contents.TABLES[dataset].c.prompt.in_(in_project)
    else:
        condition = (prompt if dataset == "prompts" else judgment).c.project == project
    return select(func.count()).select_from(contents.TABLES.get(dataset, judgment)).where(condition)


def facts(
    connection: Connection,
    project: str,
    dataset: str,
    *,
    as_before: bool = False,
    in_order: bool = False,
) -> Select:
    """Their ids and prompts, and behind these what decides on their export; `as_before` any was corrected.

    `in_order`: all projects' are looked through as they lie, or by their ids, and not by the index of the project.
    """

    def of_project(column: Any) -> Any:
        return (func.coalesce(column, "") if in_order else column) == project

    gone = consent.withdrawn(
        connection, project
    )  # nearly always nobody, and then nothing is looked up
    corrected = literal(False) if as_before else records.corrected()
    of_judgment: list[Any] = [
        judgment.c.outcome,
        judgment.c.disposition,
        judgment.c.task.is_not(None).label("is_judged"),
        corrected.label("corrected"),
        task.c.is_gold,
        # Asked of gold questions alone: of all judgments it would be a search for each.
        case(
            (task.c.is_gold, exists().where(trial.c.assignment == judgment.c.assignment)),
            else_=literal(False),
        ).label("trial"),
        task.c.swap_of.is_not(None).label("is_swap"),
        task.c.kind,
        (judgment.c.rater.in_(gone) if gone else literal(False)).label("withdrawn"),
    ]
    table = contents.TABLES.get(dataset, judgment)
    columns: list[Any] = [table.c.id, prompt.c.id.label("prompt"), prompt.c.split]
    if dataset not in contents.TABLES:
        joined = judgment.join(task, task.c.id == judgment.c.task)
        joined = joined.join(prompt, prompt.c.id == task.c.prompt)
        query = select(*columns, *of_judgment).select_from(joined)
        return query.where(of_project(judgment.c.project))
    if dataset != "prompts":
        columns.append(is_blank(connection, table.c.text).label("is_blank"))
    if dataset == "samples":
        columns.append(table.c.author.is_not(None).label("of_a_person"))
    joined = table if dataset == "prompts" else table.join(prompt, prompt.c.id == table.c.prompt)
    if dataset == "demonstrations":
        joined = joined.outerjoin(judgment, judgment.c.id == table.c.judgment)
        joined = joined.outerjoin(task, task.c.id == judgment.c.task)
        columns += [table.c.question, *of_judgment]
    return select(*columns).select_from(joined).where(of_project(prompt.c.project))


def exclusion_reason(fact: Row, query: Query) -> str | None:
    """Why this is not exported; the first reason counts."""
    if query.what == "judgments" and fact.withdrawn:
        return WITHDRAWN
    if query.what in export.TRAINING and fact.is_judged:
        if fact.corrected:
            return "corrected later"
        if fact.withdrawn:
            return WITHDRAWN
        if fact.outcome in UNANSWERED:
            return "skipped" if fact.outcome == "skip" else "flagged"
        if fact.disposition == "surplus" and not query.surplus:
            return "surplus"
        if fact.trial:
            return "before the real work"
        if fact.is_gold and not query.gold:
            return "gold question"
        if fact.is_swap and not query.swaps:
            return "repeated the other way round"
    if query.split not in ("all", fact.split):
        return f"in the split {fact.split}"
    if query.what == "demonstrations" and query.question not in ("", fact.question or fact.kind):
        return forms.ANOTHER
    if query.what in ("samples", "demonstrations"):
        if fact.is_blank:
            return "an empty response"
        if query.what == "samples" and fact.of_a_person:
            return "written by a person"
    return None


def _rows(
    connection: Connection, dataset: str, ids: Sequence[str], question: str = ""
) -> Iterator[tuple[str, export.Rows | str]]:
    """Each id with its rows."""
    if dataset in export.FROM_JUDGMENTS:
        read = {"rankings": records.TRAINING, "judgments": records.EVERYTHING}
        judged = records.stream(connection, ids, read.get(dataset, records.UNSHOWN))
        for j in judged:
            if dataset in FORMS:
                yield j.judgment.id, forms.rows_of(dataset, j, question)
            else:
                yield j.judgment.id, export.FROM_JUDGMENTS[dataset](j)
        return
    for part in records.batches(ids):
        yield from zip(part, contents.rows(connection, dataset, part), strict=True)
