"""Statistics of raters and their labels for the lead's pages: answers from the store, measured by raters.agreement."""

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

from heedful.evals.ratings import Battle
from heedful.raters import agreement as measure
from heedful.raters.agreement import share
from heedful.raters.standings import standings, win_shares
from heedful.store.database.bulk import batches
from heedful.store.kinds import KINDS, Measure
from heedful.store.lead import quality, reports
from heedful.store.lead.quality import Answer
from heedful.store.lead.tally import WAYS, tally
from heedful.store.membership import members
from heedful.store.project import consent
from heedful.store.tables.schema import rater
from heedful.types import places

MAX_VALUES = 40_000  # ratings in one α: a ranking of twelve has 66 pairs
# What the table of raters is made of, of all raters together:
RECENT, GOLD, SWAPS, SHARED = 6_000, 3_000, 1_000, 1_500  # answers, answers, pairs, tasks


@dataclass
class Table:
    """Ratings of one kind, as raters.agreement wants them."""

    units: list[Any] = field(default_factory=list)
    raters: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)


def pairs(answer: Answer) -> Iterator[tuple[str, str, int]]:
    """(a, b, 1 if a is better, −1 if b is, 0 if neither) for every two responses of which at least one was ranked."""
    if not answer.ranks:
        return
    ranked = (
        answer.completions
        if answer.kind == "rank"
        else [c for c in answer.completions if c in answer.ranks]
    )
    place = dict(zip(ranked, places([answer.ranks.get(c) for c in ranked]), strict=True))
    for a, b in combinations(ranked, 2):
        if a in answer.ranks or b in answer.ranks:
            yield a, b, (place[b] > place[a]) - (place[b] < place[a])


def ratings(answers: Iterable[Answer]) -> dict[tuple[str, str, str], Table]:
    """By question of a screen, by kind and by what was rated (an axis, a rule; nothing, where the kind has no options
    to name several)."""
    tables: dict[tuple[str, str, str], Table] = defaultdict(Table)

    def add(answer: Answer, name: str, unit: Any, value: Any) -> None:
        table = tables[answer.question, answer.kind, name]
        if len(table.values) < MAX_VALUES:
            table.units.append(unit)
            table.raters.append(answer.rater)
            table.values.append(value)
            table.tasks.append(answer.task)

    for answer in answers:
        part = answer.measure.of if answer.measure else None
        if part == "ranks":
            for a, b, sign in pairs(answer):
                # The pair's orientation is random: where an import always has the better response first, all values
                # would be equal, and the agreement expected by chance complete.
                turn = 1 if crc32(f"{answer.task}{a}{b}".encode()) & 1 else -1
                add(answer, "", (answer.task, a, b), sign * turn)
        elif part:
            marks: dict[tuple[str, str], Any] = answer.scores if part == "scores" else answer.rules
            several = KINDS[answer.kind].options
            for (completion, name), value in marks.items():
                add(answer, name if several else "", (answer.task, completion), value)
    return tables


def agreement(connection: Connection, project: str) -> dict[str, Any]:
    """Krippendorff's α of each question, axis and rule, among people, and among all where judges answer too."""
    ids = quality.shared(connection, project)
    answers = [s for s in quality.load(connection, ids) if s.regular]
    groups = {"people": [s for s in answers if s.person]}
    if len(groups["people"]) < len(answers):
        groups["people and judges"] = answers
    measures = []
    for group, of_group in groups.items():
        for (question, kind, name), t in sorted(ratings(of_group).items()):
            level = _measure(kind).level
            estimate = measure.alpha(t.units, t.raters, t.values, level=level, clusters=t.tasks)
            about = {"who": group, "question": question, "kind": kind, "of": name, "level": level}
            measures.append(about | asdict(estimate))
    tasks = len({s.task for s in answers})
    return {"measures": measures, "tasks": tasks, "most": quality.MAX_SHARED}


