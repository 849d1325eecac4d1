"""Thumbs that whoever leads a project gives to a model's replies while trying it out, kept as judgments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from heedful.errors import UserError
from heedful.store.database.db import new_id
from heedful.store.project import content
from heedful.store.rating import judging, work
from heedful.types import Message

STRATEGY = "playground"


def judge(
    connection: Connection,
    project: str,
    rater: str,
    messages: Sequence[Mapping[str, str]],
    text: str,
    origin: Mapping[str, Any],
    thumb: int,
) -> str:
    """Keep a reply to `messages`, of this origin (`content.add_completion`), with the thumb that it was given: 1 up,
    -1 down. Returns the assignment, by which the thumb can be turned."""
    _refuse(thumb)
    if not text.strip():
        raise UserError("an empty reply cannot be judged: nothing could be learned from it")
    conversation = tuple(Message(m["role"], m["content"]) for m in messages)
    prompt = content.add_prompt(connection, project, conversation, source=STRATEGY)
    completion = content.add_completion(connection, prompt, text, **origin)
    task = content.add_task(connection, project, "thumbs", prompt, [completion], strategy=STRATEGY)
    lease = work.assign(connection, task, rater)
    _submit(connection, lease, rater, thumb)
    return lease


def turn(connection: Connection, lease: str, rater: str, thumb: int) -> None:
    """Another thumb for the same reply: a new revision of the judgment, and the first one is kept."""
    _refuse(thumb)
    _submit(connection, lease, rater, thumb)


def _submit(connection: Connection, lease: str, rater: str, thumb: int) -> None:
    answer = {"thumbs": [thumb]}
    judging.submit(connection, lease, rater, answer, key=new_id(), ui_version=STRATEGY)


def _refuse(thumb: int) -> None:
    if thumb not in (1, -1):
        raise UserError("a thumb is 1 (up) or -1 (down)")
