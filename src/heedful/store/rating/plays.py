"""Plays: a rater talks with an environment in a model's place, and each turn is stored as those of conversations are.

The environment runs elsewhere (envs.host), outside any transaction: `ready` reads what it has to know, `keep` stores
what was said with where that led, and a play that is over becomes an episode and its demonstrations when it is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from heedful.errors import UserError
from heedful.store.database.db import insert, now
from heedful.store.kinds import kind_of
from heedful.store.kinds.checks import MAX_TEXT
from heedful.store.project.content import task_of
from heedful.store.rating.judging import Conflict, assignment_of
from heedful.store.rating.talk import history
from heedful.store.tables.schema import offer as offers
from heedful.store.tables.schema import prompt, turn


@dataclass(frozen=True)
class Ready:
    """What the environment has to know."""

    options: Mapping[str, Any]  # of the question: env, task, seed, max_turns
    prompt: str | list[dict[str, Any]]
    said: tuple[str, ...]  # turn by turn
    last: Mapping[str, Any] | None  # where the last of these led


def ready(
    connection: Connection, assignment_id: str, rater_id: str, message: str | None = None
) -> Ready:
    """How far a play is. `message` is what is to be said next: `UserError` where nothing can be said any more."""
    lease = assignment_of(connection, assignment_id, rater_id)
    task_row = task_of(connection, lease.task).one()
    if not kind_of(task_row.kind).plays:
        raise UserError("this task is no play")
    past = history(connection, assignment_id)
    last = past[-1].candidates[0] if past else None
    if message is not None:
        if not message.strip():
            raise UserError("say something")
        if len(message) > MAX_TEXT:
            raise UserError(f"a turn has at most {MAX_TEXT} characters")
        if lease.state not in ("active", "expired") or (last and "play" in last):
            raise UserError("this play is over")
    content = connection.execute(select(prompt.c.content).where(prompt.c.id == task_row.prompt))
    said = tuple(row.said for row in past)
    return Ready(task_row.options, content.scalar_one(), said, last)


def keep(
    connection: Connection,
    assignment_id: str,
    rater_id: str,
    place: int,
    message: str,
    led: Mapping[str, Any],
) -> None:
    """What was said at this turn, and where it led: {text, and, once it is over, `play`}."""
    assignment_of(connection, assignment_id, rater_id, lock=True)
    if len(history(connection, assignment_id)) != place:
        raise Conflict("this play has gone on in another tab; reload the page")
    row = {"place": place, "said": message, "candidates": [dict(led)], "order_shown": [0]}
    key = insert(connection, offers, assignment=assignment_id, **row)
    connection.execute(
        turn.insert().values(offer=key, chosen=0, strength=None, created_at=now(connection))
    )
