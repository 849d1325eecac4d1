"""How many judgments a project has, by rater and by what became of them, and how many answers an hour: counted once,
and from then on only what has been added.

What a judgment says never changes, and each has an event in the audit log, whose numbers follow each other as
transactions are committed: what a tally lacks are the judgments of the events since, and with them it is never out of
date. A project's counts take as long with a million judgments as with a thousand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, and_, cast, func, or_, select

from heedful.store.database import audit
from heedful.store.database.audit import START, Head
from heedful.store.database.bulk import batches
from heedful.store.lead.quality import ANSWERS
from heedful.store.tables.columns import Whole
from heedful.store.tables.schema import audit_event, judgment, task, task_slot

HOUR = 3600.0
KEPT = 35 * 24  # hours that a tally tells apart
MOST = 20_000  # events since: with more, as after an import, all is counted anew
WAYS = ("counted", "late", "surplus", "superseded", "skipped", "flagged")
Group = tuple[str, str, str, bool]  # rater, outcome, disposition, superseded


@dataclass(frozen=True)
class Sum:
    """Stored judgments of one rater that went the same way; together they are all that is stored."""

    rater: str
    outcome: str
    disposition: str
    superseded: bool
    n: int
    active_ms: int

    @property
    def way(self) -> str:
        """One of `WAYS`: each judgment went one of them."""
        if self.superseded:
            return "superseded"
        if self.outcome not in ANSWERS:
            return "skipped" if self.outcome == "skip" else "flagged"
        return self.disposition


@dataclass(frozen=True)
class Tally:
    """What has been counted of a project up to an event of the audit log."""

    audit: Head = START
    sums: tuple[Sum, ...] = ()
    hours: Mapping[int, int] = field(default_factory=dict)
    """Answers that count, by hour since 1970, of the last weeks."""
    extra: int = 0
    """Answers that count to gold questions and repetitions, and of reviews."""

    @property
    def stored(self) -> int:
        return sum(s.n for s in self.sums)

    @property
    def ways(self) -> Counter[str]:
        """How many went which way."""
        ways: Counter[str] = Counter()
        for s in self.sums:
            ways[s.way] += s.n
        return ways

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"hours": sorted(self.hours.items())}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Tally:
        """What `as_json` has given; `KeyError`, `TypeError` or `ValueError` for anything else."""
        sums = tuple(Sum(**s) for s in value["sums"])
        return cls(Head(**value["audit"]), sums, dict(value["hours"]), value["extra"])


def tally(connection: Connection, project: str, known: Tally | None = None) -> Tally:
    """Everything that is stored now; `known`, an earlier one of this project, need not be counted again."""
    end = audit.head(connection)
    if known is None or end.seq - known.audit.seq > MOST or not audit.has(connection, known.audit):
        return _anew(connection, project, end)
    return _gone_on(connection, project, known, end)


def _anew(connection: Connection, project: str, end: Head) -> Tally:
    j = judgment.c
    groups = (j.rater, j.outcome, j.disposition)
    # Cast: PostgreSQL's sums of 64 bits have endless digits, and are no `int` in Python.
    numbers = (func.count(), cast(func.coalesce(func.sum(j.active_ms), 0), Whole))
    all_of_them = select(*groups, *numbers).where(j.project == project).group_by(*groups)
    n: Counter[Group] = Counter()
    ms: Counter[Group] = Counter()
    for *group, number, spent in connection.execute(all_of_them):
        n[*group, False], ms[*group, False] = number, int(spent)
    corrected = _superseded(select(j.project, *groups, *numbers)).group_by(j.project, *groups)
    for owner, *group, number, spent in connection.execute(corrected):
        if owner == project:
            _move(n, tuple(group), number)
            _move(ms, tuple(group), int(spent))
    hours = _by_hour(connection, project)
    extra = select(func.count()).where(task_slot.c.project == project, task_slot.c.state == "done")
    return _told(end, n, ms, hours, connection.execute(extra_slots(extra)).scalar_one())


def _by_hour(connection: Connection, project: str) -> Counter[int]:
    j = judgment.c
    hours = j.created_at / HOUR
    # A cast rounds down in SQLite, which may come without floor(), and to the nearest in PostgreSQL.
    rounded = func.floor(hours) if connection.dialect.name == "postgresql" else hours
    hour = cast(rounded, Whole).label("hour")
    newest = select(func.max(j.created_at)).where(j.project == project)
    since = (connection.execute(newest).scalar() or 0.0) - KEPT * HOUR
    counted = (j.created_at >= since, j.outcome.in_(ANSWERS), j.disposition != "surplus")
    query = select(hour, func.count()).where(j.project == project, *counted).group_by(hour)
    found: Counter[int] = Counter()
    for h, number in connection.execute(query):
        found[h] += number
    corrections = _superseded(select(j.project, hour, func.count()).where(*counted))
    for owner, h, number in connection.execute(corrections.group_by(j.project, hour)):
        if owner == project:
            found[h] -= number
    return found


def _gone_on(connection: Connection, project: str, known: Tally, end: Head) -> Tally:
    """With the judgments since, and those that these have corrected."""
    n = Counter({_group(s): s.n for s in known.sums})
    ms = Counter({_group(s): s.active_ms for s in known.sums})
    hours, extra, old = Counter(known.hours), known.extra, judgment.alias()
    newer, before = judgment.c, old.c
    # By their ids alone: told the project too, SQLite may look through all that it has.
    query = select(newer.id, newer.project, newer.rater, *_facts(newer), before.id, *_facts(before))
    query = query.outerjoin(old, before.id == newer.supersedes)
    filled = extra_slots(select(func.count()))
    for ids in batches(_since(connection, known.audit)):
        mine: list[str] = []
        for row in connection.execute(query.where(newer.id.in_(ids))):
            key, owner, rater, outcome, disposition, spent, at, corrected, *was = row
            if owner != project:
                continue
            mine.append(key)
            n[rater, outcome, disposition, False] += 1
            ms[rater, outcome, disposition, False] += spent or 0
            hours[int(at / HOUR)] += _counts(outcome, disposition)
            if corrected is not None:
                outcome, disposition, spent, at = was
                _move(n, (rater, outcome, disposition), 1)
                _move(ms, (rater, outcome, disposition), spent or 0)
                hours[int(at / HOUR)] -= _counts(outcome, disposition)
        by = task_slot.c.judgment.in_(mine)
        extra += connection.execute(filled.where(by)).scalar_one()
    return _told(end, n, ms, hours, extra)


def _since(connection: Connection, known: Head) -> Sequence[str]:
    """Ids of the judgments whose events come after this one, of all projects."""
    e = audit_event.c
    events = select(e.detail).where(e.seq > known.seq, e.action == "judgment").order_by(e.seq)
    return [detail["judgment"] for detail in connection.execute(events).scalars()]


def extra_slots(query: Select) -> Select:
    """Only slots of gold questions and repetitions, and those beyond a task's overlap that no lead has added."""
    s = task_slot.c
    # store.work gives the slots that it adds to a task the position 0; the others are random or a score.
    beyond = and_(s.slot >= task.c.overlap, s.added.is_(False))
    is_extra = or_(task.c.is_gold, task.c.swap_of.is_not(None), beyond)
    joined = query.select_from(task_slot.join(task, task.c.id == s.task))
    return joined.where(s.position == 0.0, is_extra)


