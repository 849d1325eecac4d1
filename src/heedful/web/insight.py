"""What the lead's pages show of raters and their labels: answers out of the store, measured by raters.agreement."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from statistics import median
from typing import Any
from zlib import crc32

from sqlalchemy import Connection, select

from heedful.raters import agreement as measure
from heedful.raters.agreement import share
from heedful.store import quality, reports
from heedful.store.kinds import KINDS, Measure
from heedful.store.quality import Said
from heedful.store.schema import rater

MOST_VALUES = 40_000  # ratings in one α: a ranking of twelve has 66 pairs
# What the table of raters is made of, of all raters together:
RECENT, GOLD, SWAPS, SHARED = 6_000, 3_000, 1_000, 1_500  # answers, answers, pairs, tasks


@dataclass
class Table:
    """Ratings of one kind, as raters.agreement wants them."""

    units: list[Any] = field(default_factory=list)
    raters: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)


def pairs(said: Said) -> Iterator[tuple[str, str, int]]:
    """(a, b, 1 if a is better, −1 if b is, 0 if neither) for every two responses that were ranked."""
    ranked = [c for c in said.completions if c in said.ranks]
    for a, b in combinations(ranked, 2):
        better = said.ranks[b] - said.ranks[a]
        yield a, b, (better > 0) - (better < 0)


def prefers(said: Said) -> bool:
    """Whether answers of this kind say which response is better."""
    return said.measure is not None and said.measure.of == "ranks"


def ratings(answers: Iterable[Said]) -> dict[tuple[str, str], Table]:
    """By kind and by what was rated (an axis, a rule; nothing, where the kind has no options to name several)."""
    found: dict[tuple[str, str], Table] = defaultdict(Table)

    def add(said: Said, of: str, unit: Any, value: Any) -> None:
        table = found[said.kind, of]
        if len(table.values) < MOST_VALUES:
            table.units.append(unit)
            table.raters.append(said.rater)
            table.values.append(value)
            table.tasks.append(said.task)

    for said in answers:
        part = said.measure.of if said.measure else None
        if part == "ranks":
            for a, b, sign in pairs(said):
                # Which one is called the first is left to chance: an import may always put the better one first,
                # and then agreement by chance would look like certainty.
                turn = 1 if crc32(f"{said.task}{a}{b}".encode()) & 1 else -1
                add(said, "", (said.task, a, b), sign * turn)
        elif part:
            marks: dict[tuple[str, str], Any] = said.scores if part == "scores" else said.rules
            for (completion, name), value in marks.items():
                of = name if KINDS[said.kind].options else ""
                add(said, of, (said.task, completion), value)
    return found


def agreement(connection: Connection, project: str) -> dict[str, Any]:
    """Krippendorff's α of each kind, axis and rule, among people, and among all where judges answer too."""
    answers = [s for s in quality.load(connection, quality.shared(connection, project)) if s.own]
    groups = {"people": [s for s in answers if s.person]}
    if len(groups["people"]) < len(answers):
        groups["people and judges"] = answers
    measures = []
    for who, group in groups.items():
        for (kind, of), t in sorted(ratings(group).items()):
            level = _measure(kind).level
            found = measure.alpha(t.units, t.raters, t.values, level=level, clusters=t.tasks)
            measures.append({"who": who, "kind": kind, "of": of, "level": level, **asdict(found)})
    tasks = len({s.task for s in answers})
    return {"measures": measures, "tasks": tasks, "most": quality.MOST_SHARED}


