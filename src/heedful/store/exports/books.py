"""The books of a project: of everything that is stored, how much each form exports, and why the rest is left out.

Exported and excluded are together what is stored, or there is a bug, or rows are gone. What was counted once need not
be counted again, since rows are only ever added: what a judgment says never changes, and whether it counts changes only
when another takes its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, Select, Table, func, select

from heedful.store.exports import layout, snapshot
from heedful.store.exports.outcomes import EXPORTED, FORMS, outcomes, shaped
from heedful.store.exports.snapshot import BATCH, WITHDRAWN, Count, Query
from heedful.store.project import consent
from heedful.store.tables.schema import completion, demonstration, judgment, prompt

TABLES: dict[str, Table] = {
    "judgments": judgment, "demonstrations": demonstration, "samples": completion, "prompts": prompt,
}  # fmt: skip


@dataclass(frozen=True)
class Ledger:
    """What has been counted of a project: the rows of each table up to an id, and where they went by form."""

    last: dict[str, str] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    went: dict[str, dict[str, int]] = field(default_factory=dict)
    withdrawn: list[str] = field(default_factory=list)  # whose answers counted as such


def reconcile(connection: Connection, project: str) -> dict[str, Count]:
    """For each form, how many are stored, exported and excluded for which reason; `missing` ought to be 0."""
    there = stored(connection, project)
    return counts(ledger(connection, project, there=there), there)


def stored(connection: Connection, project: str) -> dict[str, int]:
    """How many rows of a project each table has."""
    queries = {name: snapshot.number_stored(project, name) for name in TABLES}
    return {name: connection.execute(query).scalar_one() for name, query in queries.items()}


def counts(books: Ledger, there: Mapping[str, int]) -> dict[str, Count]:
    """A ledger beside what is stored now."""
    found: dict[str, Count] = {}
    for what in layout.COLUMNS:
        went = dict(books.went.get(what, {}))
        exported = went.pop(EXPORTED, 0)
        table = what if what in TABLES else "judgments"
        found[what] = Count(there[table], exported, dict(sorted(went.items())))
    return found


def ledger(
    connection: Connection,
    project: str,
    known: Ledger | None = None,
    *,
    there: Mapping[str, int] | None = None,
) -> Ledger:
    """All rows of a project counted; with an earlier ledger, those that have been added since. `there` is `stored`."""
    there = there or stored(connection, project)
    gone = consent.withdrawn(connection, project)
    if known and (known.went.keys() != layout.COLUMNS.keys() or known.withdrawn != gone):
        # of a version with other forms, or from before somebody withdrew
        known = None
    if known and any(_late(connection, project, known, name, there[name]) for name in TABLES):
        known = None
    every = connection.execute(select(func.count()).select_from(prompt)).scalar_one()
    most = 2 * there["prompts"] >= every
    books = known or Ledger()
    went = {what: Counter(books.went.get(what, {})) for what in layout.COLUMNS}
    last, rows = dict(books.last), dict(books.rows)
    for name, table in TABLES.items():
        after = last.get(name, "")
        # By the index of the project, prompts come in the order of their hashes, and what belongs to them.
        in_order = bool(after) or (most and name != "judgments")
        facts = snapshot.facts(connection, project, name, in_order=in_order)
        facts = facts.where(table.c.id > after) if after else facts
        newer, last[name] = _counted(connection, name, facts, went, after)
        rows[name] = rows.get(name, 0) + newer
        if after and name in ("judgments", "demonstrations"):
            _correct(connection, project, name, after, books.last.get("judgments", ""), went)
    return Ledger(last, rows, {what: dict(+counter) for what, counter in went.items()}, gone)


def _correct(
    connection: Connection,
    project: str,
    name: str,
    last: str,
    last_judgment: str,
    went: dict[str, Counter[str]],
) -> None:
    """What was counted, and has been corrected since, went elsewhere then."""
    j = judgment.c
    corrected = select(j.supersedes).where(j.id > last_judgment, j.supersedes <= last_judgment)
    owner = j.id if name == "judgments" else demonstration.c.judgment
    facts = snapshot.facts(connection, project, name, as_before=True)
    then = facts.where(TABLES[name].c.id <= last, owner.in_(corrected))
    before: dict[str, Counter[str]] = {what: Counter() for what in went}
    _counted(connection, name, then, before)
    for what, counter in before.items():
        if what != "judgments":  # that form has corrected ones, too
            went[what].subtract(counter)
            went[what]["corrected later"] += counter.total()


def _counted(
    connection: Connection, name: str, facts: Select, went: dict[str, Counter[str]], after: str = ""
) -> tuple[int, str]:
    """Add to `went` by form where these rows go: why they are left out, or `EXPORTED`; how many, and the last id."""
    query = Query("comparisons" if name == "judgments" else name)  # all for training are alike here
    rows, last = 0, after
    groups = _alike(shaped(connection, facts) if name == "judgments" else facts)
    for part in connection.execute(groups.execution_options(yield_per=BATCH)).partitions():
        reasons = {one.first: snapshot.exclusion_reason(one, query) for one in part}
        left = [key for key, reason in reasons.items() if reason is None]
        told = outcomes(connection, left) if name == "judgments" else {}
        for one in part:
            rows, last, reason = rows + one.n, max(last, one.last), reasons[one.first]
            if name != "judgments":
                went[name][reason or EXPORTED] += one.n
                continue
            went[name][WITHDRAWN if one.withdrawn else EXPORTED] += one.n
            for what in FORMS:
                went[what][reason or told[one.first][what]] += one.n
    return rows, last


def _alike(facts: Select) -> Select:
    """How many rows have the same facts, with the first and the last of their ids."""
    each = facts.subquery()
    same = [column for column in each.c if column.name not in ("id", "prompt")]
    ends = (func.min(each.c.id).label("first"), func.max(each.c.id).label("last"))
    return select(func.count().label("n"), *ends, *same).group_by(*same)


def _late(connection: Connection, project: str, known: Ledger, name: str, stored: int) -> bool:
    """Whether rows have come since with ids before the last: a transaction that took long, another clock."""
    if not (last := known.last.get(name)):
        return False
    facts = snapshot.facts(connection, project, name, in_order=True)
    newer = facts.where(TABLES[name].c.id > last).subquery()
    number = connection.execute(select(func.count()).select_from(newer)).scalar_one()
    return stored - number > known.rows[name]