def _superseded(query: Select) -> Select:
    """Only corrected judgments, of all projects: restricted to one project, SQLite would scan all of its judgments."""
    newer = judgment.alias()
    corrected = select(newer.c.supersedes).where(newer.c.supersedes.is_not(None))
    return query.where(judgment.c.id.in_(corrected))


def _facts(columns: Any) -> tuple[Any, ...]:
    return columns.outcome, columns.disposition, columns.active_ms, columns.created_at


def _counts(outcome: str, disposition: str) -> bool:
    return outcome in ANSWERS and disposition != "surplus"


def _group(s: Sum) -> Group:
    return s.rater, s.outcome, s.disposition, s.superseded


def _move(counter: Counter[Group], group: tuple[str, ...], number: int) -> None:
    """What was corrected is that from now on."""
    rater, outcome, disposition = group
    counter[rater, outcome, disposition, False] -= number
    counter[rater, outcome, disposition, True] += number


def _told(
    end: Head, n: Counter[Group], ms: Counter[Group], hours: Counter[int], extra: int
) -> Tally:
    sums = tuple(Sum(*group, number, ms[group]) for group, number in sorted(n.items()) if number)
    recent = {h: number for h, number in hours.items() if number and h >= max(hours) - KEPT}
    return Tally(end, sums, recent, extra)