def raters(connection: Connection, project: str, count: reports.Count = tally) -> dict[str, Any]:
    """A row for everybody who has answered: how much, how fast, how well, how evenly."""
    ways: dict[str, Counter[str]] = defaultdict(Counter)
    for s in count(connection, project).sums:
        ways[s.rater][s.way] += s.n
    per_rater = max(20, GOLD // max(1, len(ways)))
    newest = quality.newest(connection, project, limit=RECENT)
    gold = quality.newest_gold(connection, project, per_rater=per_rater)
    twice = quality.swapped(connection, project, limit=SWAPS)
    shared = quality.shared(connection, project, limit=SHARED)
    ids = list(dict.fromkeys([*newest, *gold, *shared, *(key for two in twice for key in two)]))
    answers = quality.load(connection, ids)
    by_id = quality.by_judgment(answers)
    of_gold = set(gold)
    gold_results = _right(connection, [a for a in answers if a.judgment in of_gold])
    recent: dict[str, list[Answer]] = defaultdict(list)
    for key in newest:
        recent[by_id[key].rater].append(by_id[key])
    repeats: dict[str, list[tuple[Answer, Answer]]] = defaultdict(list)
    for a, b in twice:
        repeats[by_id[a].rater].append((by_id[a], by_id[b]))
    paused = {m["rater"] for m in members.of_project(connection, project) if m["paused"]}
    gone = consent.withdrawn(connection, project)
    several = set(shared)
    agreements = _with_others([s for s in answers if s.judgment in several and s.regular])
    rows = []
    for person in connection.execute(select(rater).where(rater.c.id.in_(list(ways)))):
        own_ways, recent_answers = ways[person.id], recent[person.id]
        places = [s.place for s in recent_answers if s.kind in KINDS and KINDS[s.kind].swaps]
        seconds = [s.seconds for s in recent_answers if s.seconds is not None]
        preferences = [s for s in recent_answers if s.prefers and s.compares]
        repeated = repeats[person.id]
        rows.append(
            {
                "rater": person.id,
                "pseudonym": person.pseudonym,
                "role": person.role,
                "status": person.status,
                "paused": person.id in paused,  # in this project
                "withdrawn": person.id in gone,
                "answers": own_ways["counted"] + own_ways["late"],
                **{way: own_ways[way] for way in WAYS if way != "counted"},
                "last_at": max((s.created_at for s in recent_answers), default=None),
                "seconds": median(seconds) if seconds else None,
                "gold": asdict(share(*gold_results.get(person.id, (0, 0)))),
                "others": asdict(agreements.get(person.id, share(0, 0))),
                "ties": asdict(
                    share(sum(s.outcome != "answer" for s in preferences), len(preferences))
                ),
                "first": asdict(measure.position([p for p in places if p is not None])),
                "swaps": asdict(
                    measure.swaps(
                        [a.place for a, _ in repeated], [b.place for _, b in repeated]
                    ).consistent
                ),
            }
        )
    rows.sort(key=lambda row: (-row["answers"], row["pseudonym"]))
    return {"raters": rows, "recent": RECENT, "gold_each": per_rater, "shared_tasks": SHARED}


def labels(connection: Connection, project: str, *, rater_id: str | None = None) -> dict[str, Any]:
    """What the newest answers said, by question of a screen or by kind: strengths by place, axes, rules, and whether
    the longer one won."""
    ids = quality.newest(connection, project, rater_id=rater_id)
    answers = quality.load(connection, ids)
    kinds: dict[str, dict[str, Any]] = {}
    for question, kind in sorted({(s.question, s.kind) for s in answers}):
        of_kind = [s for s in answers if (s.question, s.kind) == (question, kind)]
        summary: dict[str, Any] = {"answers": len(of_kind), "question": question, "kind": kind}
        if of_kind[0].prefers:
            summary["outcomes"] = dict(Counter(s.outcome for s in of_kind))
        if kind in KINDS and KINDS[kind].swaps:
            summary["strengths"] = _strengths(of_kind)
        for option, parts in (("axes", "scores"), ("rules", "rules")):
            counts: dict[str, Counter[Any]] = defaultdict(Counter)
            for s in of_kind:
                for (_, name), value in getattr(s, parts).items():
                    counts[name][value] += 1
            if counts:
                summary[option] = {
                    name: sorted(map(list, c.items())) for name, c in sorted(counts.items())
                }
        kinds[f"{question} ({kind})" if question else kind] = summary
    return {
        "kinds": kinds,
        "length": _length(connection, quality.by_judgment(answers).values()),
        "used": len(ids),
        "most": quality.NEWEST,
    }


def win_rates(connection: Connection, project: str) -> dict[str, Any]:
    """How often each model's responses beat other models': overall, with a rating that does not depend on who was shown
    beside whom, by week, by round, by pair; a tie is half a win."""
    timestamp = reports.now(connection)
    ids = quality.by_week(connection, project, timestamp, weeks=WEEKS, per_week=A_WEEK)
    used, fought = 0, list[tuple[Answer, Battle]]()
    for answer, of_answer in _battles(connection, project, ids):
        used += 1
        fought += [(answer, battle) for battle in of_answer]
    # 0 is this week, −1 the one before
    weeks = [math.ceil((s.created_at - timestamp) / quality.WEEK) for s, _ in fought]

    def keys(model: str, other: str, week: int, number: int) -> tuple[tuple[str, str, Any], ...]:
        return ("pair", model, other), ("week", model, week), ("round", model, number)

    kept = [
        (keys(b.first, b.second, week, s.round), keys(b.second, b.first, week, s.round))
        for week, (s, b) in zip(weeks, fought, strict=True)
    ]
    rows: dict[str, list[dict[str, Any]]] = {"pair": [], "week": [], "round": []}
    for (name, model, of), won in win_shares([battle for _, battle in fought], kept).items():
        row = {"model": model, **asdict(won)}
        row["against" if name == "pair" else name] = (
            timestamp + of * quality.WEEK if name == "week" else of
        )
        rows[name].append(row)
    for name in ("week", "round"):
        rows[name].sort(key=lambda r, name=name: (r[name], r["model"]))
    models = [asdict(standing) for standing in standings(battle for _, battle in fought)]
    return {"models": models, "pairs": rows["pair"], "weeks": rows["week"],
            "rounds": rows["round"], "used": used, "span_weeks": WEEKS, "a_week": A_WEEK}  # fmt: skip


def battles(connection: Connection, project: str) -> Iterator[Battle]:
    """Every two models of whose responses somebody has said which is better, in all of a project's answers."""
    for ids in batches(quality.newest(connection, project, limit=None)):
        for _, of_answer in _battles(connection, project, ids):
            yield from of_answer


def _battles(
    connection: Connection, project: str, ids: Sequence[str]
) -> Iterator[tuple[Answer, list[Battle]]]:
    """Answers that say which response is better, each with the models that met in it."""
    first = quality.by_judgment(quality.load(connection, ids)).values()
    answers = [s for s in first if s.prefers and s.compares and not s.swap_of]
    names = quality.origins(connection, list({c for s in answers for c in s.ranks}))
    for s in answers:
        met = [(names.get(a), names.get(b), (1 + sign) / 2) for a, b, sign in pairs(s)]
        yield (
            s,
            [
                Battle(a, b, won, s.prompt, s.rater)
                for a, b, won in met
                if a is not None and b is not None and a != b
            ],
        )


WEEKS, A_WEEK = 26, 400


def _measure(kind: str) -> Measure:
    """Of a kind whose answers have been read because they are compared."""
    definition = KINDS[kind].measure
    assert definition
    return definition


def _right(connection: Connection, answers: Sequence[Answer]) -> dict[str, tuple[int, int]]:
    """(right, of how many) gold questions by rater."""
    keys = quality.gold_keys(connection, {s.task for s in answers})
    right, results = quality.right(answers, keys), dict[str, list[bool]]()
    for judgment, said in quality.by_judgment(answers).items():
        results.setdefault(said.rater, []).append(right[judgment])
    return {rater_id: (sum(outcomes), len(outcomes)) for rater_id, outcomes in results.items()}


def _with_others(answers: Sequence[Answer]) -> dict[Any, measure.Share]:
    """Over everything but scores on a scale, which are never quite the same."""
    units, people, values = [], [], []
    for (question, kind, name), t in ratings(answers).items():
        if _measure(kind).span is not None:
            units += [(question, kind, name, u) for u in t.units]
            people += t.raters
            values += t.values
    return measure.with_others(units, people, values)


def _strengths(answers: Sequence[Answer]) -> dict[str, list[int]]:
    """How much better, in four steps, where the better one stood first and where it stood second; none: unsaid."""
    counts = {"first": [0] * 4, "second": [0] * 4, "unsaid": [0, 0]}
    for s in answers:
        if s.place is None:
            continue
        if s.strength is None:
            counts["unsaid"][s.place] += 1
        else:
            counts["second" if s.place else "first"][min(3, int(s.strength * 4))] += 1
    return counts


BINS = (1.1, 1.5, 2.0, math.inf)  # how much longer the longer one is


def _length(connection: Connection, answers: Iterable[Answer]) -> dict[str, Any]:
    """How often the longer of two responses won, of those where one did; overall and by how much longer it was."""
    preferred = [p for s in answers if s.prefers and s.compares for p in pairs(s) if p[2]]
    size = quality.lengths(connection, list({c for a, b, _ in preferred for c in (a, b)}))
    wins, counts = [0] * len(BINS), [0] * len(BINS)
    for a, b, sign in preferred:
        if size[a] == size[b]:
            continue
        ratio = max(size[a], size[b]) / max(1, min(size[a], size[b]))
        place = next(i for i, bound in enumerate(BINS) if ratio < bound)
        counts[place] += 1
        wins[place] += (size[a] > size[b]) == (sign > 0)
    bins = [
        {"most": None if math.isinf(bound) else bound, **asdict(share(w, n))}
        for bound, w, n in zip(BINS, wins, counts, strict=True)
    ]
    return {**asdict(share(sum(wins), sum(counts))), "bins": bins}


def disagreements(
    connection: Connection, project: str, *, after: int = 0, limit: int = 20
) -> dict[str, Any]:
    """Tasks whose raters said different things, the sharpest first; what a reviewer ought to read.

    {total, tasks: [{task, kind, prompt, responses, options, score, reviewed, answers: [{rater, person, review,
    question, outcome, strength, ranks, scores, rules, at}]}]}; `score` is 0 (all the same) to 1 (opposite), ranks and
    marks are by the responses' places in this list; texts are raw.
    """
    by_task: dict[str, list[Answer]] = defaultdict(list)
    for answer in quality.load(connection, quality.shared(connection, project)):
        by_task[answer.task].append(answer)
    distances = {
        task: disagreement([s for s in task_answers if not s.review])
        for task, task_answers in by_task.items()
    }
    disagreeing = [task for task, value in distances.items() if value > 0]
    disagreeing.sort(key=lambda task: (-distances[task], task))
    keys = disagreeing[after : after + limit]
    by_id = reports.questions(connection, keys)
    people = {s.rater for key in keys for s in by_task[key]}
    query = select(rater.c.id, rater.c.pseudonym).where(rater.c.id.in_(people))
    names = {row.id: row.pseudonym for row in connection.execute(query)}
    for key in keys:
        answers = sorted(by_task[key], key=lambda s: s.created_at)
        by_id[key] |= {
            "score": distances[key],
            "reviewed": any(s.review for s in answers),
            "answers": [_answer(s, names[s.rater], by_id[key]["completions"]) for s in answers],
        }
    return {"total": len(disagreeing), "tasks": [by_id[key] for key in keys]}


def disagreement(answers: Sequence[Answer]) -> float:
    """How far two raters' answers to one task are from each other, 0 to 1: the mean over all two who answered."""
    units: dict[Any, list[float]] = defaultdict(list)
    for (question, kind, name), t in ratings(answers).items():
        span = _measure(kind).span
        if span is None:  # the scale is not known here; what the two farthest apart have used is
            span = max(map(float, t.values)) - min(map(float, t.values)) or 1.0
        for unit, value in zip(t.units, t.values, strict=True):
            units[question, kind, name, unit].append(float(value) / span)
    gaps = [abs(a - b) for values in units.values() for a, b in combinations(values, 2)]
    return sum(gaps) / len(gaps) if gaps else 0.0


def _answer(answer: Answer, pseudonym: str, completions: Sequence[str]) -> dict[str, Any]:
    """An answer by the places of the task's completions."""
    marks: dict[str, dict[str, list[Any]]] = {"scores": {}, "rules": {}}
    for part in marks:
        for (completion, name), value in getattr(answer, part).items():
            row = marks[part].setdefault(name, [None] * len(completions))
            row[completions.index(completion)] = value
    return {
        "rater": pseudonym,
        "person": answer.person,
        "review": answer.review,
        "question": answer.question,
        "outcome": answer.outcome,
        "strength": answer.strength,
        "ranks": [answer.ranks.get(c) for c in completions],
        **marks,
        "at": answer.created_at,
    }
