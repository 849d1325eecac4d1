"""Alerts for leads: who answers in no time, misses gold questions, keeps to one place, agrees less and less.

Each is computed from the newest answers in the store, against a threshold among the project's settings (0 switches it
off). What is statistical rings only where its whole 99 % interval is beyond the threshold: chance rings seldom.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from sqlalchemy import Connection, exists, func, select

from heedful.errors import UserError
from heedful.raters import watch
from heedful.raters.agreement import Share, share
from heedful.raters.watch import LEVEL, Estimate
from heedful.store.database.db import now
from heedful.store.kinds import KINDS
from heedful.store.lead import quality
from heedful.store.lead.quality import Answer
from heedful.store.membership import rights
from heedful.store.project import projects
from heedful.store.project.gold import Key
from heedful.store.project.projects import Settings, settings_of
from heedful.store.tables.schema import judgment, project_member, rater, task_slot
from heedful.web import insight

DAY = 86400.0
WEEK = 7 * DAY
WHAT = ("hasty", "gold", "place", "fall", "pace", "silent")
RECENT, GOLD, SHARED = 4_000, 2_000, 1_000  # answers, answers, tasks; of all raters together
EACH = 200  # newest answers of a rater that a share is made of
FEWEST = 10  # answers of a rater before any of them is called hasty: once is a slip of the finger
LEAST = 20  # answers of a rater before their pace is compared
Found = Iterator[tuple[str | None, Estimate, float]]  # whose, how much, beyond which threshold


def of_project(connection: Connection, project: str) -> list[dict[str, Any]]:
    """{what, rater, pseudonym, paused, value, low, high, n, threshold} of each alert that rings, rater by rater; of
    those about the whole project `rater` is None. `what` is one of:

    hasty: the share of answers within `alert_seconds`; gold: the share of gold questions that are right; place: the
    share of pairs in which the response shown first won; fall: how much less often they say what others say than
    before; pace: their median seconds, where the others' median is `beside`; silent: days since the last answer.
    """
    settings = settings_of(connection, project)
    ids = quality.newest(connection, project, limit=RECENT)
    gold_ids = quality.newest_gold(connection, project, per_rater=EACH)[:GOLD]
    shared_ids = quality.shared(connection, project, limit=SHARED)
    loaded = quality.load(connection, list(dict.fromkeys([*ids, *gold_ids, *shared_ids])))
    recent, gold, shared = (
        [a for a in loaded if a.person and a.judgment in keys]
        for keys in map(set, (ids, gold_ids, shared_ids))
    )
    keys = quality.gold_keys(connection, {a.task for a in gold})
    found = rung(recent, gold, keys, [a for a in shared if a.regular], settings)
    people = _people(connection, project, {alert.rater for alert in found if alert.rater})
    told = [asdict(alert) | people.get(alert.rater or "", {}) for alert in found]
    told.sort(key=lambda alert: (alert.get("pseudonym") or "", alert["what"]))
    quiet = {(d["what"], d["rater"]) for d in _still_dismissed(settings, now(connection))}
    every = [*_silence(connection, project, settings), *told]
    return [alert for alert in every if (alert["what"], alert["rater"]) not in quiet]


def dismiss(
    connection: Connection, project: str, what: str, rater_id: str | None, *, actor: str
) -> None:
    """Say nothing of this alert for a week; what was dismissed longer ago is forgotten."""
    if what not in WHAT:
        raise UserError(f"there is no alert '{what}', only {', '.join(WHAT)}")
    at = now(connection)
    kept = [
        d
        for d in _still_dismissed(settings_of(connection, project), at)
        if (d["what"], d["rater"]) != (what, rater_id)
    ]
    dismissed = [*kept, {"what": what, "rater": rater_id, "at": at}]
    projects.change(connection, project, {"dismissed": dismissed}, actor=actor)


def _still_dismissed(settings: Settings, at: float) -> list[dict[str, Any]]:
    return [d for d in settings.dismissed if d["at"] > at - WEEK]


@dataclass(frozen=True)
class Alert:
    """What rings, of whom (None: the whole project), with its interval beyond the threshold."""

    what: str
    rater: str | None
    value: float
    low: float | None
    high: float | None
    n: int | None
    threshold: float
    beside: float | None = None


def rung(
    recent: Sequence[Answer],
    gold: Sequence[Answer],
    keys: Mapping[str, Key],
    shared: Sequence[Answer],
    settings: Settings,
) -> list[Alert]:
    """The alerts that these answers of people ring: the newest ones, those to gold questions with their keys by task,
    and those to questions that several have answered."""
    newest = _by_rater(recent)
    each = {
        "hasty": _hasty(newest, settings),
        "gold": _gold(_by_rater(gold), keys, settings),
        "place": _places(newest, settings),
        "fall": _falls(shared, settings),
    }
    found = [
        Alert(what, who, **asdict(estimate), threshold=threshold)
        for what, alerts in each.items()
        for who, estimate, threshold in alerts
    ]
    for who, estimate, threshold, beside in _paces(newest, settings):
        found.append(Alert("pace", who, **asdict(estimate), threshold=threshold, beside=beside))
    return found


def _by_rater(answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    """The newest `EACH` of each rater, the newest first."""
    by_rater: dict[str, list[Answer]] = defaultdict(list)
    for answer in sorted(answers, key=lambda a: -a.created_at):
        if len(by_rater[answer.rater]) < EACH:
            by_rater[answer.rater].append(answer)
    return by_rater


def _seconds(answers: Sequence[Answer]) -> list[float]:
    """Of each screen once, however many questions are on it."""
    once = {a.judgment: a.seconds for a in answers}
    return [seconds for seconds in once.values() if seconds is not None]


def _estimate(s: Share) -> Estimate | None:
    if s.value is None or s.low is None or s.high is None:
        return None
    return Estimate(s.value, s.low, s.high, s.n)


def _share(count: int, n: int) -> Estimate | None:
    return _estimate(share(count, n, level=LEVEL))


def _hasty(recent: dict[str, list[Answer]], settings: Settings) -> Found:
    if not settings.alert_seconds:
        return
    for who, answers in recent.items():
        seconds = _seconds(answers)
        found = _share(sum(s <= settings.alert_seconds for s in seconds), len(seconds))
        if found and found.n >= FEWEST and found.low > settings.alert_hasty:
            yield who, found, settings.alert_hasty


def _gold(gold: dict[str, list[Answer]], keys: Mapping[str, Key], settings: Settings) -> Found:
    if not settings.alert_gold:
        return
    for who, answers in gold.items():
        right = quality.right(answers, keys)
        found = _share(sum(right.values()), len(right))
        if found and found.high < settings.alert_gold:
            yield who, found, settings.alert_gold


def _places(recent: dict[str, list[Answer]], settings: Settings) -> Found:
    """Orders are drawn by chance: it is one half, unless somebody looks at the place instead of the response."""
    if not settings.alert_place:
        return
    for who, answers in recent.items():
        compared = [a for a in answers if a.compares]  # one of each screen
        places = [a.place for a in compared if a.kind in KINDS and KINDS[a.kind].swaps]
        places = [place for place in places if place is not None]
        found = _share(sum(place == 0 for place in places), len(places))
        if found and (found.low > settings.alert_place or found.high < 1 - settings.alert_place):
            yield who, found, settings.alert_place


def _falls(shared: Sequence[Answer], settings: Settings) -> Found:
    """Of each rater, and of the project: the newer half of what several have answered beside the older one."""
    if not settings.alert_drop:
        return
    at = {(a.task, a.rater): a.created_at for a in shared}
    own: dict[tuple[str, str], list[float]] = defaultdict(list)
    for (_, kind, _), t in insight.ratings(shared).items():
        measure = KINDS[kind].measure if kind in KINDS else None
        if measure is None or measure.span is None:
            continue  # scores on a scale are never quite the same
        for key, value in watch.agreements(t.units, t.raters, t.values, t.tasks).items():
            own[key].append(value)
    by_rater: dict[str, list[tuple[float, float]]] = defaultdict(list)
    by_task: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (task, who), values in own.items():
        pair = (at[task, who], sum(values) / len(values))
        by_rater[who].append(pair)
        by_task[task].append(pair)
    whole = [
        (max(t for t, _ in pairs), sum(v for _, v in pairs) / len(pairs))
        for pairs in by_task.values()
    ]
    for who, pairs in (*by_rater.items(), (None, whole)):
        found = watch.halves([value for _, value in sorted(pairs)])
        if found and found.low > settings.alert_drop:
            yield who, found, settings.alert_drop


def _paces(
    recent: dict[str, list[Answer]], settings: Settings
) -> Iterator[tuple[str, Estimate, float, float]]:
    """Much faster than the others: whose median, with all of its interval, is below a share of theirs."""
    if not settings.alert_pace:
        return
    typical = {}
    for who, answers in recent.items():
        seconds = _seconds(answers)
        if len(seconds) >= LEAST and (found := watch.typical(seconds)):
            typical[who] = found
    for who, found in typical.items():
        others = [other.value for name, other in typical.items() if name != who]
        if len(others) >= 2 and found.high < settings.alert_pace * median(others):
            yield who, found, settings.alert_pace, median(others)


def _silence(connection: Connection, project: str, settings: Settings) -> list[dict[str, Any]]:
    """Answers are wanted, and nobody has given one for days."""
    if not settings.alert_silence:
        return []
    newest = select(func.max(judgment.c.created_at)).where(judgment.c.project == project)
    last = connection.execute(newest).scalar()
    wanted = exists().where(task_slot.c.project == project, task_slot.c.state == "open")
    if last is None or not connection.execute(select(wanted)).scalar():
        return []
    days = (now(connection) - last) / DAY
    if days <= settings.alert_silence:
        return []
    return [asdict(Alert("silent", None, days, None, None, None, settings.alert_silence))]


def _people(connection: Connection, project: str, ids: set[str]) -> dict[str, dict[str, Any]]:
    m = project_member.c
    joined = rater.outerjoin(project_member, (m.rater == rater.c.id) & (m.project == project))
    query = select(rater.c.id, rater.c.pseudonym, rater.c.role, rater.c.status, m.paused)
    people = {}
    for row in connection.execute(query.select_from(joined).where(rater.c.id.in_(ids))):
        has = rights.standing(connection, project, row.id, row.role)
        answers = row.status == "active" and has is not None and has.role is not None
        people[row.id] = {
            "pseudonym": row.pseudonym,
            "paused": bool(row.paused),
            "answers": answers,
        }
    return people
