"""Progress of a project for its lead: answers so far, answers left, cost, and what was skipped or flagged.

What is stored comes from a tally (`store.lead.tally`); what is left is counted in SQL, on indexes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, Row, exists, func, select

from heedful.errors import UserError
from heedful.store.database import audit
from heedful.store.database.bulk import batches
from heedful.store.database.db import now
from heedful.store.kinds import UNANSWERED
from heedful.store.lead.tally import HOUR, WAYS, Tally, extra_slots, tally
from heedful.store.project import lifecycle
from heedful.store.project.projects import settings_of
from heedful.store.project.records import shown
from heedful.store.rating import asides, work
from heedful.store.rating.queue import shows_own
from heedful.store.tables.schema import (
    assignment,
    guideline_version,
    judgment,
    project,
    prompt,
    rater,
    task,
    task_slot,
)

DAY = 86400.0
DAYS = 30  # of the charts
PACE_DAYS = 7.0  # the pace that the projected end assumes
STATES = ("done", "leased", "open", "parked", "closed")
Which = Literal["parked", "all"]
Shelf = Literal["active", "archived", "deleted"]
Count = Callable[[Connection, str], Tally]  # of a project: `tally`, or what remembers earlier ones


def overview(connection: Connection, project_id: str, count: Count = tally) -> dict[str, Any]:
    """Answers by hour, answers wanted by state, the projected end, the cost, and where every judgment went."""
    settings, timestamp = settings_of(connection, project_id), now(connection)
    counted = count(connection, project_id)
    ways, spent = counted.ways, Counter[str]()
    for s in counted.sums:
        spent[s.rater] += s.active_ms
    regular, extra = slots(connection, project_id, counted)
    since = (timestamp - DAYS * DAY) / HOUR
    hours = [[h, n] for h, n in sorted(counted.hours.items()) if h >= since - 1]
    parked = select(func.count(task_slot.c.task.distinct())).where(
        task_slot.c.project == project_id, task_slot.c.state == "parked"
    )
    return {
        "at": timestamp,
        "days": DAYS,
        "hours": hours,
        "answers": answers(counted),
        "parked_tasks": connection.execute(parked).scalar_one(),
        "wanted": {state: regular[state] for state in STATES},
        "end": _projected_end(timestamp, hours, regular, extra),
        "cost": _cost(connection, spent, settings.cost_per_hour, answers(counted)),
        "stored": counted.stored,
        "ways": {way: ways[way] for way in WAYS},
        "alerts": asides.alerts(connection, project_id),
    }


def slots(
    connection: Connection, project_id: str, counted: Tally
) -> tuple[Counter[str], Counter[str]]:
    """Answers wanted by state: regular ones, and extra ones (gold questions, repetitions, reviews).

    Each answer that counts has filled a slot, so those that are done need not be looked at.
    """
    s = task_slot.c
    left = (s.project == project_id, s.state.in_((*STATES[1:], "review")))
    states = select(s.state, func.count()).where(*left).group_by(s.state)
    total, extra = (_counts(connection, query) for query in (states, extra_slots(states)))
    total["done"], extra["done"] = answers(counted), counted.extra
    return total - extra, extra


def answers(counted: Tally) -> int:
    """How many count."""
    return counted.ways["counted"] + counted.ways["late"]


def _counts(connection: Connection, query: Any) -> Counter[Any]:
    rows: list[Any] = list(connection.execute(query))
    return Counter(dict(rows))


def _projected_end(
    timestamp: float, hours: Sequence[Sequence[int]], regular: Counter[str], extra: Counter[str]
) -> dict[str, Any]:
    """When nothing is left at the pace of the last week, of which some answers go to gold and repetitions."""
    left = regular["open"] + regular["leased"]
    recent = [(h * HOUR, n) for h, n in hours if h * HOUR > timestamp - PACE_DAYS * DAY]
    projection: dict[str, Any] = {"left": left, "a_day": None, "at": None}
    if not recent:
        return projection
    days = max(1.0, min(PACE_DAYS, (timestamp - min(h for h, _ in recent)) / DAY))
    regular_share = regular["done"] / max(1, regular["done"] + extra["done"])
    pace = regular_share * sum(n for _, n in recent) / days
    projection["a_day"] = round(pace, 1)
    if left and pace > 0:
        projection["at"] = timestamp + left / pace * DAY
    return projection


def _cost(
    connection: Connection, spent: Counter[str], default: float, given: int
) -> dict[str, Any]:
    """Active time times the price of an hour: the rater's own, else the project's. Judges cost nothing here."""
    total = people_ms = 0.0
    people = [r for r in connection.execute(select(rater)) if r.id in spent and r.role != "judge"]
    for r in people:
        hourly = r.settings.get("cost_per_hour")
        people_ms += spent[r.id]
        total += spent[r.id] / 3.6e6 * (default if hourly is None else hourly)
    return {
        "hours": round(people_ms / 3.6e6, 3),
        "total": round(total, 2),
        "an_answer": round(total / given, 4) if given else None,
    }


def projects(
    connection: Connection, which: Shelf = "active", count: Count = tally
) -> list[dict[str, Any]]:
    """The projects that are in use, archived or deleted, with what is stored and what is left to answer."""
    overviews, p = [], project.c
    there = {
        "active": (p.archived_at.is_(None), p.deleted_at.is_(None)),
        "archived": (p.archived_at.is_not(None), p.deleted_at.is_(None)),
        "deleted": (p.deleted_at.is_not(None),),
    }
    for row in connection.execute(select(project).where(*there[which]).order_by(p.name)):
        counted = count(connection, row.id)
        regular, _ = slots(connection, row.id, counted)
        newest = select(func.max(judgment.c.created_at)).where(judgment.c.project == row.id)
        overviews.append(
            {
                "id": row.id,
                "name": lifecycle.shown_name(row),
                "created_at": row.created_at,
                "stored": counted.stored,
                "last_at": connection.execute(newest).scalar(),
                "wanted": {state: regular[state] for state in STATES},
            }
        )
    return overviews


def guideline_versions(connection: Connection, project_id: str) -> list[dict[str, Any]]:
    """Every version, the newest first, with how often a question was shown with it."""
    g, a = guideline_version.c, assignment.c
    counts = (
        select(a.guideline_version, func.count().label("shown"))
        .where(a.project == project_id)
        .group_by(a.guideline_version)
        .subquery()
    )
    query = (
        select(g.id, g.body, g.created_at, func.coalesce(counts.c.shown, 0).label("shown"))
        .outerjoin(counts, counts.c.guideline_version == g.id)
        .where(g.project == project_id)
        .order_by(g.created_at.desc(), g.id.desc())
    )
    return [dict(row._mapping) for row in connection.execute(query)]


def aside(
    connection: Connection,
    project_id: str,
    *,
    which: Which = "parked",
    after: int = 0,
    limit: int = 20,
) -> dict[str, Any]:
    """Tasks that were skipped or flagged, the newest first, with every reason given.

    {total, tasks: [{task, kind, parked, prompt, responses, reasons: [{rater, outcome, reason, at}]}]}; texts are
    raw. `which` = parked: only those that wait for the lead.
    """
    settings_of(connection, project_id)
    if which == "parked":
        waits = (task_slot.c.project == project_id, task_slot.c.state == "parked")
        tasks = select(task_slot.c.task).where(*waits).distinct().order_by(task_slot.c.task.desc())
    else:
        a = assignment.c
        # By rater: there is an index on (rater, state), and none on the state alone. Nor by that of the project, which
        # has all of its assignments.
        declined = (a.rater.in_(select(rater.c.id)), a.state.in_(("skipped", "flagged")))
        there = func.coalesce(a.project, "") == project_id
        tasks = select(a.task).where(*declined, there).group_by(a.task)
        tasks = tasks.order_by(func.max(a.leased_at).desc(), a.task)
    total = connection.execute(select(func.count()).select_from(tasks.subquery())).scalar_one()
    keys = list(connection.execute(tasks.offset(after).limit(limit)).scalars())
    by_id = questions(connection, keys)
    judgments = (
        select(judgment, rater.c.pseudonym)
        .join(rater, rater.c.id == judgment.c.rater)
        .where(judgment.c.task.in_(keys), judgment.c.outcome.in_(UNANSWERED))
        .order_by(judgment.c.created_at, judgment.c.id)
    )
    reasons: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for r in connection.execute(judgments):  # a later revision takes the place of the earlier one
        reasons[r.task][r.assignment] = {
            "rater": r.pseudonym,
            "outcome": r.outcome,
            "reason": r.text,
            "at": r.created_at,
        }
    for key in keys:
        by_id[key]["reasons"] = list(reasons[key].values())
    return {"total": total, "tasks": [by_id[key] for key in keys]}


def questions(connection: Connection, tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Of each task {task, kind, parked, options, prompt, completions, responses, episodes}: ids, raw texts, and of
    episodes what they were worth, by its id."""
    by_id: dict[str, dict[str, Any]] = {}
    parked = exists().where(task_slot.c.task == task.c.id, task_slot.c.state == "parked")
    query = select(task, prompt.c.content, parked.label("parked")).join(
        prompt, prompt.c.id == task.c.prompt
    )
    for part in batches(tasks):
        rows: Sequence[Row] = connection.execute(query.where(task.c.id.in_(part))).all()
        words = shown(connection, [c for r in rows for c in r.completions])
        for r in rows:
            by_id[r.id] = {
                "task": r.id,
                "kind": r.kind,
                "parked": bool(r.parked),
                "options": r.options,
                "prompt": r.content,
                "completions": r.completions,
                "responses": [words[c][0] for c in r.completions],
                "episodes": [words[c][1] for c in r.completions],
            }
    return by_id


def review(connection: Connection, task_id: str, rater_id: str) -> dict[str, str]:
    """Give a task to the lead, whatever its overlap; {assignment, project}, the same again while it is open."""
    if connection.execute(select(shows_own(task_id, rater_id))).scalar_one():
        raise UserError("one of these responses is your own: somebody else should judge it")
    assignment_id = work.assign(connection, task_id, rater_id, shown=True)
    audit.record(connection, rater_id, "task.review", task=task_id, assignment=assignment_id)
    query = select(assignment.c.project).where(assignment.c.id == assignment_id)
    return {"assignment": assignment_id, "project": connection.execute(query).scalar_one()}


def unpark(connection: Connection, task_id: str, *, close: bool, actor: str) -> int:
    """Ask a task again that was set aside, or never again; how many answers wanted changed their state."""
    if connection.execute(select(task.c.id).where(task.c.id == task_id)).first() is None:
        raise UserError("there is no such task")
    changed = work.unpark(connection, task_id, close=close)
    if not close:
        asides.settle(connection, task_id)
    audit.record(connection, actor, "task.close" if close else "task.unpark", task=task_id)
    return changed
