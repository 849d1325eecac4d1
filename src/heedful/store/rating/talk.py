"""Conversations of a rater with two models, or with one: the messages, the replies, and the chosen one.

Nothing is generated within a transaction: `ready` reads what the models need, `offer` keeps what they replied,
`choose` what the rater liked better.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, select

from heedful.errors import UserError
from heedful.store.database.db import insert, now
from heedful.store.database.prepared import prepared
from heedful.store.exports.export import opening
from heedful.store.kinds import kind_of
from heedful.store.kinds.checks import MAX_TEXT
from heedful.store.project.content import task_of
from heedful.store.project.projects import settings_of
from heedful.store.project.screens import questions_of
from heedful.store.rating.judging import Conflict, assignment_of
from heedful.store.tables.schema import offer as offers
from heedful.store.tables.schema import prompt, turn


@dataclass(frozen=True)
class Ready:
    """What the models need for the next turn."""

    place: int  # which turn of the conversation
    messages: list[dict[str, str]]
    models: tuple[str, ...]  # one for each reply
    max_tokens: int
    temperature: float


def ready(
    connection: Connection,
    assignment_id: str,
    rater_id: str,
    message: str,
    rng: random.Random | None = None,
) -> Ready:
    """What the models need to reply to `message`; `UserError` if it is not allowed, `Conflict` if a choice is due."""
    if not message.strip():
        raise UserError("say something")
    if len(message) > MAX_TEXT:
        raise UserError(f"a message has at most {MAX_TEXT} characters")
    lease = assignment_of(connection, assignment_id, rater_id)
    task_row = task_of(connection, lease.task).one()
    kinds = [kind_of(q.kind) for q in questions_of(task_row.kind, task_row.options)]
    kind = next((kind for kind in kinds if kind.talks and not kind.plays), None)
    if kind is None:
        raise UserError("this task is no conversation")
    if lease.state not in ("active", "expired"):
        raise UserError("this conversation is over")
    settings = settings_of(connection, task_row.project)
    if not settings.models:
        raise UserError("this project names no models to talk to; its lead can, in the settings")
    start = select(prompt.c.content).where(prompt.c.id == task_row.prompt)
    past = history(connection, assignment_id)
    if any(row.chosen is None for row in past):
        raise Conflict("choose one of the two replies first")
    if len(past) >= task_row.options["max_turns"]:
        raise UserError(f"a conversation has at most {task_row.options['max_turns']} turns")
    messages = [dict(m) for m in opening(connection.execute(start).scalar_one())]
    for row in past:
        messages.append({"role": "user", "content": row.said})
        messages.append({"role": "assistant", "content": row.candidates[row.chosen]["text"]})
    messages.append({"role": "user", "content": message})
    return Ready(
        len(past),
        messages,
        _models(settings.models, kind.replies, past, rng or random.SystemRandom()),
        settings.talk_tokens,
        settings.talk_temperature,
    )


def _models(
    models: Sequence[str], replies: int, past: Sequence[Any], rng: random.Random
) -> tuple[str, ...]:
    """Who replies: different models, where there are so many; one alone is the same to the end of a conversation."""
    if replies == 1 and past:
        before = past[0].candidates[0]["model"]
        if before not in models:
            raise UserError(
                "the model that you talk with has been taken away: say what there is to say of its replies"
                ", or skip"
            )
        return (before,)
    return tuple(rng.sample([*models], replies) if len(models) >= replies else [*models] * replies)


def offer(
    connection: Connection,
    assignment_id: str,
    rater_id: str,
    place: int,
    message: str,
    candidates: Sequence[dict[str, Any]],
    rng: random.Random | None = None,
) -> list[str]:
    """Keep the replies, each {text, model, sampling, seed, …}; returns their texts in the order they are shown. With
    one alone the conversation goes on at once."""
    assignment_of(connection, assignment_id, rater_id, lock=True)
    if len(history(connection, assignment_id)) != place:
        raise Conflict("this conversation has gone on in another tab; reload the page")
    order = list(range(len(candidates)))
    (rng or random.SystemRandom()).shuffle(order)
    row = {"place": place, "said": message, "candidates": list(candidates), "order_shown": order}
    key = insert(connection, offers, assignment=assignment_id, **row)
    if len(candidates) == 1:
        connection.execute(turn.insert().values(offer=key, chosen=0, created_at=now(connection)))
    return [candidates[i]["text"] for i in order]


def choose(
    connection: Connection,
    assignment_id: str,
    rater_id: str,
    place: int,
    strength: float | None = None,
) -> int:
    """The reply at this place on the screen is better; returns how many turns are done. Saying it twice is fine."""
    if strength is not None and not 0 <= strength <= 1:
        raise UserError("strength must be a number from 0 to 1")
    assignment_of(connection, assignment_id, rater_id, lock=True)
    past = history(connection, assignment_id)
    if not past:
        raise UserError("there is nothing to choose from yet")
    last = past[-1]
    if not 0 <= place < len(last.order_shown):
        raise UserError(f"place must be a whole number from 0 to {len(last.order_shown) - 1}")
    chosen = last.order_shown[place]
    if last.chosen is None:
        connection.execute(
            turn.insert().values(
                offer=last.id, chosen=chosen, strength=strength, created_at=now(connection)
            )
        )
    elif last.chosen != chosen:
        raise Conflict("the other reply was chosen already, and the conversation goes on with it")
    return len(past)


def history(connection: Connection, assignment_id: str) -> list[Any]:
    """Offers in their order, each with the index of the chosen candidate, or None."""
    return list(_offers(connection, assignment_id).all())


@prepared
def _offers(assignment_id: str) -> Select:
    of_turns = select(offers, turn.c.chosen).outerjoin(turn, turn.c.offer == offers.c.id)
    return of_turns.where(offers.c.assignment == assignment_id).order_by(offers.c.place)
