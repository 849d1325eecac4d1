"""A small project with raters and tasks, for the tests of store and web."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from argon2 import PasswordHasher
from sqlalchemy import Connection

from heedful.store.database.db import Store, new_id, now
from heedful.store.membership import people
from heedful.store.project import content, projects
from heedful.store.rating import judging, work
from heedful.store.tables import schema
from heedful.types import Message

# Hashing is slow on purpose, which is no matter of what happens around it.
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@contextmanager
def cheap_passwords() -> Iterator[None]:
    """Passwords are hashed by `CHEAP` meanwhile."""
    with patch.object(people, "_hasher", lambda: CHEAP):
        people._dummy_hash.cache_clear()
        yield
    people._dummy_hash.cache_clear()


def make_project(store: Store, name: str = "capitals", **settings: Any) -> str:
    """A project that mixes in nothing by chance unless a test asks for it."""
    values = {"gold_rate": 0.0, "swap_rate": 0.0} | settings
    with store.write() as connection:
        return projects.create(connection, name, projects.settings_from(values))


def make_rater(store: Store, role: str = "rater", **settings: Any) -> str:
    """A rater without a login."""
    with store.write() as connection:
        key = new_id()
        connection.execute(
            schema.rater.insert().values(
                id=key,
                pseudonym=f"{role}-{key}",
                role=role,
                status="active",
                settings=settings,
                created_at=now(connection),
            )
        )
        return key


def make_task(
    store: Store,
    project: str,
    kind: str = "pair",
    responses: Sequence[str] = ("Lima.", "I don't know."),
    question: str = "What is the capital of Peru?",
    **options: Any,
) -> str:
    with store.write() as connection:
        prompt = content.add_prompt(connection, project, (Message("user", question),))
        ids = [content.add_completion(connection, prompt, text, model="m") for text in responses]
        return content.add_task(connection, project, kind, prompt, ids, **options)


def make_tasks(store: Store, project: str, n: int, **options: Any) -> list[str]:
    return [make_task(store, project, question=f"What is {i} + {i}?", **options) for i in range(n)]


def claim(store: Store, project: str, rater: str, **options: Any) -> str | None:
    with store.write() as connection:
        return work.claim(connection, project, rater, **options).assignment


def answer(
    store: Store, assignment: str, rater: str, said: dict | None = None, key: str | None = None
) -> judging.Receipt:
    with store.write() as connection:
        return judging.submit(
            connection,
            assignment,
            rater,
            {"value": 1} if said is None else said,
            key=key or new_id(),
        )


def expire_lease(connection: Connection, assignment: str) -> None:
    """As if the rater had thought for too long."""
    connection.execute(
        schema.assignment.update()
        .where(schema.assignment.c.id == assignment)
        .values(leased_until=0.0)
    )
