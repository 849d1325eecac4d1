"""Import of existing judgments from files, as judgments of judges named after the raters in the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

from sqlalchemy import Connection, select

from heedful.errors import UserError
from heedful.store import content, judging, people, work
from heedful.store.db import Store
from heedful.store.ingest import UNKNOWN_ORIGIN, Origin, Tick, add_all, prompt_id
from heedful.store.kinds import KINDS
from heedful.store.schema import assignment, completion, judgment, ranking_item, score, task
from heedful.types import Comparison, Prompt

ANONYMOUS = "imported"  # who judged, where a file does not say


@dataclass(frozen=True)
class Vote:
    """A single response that somebody labelled good or bad."""

    prompt: Prompt
    completion: str
    good: bool
    rater: str | None = None


def comparisons(
    store: Store,
    project: str,
    items: Sequence[Comparison],
    *,
    origin: Origin = UNKNOWN_ORIGIN,
    gold: bool = False,
    tick: Tick | None = None,
) -> dict[str, int]:
    """Import comparisons as judgments of judges with their raters' names; `gold`: as gold questions instead.

    A second equal comparison by one rater becomes a judgment in a later round.
    """
    maximum = KINDS["rank"].responses[1]
    longest = max((len(c.responses) for c in items), default=0)
    if longest > maximum:
        raise UserError(f"a comparison has {longest} responses; {maximum} are the most")
    pairs = [(c.prompt, frozenset(c.responses)) for c in items]
    overlaps = Counter(pairs)

    def add_item(
        connection: Connection, numbered: tuple[Comparison, tuple[Prompt, frozenset[str]], int]
    ) -> None:
        item, pair, repetition = numbered
        key = prompt_id(connection, project, item.prompt, origin)
        ids = [_response(connection, key, text, item.policy_version) for text in item.responses]
        levels = sorted({r for r in item.ranking if r is not None})
        ranks = {
            c: levels.index(r) + 1 for c, r in zip(ids, item.ranking, strict=True) if r is not None
        }
        kind = "pair" if len(ids) == 2 else "rank"
        gold_answer = {"ranks": ranks} if gold else None

        def make_task(round: int) -> str:
            return content.add_task(
                connection, project, kind, key, ids,
                overlap=overlaps[pair], strategy="import", round=round, gold=gold_answer,
            )  # fmt: skip

        if gold:
            make_task(0)
            return
        order = None if item.order_shown is None else [ids[i] for i in item.order_shown]

        def agrees(judgment_id: str) -> bool:
            rows = connection.execute(
                select(ranking_item).where(ranking_item.c.judgment == judgment_id)
            )
            return {r.completion: r.rank for r in rows} == ranks

        def answer(shown: list[str]) -> dict[str, Any]:
            extra = {} if item.strength is None else {"strength": item.strength}
            if kind == "rank":
                return {"ranks": [ranks.get(c) for c in shown], **extra}
            if len(levels) == 1:
                return {"tie": True}
            return {"better": 0 if ranks[shown[0]] == 1 else 1, **extra}

        _add_judgment(
            connection, item.rater, make_task, repetition, agrees, answer, order,
            active_ms=None if item.seconds is None else round(item.seconds * 1000),
            client_at=_time(item.created_at),
        )  # fmt: skip

    numbers = _repetitions((c.rater, pair) for c, pair in zip(items, pairs, strict=True))
    return add_all(store, project, list(zip(items, pairs, numbers, strict=True)), add_item, tick)


def votes(
    store: Store,
    project: str,
    items: Sequence[Vote],
    *,
    origin: Origin = UNKNOWN_ORIGIN,
    tick: Tick | None = None,
) -> dict[str, int]:
    """Thumbs up and down of single responses, as judgments of judges."""
    overlaps = Counter((v.prompt, v.completion) for v in items)

    def add_item(connection: Connection, numbered: tuple[Vote, int]) -> None:
        item, repetition = numbered
        response = (item.prompt, item.completion)
        key = prompt_id(connection, project, item.prompt, origin)
        response_id = _response(connection, key, item.completion, None)
        thumb = 1 if item.good else -1

        def make_task(round: int) -> str:
            return content.add_task(
                connection, project, "thumbs", key, [response_id],
                overlap=overlaps[response], strategy="import", round=round,
            )  # fmt: skip

        def agrees(judgment_id: str) -> bool:
            query = select(score.c.value).where(score.c.judgment == judgment_id)
            return connection.execute(query).scalar() == thumb

        _add_judgment(
            connection, item.rater, make_task, repetition, agrees, lambda _: {"thumbs": [thumb]}
        )

    numbers = _repetitions((v.rater, v.prompt, v.completion) for v in items)
    return add_all(store, project, list(zip(items, numbers, strict=True)), add_item, tick)


def _repetitions(items: Iterable[Hashable]) -> list[int]:
    """How often each was there before. Counted first: a batch that the database could not take is written again."""
    before: Counter[Hashable] = Counter()
    numbers = []
    for item in items:
        numbers.append(before[item])
        before[item] += 1
    return numbers


def _add_judgment(
    connection: Connection,
    name: str | None,
    make_task: Callable[[int], str],
    repetition: int,
    agrees: Callable[[str], bool],
    answer: Callable[[list[str]], dict[str, Any]],
    order: Sequence[str] | None = None,
    **metadata: Any,
) -> None:
    """Add a judgment unless this judge has an equal one: the n-th of a file belongs to round n or a later one."""
    judge = people.ensure_judge(connection, name or ANONYMOUS)
    for number in count(repetition):
        task_id = make_task(number)
        assignment_id = connection.execute(
            select(assignment.c.id).where(assignment.c.task == task_id, assignment.c.rater == judge)
        ).scalar()
        if assignment_id is None:
            break
        query = select(judgment.c.id).where(judgment.c.assignment == assignment_id)
        if any(agrees(key) for key in list(connection.execute(query).scalars())):
            return  # perhaps corrected since the file was written
    completions = connection.execute(
        select(task.c.completions).where(task.c.id == task_id)
    ).scalar_one()
    places = None if order is None else [completions.index(c) for c in order]
    assignment_id = work.assign(connection, task_id, judge, order=places)
    places = connection.execute(
        select(assignment.c.order_shown).where(assignment.c.id == assignment_id)
    ).scalar_one()
    body = answer([completions[i] for i in places])
    key = content.digest(["import", task_id, judge])
    judging.submit(connection, assignment_id, judge, body, key=key, ui_version="import", **metadata)


def _response(connection: Connection, key: str, text: str, model: str | None) -> str:
    """The id of a stored response with this text, whoever wrote it, or of a new one."""
    c = completion.c
    query = select(c.id).where(c.prompt == key, c.text == text).order_by(c.id)
    if model is not None:
        query = query.where(c.model == model)
    existing = connection.execute(query.limit(1)).scalar()
    return existing or content.add_completion(connection, key, text, model=model)


def _time(text: str | None) -> float | None:
    """Seconds since 1970 of a date in a file, if it is one."""
    try:
        date = datetime.fromisoformat(text) if text else None
    except (TypeError, ValueError):
        return None
    if date is None:
        return None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
