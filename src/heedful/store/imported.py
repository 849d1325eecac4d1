"""What others have judged before, out of files: judgments of judges who bear the names in the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

from sqlalchemy import Connection, select

from heedful.errors import UserError
from heedful.store import content, judging, people, work
from heedful.store.db import Store
from heedful.store.ingest import NOWHERE, Origin, Tick, added, prompt_id
from heedful.store.kinds import KINDS
from heedful.store.schema import assignment, completion, judgment, ranking_item, score, task
from heedful.types import Comparison, Prompt

NOBODY = "imported"  # who judged, where a file does not say


@dataclass(frozen=True)
class Vote:
    """A response that somebody found good or bad by itself."""

    prompt: Prompt
    completion: str
    good: bool
    rater: str | None = None


def comparisons(
    store: Store,
    project: str,
    items: Sequence[Comparison],
    *,
    origin: Origin = NOWHERE,
    gold: bool = False,
    tick: Tick | None = None,
) -> dict[str, int]:
    """What others have compared, as judgments of judges by their names; `gold`: as questions with a known answer.

    A judge who says the same of the same responses again says it in another round.
    """
    most = KINDS["rank"].responses[1]
    longest = max((len(c.responses) for c in items), default=0)
    if longest > most:
        raise UserError(f"a comparison has {longest} responses; {most} are the most")
    asked = Counter((c.prompt, frozenset(c.responses)) for c in items)
    seen: Counter[Any] = Counter()

    def each(connection: Connection, item: Comparison) -> None:
        pair = (item.prompt, frozenset(item.responses))
        before = seen[item.rater, pair]
        seen[item.rater, pair] += 1
        key = prompt_id(connection, project, item.prompt, origin)
        ids = [_response(connection, key, text, item.policy_version) for text in item.responses]
        places = sorted(set(item.ranking))
        ranks = {c: places.index(r) + 1 for c, r in zip(ids, item.ranking, strict=True)}
        kind = "pair" if len(ids) == 2 else "rank"
        known = {"ranks": ranks} if gold else None

        def ask(round: int) -> str:
            return content.add_task(
                connection, project, kind, key, ids,
                overlap=asked[pair], strategy="import", round=round, gold=known,
            )  # fmt: skip

        if gold:
            ask(0)
            return
        order = None if item.order_shown is None else [ids[i] for i in item.order_shown]

        def same(said: str) -> bool:
            rows = connection.execute(select(ranking_item).where(ranking_item.c.judgment == said))
            return {r.completion: r.rank for r in rows} == ranks

        def answer(shown: list[str]) -> dict[str, Any]:
            extra = {} if item.strength is None else {"strength": item.strength}
            if kind == "rank":
                return {"ranks": [ranks[c] for c in shown], **extra}
            if len(places) == 1:
                return {"tie": True}
            return {"better": 0 if ranks[shown[0]] == 1 else 1, **extra}

        _judged(
            connection, item.rater, ask, before, same, answer, order,
            active_ms=None if item.seconds is None else round(item.seconds * 1000),
            client_at=_time(item.created_at),
        )  # fmt: skip

    return added(store, project, items, each, tick)


def votes(
    store: Store,
    project: str,
    items: Sequence[Vote],
    *,
    origin: Origin = NOWHERE,
    tick: Tick | None = None,
) -> dict[str, int]:
    """Thumbs up and down of single responses, as judgments of judges."""
    asked = Counter((v.prompt, v.completion) for v in items)
    seen: Counter[Any] = Counter()

    def each(connection: Connection, item: Vote) -> None:
        response = (item.prompt, item.completion)
        before = seen[item.rater, response]
        seen[item.rater, response] += 1
        key = prompt_id(connection, project, item.prompt, origin)
        shown = _response(connection, key, item.completion, None)
        thumb = 1 if item.good else -1

        def ask(round: int) -> str:
            return content.add_task(
                connection, project, "thumbs", key, [shown],
                overlap=asked[response], strategy="import", round=round,
            )  # fmt: skip

        def same(said: str) -> bool:
            found = select(score.c.value).where(score.c.judgment == said)
            return connection.execute(found).scalar() == thumb

        _judged(connection, item.rater, ask, before, same, lambda _: {"thumbs": [thumb]}, None)

    return added(store, project, items, each, tick)


def _judged(
    connection: Connection,
    name: str | None,
    ask: Callable[[int], str],
    before: int,
    same: Callable[[str], bool],
    answer: Callable[[list[str]], dict[str, Any]],
    order: Sequence[str] | None,
    **about: Any,
) -> None:
    """A judgment, unless this judge has said the same before: of the n-th time in a file, in round n or later."""
    judge = people.ensure_judge(connection, name or NOBODY)
    for number in count(before):
        asked = ask(number)
        given = connection.execute(
            select(assignment.c.id).where(assignment.c.task == asked, assignment.c.rater == judge)
        ).scalar()
        if given is None:
            break
        told = select(judgment.c.id).where(judgment.c.assignment == given)
        if any(same(key) for key in list(connection.execute(told).scalars())):
            return  # perhaps corrected since, which the file knows nothing of
    shown = connection.execute(select(task.c.completions).where(task.c.id == asked)).scalar_one()
    places = None if order is None else [shown.index(c) for c in order]
    given = work.assign(connection, asked, judge, order=places)
    places = connection.execute(
        select(assignment.c.order_shown).where(assignment.c.id == given)
    ).scalar_one()
    said = answer([shown[i] for i in places])
    key = content.digest(["import", asked, judge])
    judging.submit(connection, given, judge, said, key=key, ui_version="import", **about)


def _response(connection: Connection, key: str, text: str, model: str | None) -> str:
    """The response with these words that is there already, whoever wrote it, or a new one."""
    at = completion.c
    found = select(at.id).where(at.prompt == key, at.text == text).order_by(at.id)
    if model is not None:
        found = found.where(at.model == model)
    there = connection.execute(found.limit(1)).scalar()
    return there or content.add_completion(connection, key, text, model=model)


def _time(text: str | None) -> float | None:
    """Seconds since 1970 of a date in a file, if it is one."""
    try:
        at = datetime.fromisoformat(text) if text else None
    except (TypeError, ValueError):
        return None
    if at is None:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