def raters(connection: Connection, project: str) -> dict[str, Any]:
    """A row for everybody who has answered: how much, how fast, how well, how evenly."""
    went: dict[str, Counter[str]] = defaultdict(Counter)
    for s in reports.sums(connection, project):
        went[s.rater][s.way] += s.n
    gold_each = max(20, GOLD // max(1, len(went)))
    newest = quality.newest(connection, project, limit=RECENT)
    gold = quality.newest_gold(connection, project, each=gold_each)
    twice = quality.swapped(connection, project, most=SWAPS)
    shared = quality.shared(connection, project, most=SHARED)
    ids = list(dict.fromkeys([*newest, *gold, *shared, *(key for two in twice for key in two)]))
    known = {s.judgment: s for s in quality.load(connection, ids)}
    right = _right(connection, [known[key] for key in gold])
    recent: dict[str, list[Said]] = defaultdict(list)
    for key in newest:
        recent[known[key].rater].append(known[key])
    again: dict[str, list[tuple[Said, Said]]] = defaultdict(list)
    for a, b in twice:
        again[known[a].rater].append((known[a], known[b]))
    others = _with_others([known[key] for key in shared if known[key].own])
    rows = []
    for person in connection.execute(select(rater).where(rater.c.id.in_(list(went)))):
        own, mine = went[person.id], recent[person.id]
        places = [s.place for s in mine if s.kind in KINDS and KINDS[s.kind].swaps]
        seconds = [s.seconds for s in mine if s.seconds is not None]
        preferences = [s for s in mine if prefers(s)]
        both = again[person.id]
        rows.append(
            {
                "rater": person.id,
                "pseudonym": person.pseudonym,
                "role": person.role,
                "status": person.status,
                "answers": own["counted"] + own["late"],
                **{way: own[way] for way in reports.WAYS if way != "counted"},
                "last_at": max((s.at for s in mine), default=None),
                "seconds": median(seconds) if seconds else None,
                "gold": asdict(share(*right.get(person.id, (0, 0)))),
                "others": asdict(others.get(person.id, share(0, 0))),
                "ties": asdict(
                    share(sum(s.outcome != "answer" for s in preferences), len(preferences))
                ),
                "first": asdict(measure.position([p for p in places if p is not None])),
                "swaps": asdict(
                    measure.swaps([a.place for a, _ in both], [b.place for _, b in both]).consistent
                ),
            }
        )
    rows.sort(key=lambda row: (-row["answers"], row["pseudonym"]))
    return {"raters": rows, "recent": RECENT, "gold_each": gold_each, "shared_tasks": SHARED}


def labels(connection: Connection, project: str, *, rater_id: str | None = None) -> dict[str, Any]:
    """What the newest answers said, by kind: strengths by place, axes, rules, and whether the longer one won."""
    ids = quality.newest(connection, project, rater_id=rater_id)
    answers = quality.load(connection, ids)
    kinds: dict[str, dict[str, Any]] = {}
    for kind in sorted({s.kind for s in answers}):
        mine = [s for s in answers if s.kind == kind]
        found: dict[str, Any] = {"answers": len(mine)}
        if prefers(mine[0]):
            found["outcomes"] = dict(Counter(s.outcome for s in mine))
        if kind in KINDS and KINDS[kind].swaps:
            found["strengths"] = _strengths(mine)
        for name, parts in (("axes", "scores"), ("rules", "rules")):
            counts: dict[str, Counter[Any]] = defaultdict(Counter)
            for s in mine:
                for (_, of), value in getattr(s, parts).items():
                    counts[of][value] += 1
            if counts:
                found[name] = {of: sorted(map(list, c.items())) for of, c in sorted(counts.items())}
        kinds[kind] = found
    return {
        "kinds": kinds,
        "length": _length(connection, answers),
        "used": len(answers),
        "most": quality.NEWEST,
    }


def win_rates(connection: Connection, project: str) -> dict[str, Any]:
    """How often each model's responses beat other models': overall, by week, by round, by pair; a tie is half a win."""
    at = reports.now(connection)
    answers = quality.load(
        connection, quality.by_week(connection, project, at, weeks=WEEKS, each=A_WEEK)
    )
    answers = [s for s in answers if prefers(s) and not s.swap_of]
    names = quality.origins(connection, list({c for s in answers for c in s.ranks}))
    total: dict[Any, list[float]] = defaultdict(lambda: [0.0, 0])
    for s in answers:
        week = math.ceil((s.at - at) / quality.WEEK)  # 0 is this week, −1 the one before
        for a, b, sign in pairs(s):
            first, second = names.get(a), names.get(b)
            if first is None or second is None or first == second:
                continue
            for one, other, won in (
                (first, second, (1 + sign) / 2),
                (second, first, (1 - sign) / 2),
            ):
                for key in (
                    ("all", one), ("pair", one, other), ("week", one, week), ("round", one, s.round),
                ):  # fmt: skip
                    total[key][0] += won
                    total[key][1] += 1
    rows = {"all": [], "pair": [], "week": [], "round": []}
    for key, (won, n) in total.items():
        low, high = measure.wilson(won, n)
        row = {
            "model": key[1],
            "wins": won,
            "n": int(n),
            "value": won / n,
            "low": low,
            "high": high,
        }
        if key[0] == "pair":
            row["against"] = key[2]
        elif key[0] != "all":
            row[key[0]] = key[2] if key[0] == "round" else at + key[2] * quality.WEEK
        rows[key[0]].append(row)
    rows["all"].sort(key=lambda r: -r["value"])
    for name in ("week", "round"):
        rows[name].sort(key=lambda r, name=name: (r[name], r["model"]))
    return {"models": rows["all"], "pairs": rows["pair"], "weeks": rows["week"],
            "rounds": rows["round"], "used": len(answers), "span_weeks": WEEKS, "a_week": A_WEEK}  # fmt: skip


WEEKS, A_WEEK = 26, 400


def _measure(kind: str) -> Measure:
    """Of a kind whose answers have been read because they are compared."""
    found = KINDS[kind].measure
    assert found
    return found


def _right(connection: Connection, answers: Sequence[Said]) -> dict[str, tuple[int, int]]:
    """(right, of how many) gold questions by rater."""
    keys = quality.gold_answers(connection, list({s.task for s in answers}))
    found: dict[str, list[bool]] = defaultdict(list)
    for s in answers:
        found[s.rater].append(measure.right(s.ranks, keys[s.task]))
    return {who: (sum(all_), len(all_)) for who, all_ in found.items()}


def _with_others(answers: Sequence[Said]) -> dict[Any, measure.Share]:
    """Over everything but scores on a scale, which are never quite the same."""
    units, people, values = [], [], []
    for (kind, of), t in ratings(answers).items():
        if _measure(kind).span is not None:
            units += [(kind, of, u) for u in t.units]
            people += t.raters
            values += t.values
    return measure.with_others(units, people, values)


def _strengths(answers: Sequence[Said]) -> dict[str, list[int]]:
    """How much better, in four steps, where the better one stood first and where it stood second; none: unsaid."""
    found = {"first": [0] * 4, "second": [0] * 4, "unsaid": [0, 0]}
    for s in answers:
        if s.place is None:
            continue
        if s.strength is None:
            found["unsaid"][s.place] += 1
        else:
            found["second" if s.place else "first"][min(3, int(s.strength * 4))] += 1
    return found


BINS = (1.1, 1.5, 2.0, math.inf)  # how much longer the longer one is


def _length(connection: Connection, answers: Sequence[Said]) -> dict[str, Any]:
    """How often the longer of two responses won, of those where one did; overall and by how much longer it was."""
    preferred = [p for s in answers if prefers(s) for p in pairs(s) if p[2]]
    size = quality.lengths(connection, list({c for a, b, _ in preferred for c in (a, b)}))
    wins, counts = [0] * len(BINS), [0] * len(BINS)
    for a, b, sign in preferred:
        if size[a] == size[b]:
            continue
        ratio = max(size[a], size[b]) / max(1, min(size[a], size[b]))
        place = next(i for i, most in enumerate(BINS) if ratio < most)
        counts[place] += 1
        wins[place] += (size[a] > size[b]) == (sign > 0)
    bins = [
        {"most": None if math.isinf(most) else most, **asdict(share(w, n))}
        for most, w, n in zip(BINS, wins, counts, strict=True)
    ]
    return {**asdict(share(sum(wins), sum(counts))), "bins": bins}


def disagreements(
    connection: Connection, project: str, *, after: int = 0, limit: int = 20
) -> dict[str, Any]:
    """Tasks whose raters said different things, the sharpest first; what a reviewer ought to read.

    {total, tasks: [{task, kind, prompt, responses, options, score, reviewed, answers: [{rater, person, review,
    outcome, strength, ranks, scores, rules, at}]}]}; `score` is 0 (all the same) to 1 (opposite), ranks and marks
    are by the responses' places in this list; texts are raw.
    """
    by_task: dict[str, list[Said]] = defaultdict(list)
    for said in quality.load(connection, quality.shared(connection, project)):
        by_task[said.task].append(said)
    score = {task: apart([s for s in all_ if not s.review]) for task, all_ in by_task.items()}
    found = [task for task, value in score.items() if value > 0]
    found.sort(key=lambda task: (-score[task], task))
    keys = found[after : after + limit]
    shown = reports.questions(connection, keys)
    people = {s.rater for key in keys for s in by_task[key]}
    named = select(rater.c.id, rater.c.pseudonym).where(rater.c.id.in_(people))
    names = {row.id: row.pseudonym for row in connection.execute(named)}
    for key in keys:
        answers = sorted(by_task[key], key=lambda s: s.at)
        shown[key] |= {
            "score": score[key],
            "reviewed": any(s.review for s in answers),
            "answers": [_answer(s, names[s.rater], shown[key]["completions"]) for s in answers],
        }
    return {"total": len(found), "tasks": [shown[key] for key in keys]}


def apart(answers: Sequence[Said]) -> float:
    """How far two raters' answers to one task are from each other, 0 to 1: the mean over all two who answered."""
    units: dict[Any, list[float]] = defaultdict(list)
    for (kind, of), t in ratings(answers).items():
        span = _measure(kind).span
        if span is None:  # the scale is not known here; what the two farthest apart have used is
            span = max(map(float, t.values)) - min(map(float, t.values)) or 1.0
        for unit, value in zip(t.units, t.values, strict=True):
            units[kind, of, unit].append(float(value) / span)
    gaps = [abs(a - b) for values in units.values() for a, b in combinations(values, 2)]
    return sum(gaps) / len(gaps) if gaps else 0.0


def _answer(said: Said, name: str, completions: Sequence[str]) -> dict[str, Any]:
    """An answer by the places of the task's completions."""
    marks: dict[str, dict[str, list[Any]]] = {"scores": {}, "rules": {}}
    for part in marks:
        for (completion, of), value in getattr(said, part).items():
            row = marks[part].setdefault(of, [None] * len(completions))
            row[completions.index(completion)] = value
    return {
        "rater": name,
        "person": said.person,
        "review": said.review,
        "outcome": said.outcome,
        "strength": said.strength,
        "ranks": [said.ranks.get(c) for c in completions],
        **marks,
        "at": said.at,
    }
