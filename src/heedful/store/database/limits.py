"""Rate limits as token buckets in the database, so that they hold over restarts and several servers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from heedful.store.database.db import now
from heedful.store.tables.schema import rate_limit


@dataclass(frozen=True)
class Limit:
    """`burst` at once, then one every `seconds`."""

    burst: int
    seconds: float


# Only wrong passwords count in the end. Nobody is refused for what others do at the same address, behind which a whole
# team may be; but where many were wrong at an address, each account has fewer attempts there.
ACCOUNT_AT_ADDRESS = Limit(8, 30.0)
ADDRESS = Limit(40, 3.0)
SUSPECTED = Limit(3, 120.0)  # an account at an address whose own bucket is empty
ACCOUNT = Limit(200, 30.0)  # from all addresses together: a flood, not a person
STALE = 7200.0  # seconds after which every bucket is full again, and its row worth nothing

Bucket = tuple[str, Limit]


def sign_in(connection: Connection, login: str, place: str) -> tuple[float, list[Bucket]]:
    """Count an attempt to sign in: how many seconds to wait, or 0; and what to `give_back` if it succeeds."""
    address = (f"login:{place}", ADDRESS)
    level = _tokens(connection, *address)
    at_address = (f"login:{place}:{login}", ACCOUNT_AT_ADDRESS if level >= 1 else SUSPECTED)
    buckets = [at_address, (f"login-of:{login}", ACCOUNT)]
    wait = take_all(connection, buckets)
    if not wait and level >= 1:
        _keep(connection, address[0], level - 1)
        buckets.append(address)
    return wait, buckets


def take_all(connection: Connection, buckets: Sequence[Bucket]) -> float:
    """Take one from each bucket, or from none; returns 0, or how many seconds to wait where one is empty.

    Whoever is refused by one bucket empties no other: else a guesser at one address would shut out the owner at all.
    """
    levels = [_tokens(connection, key, limit) for key, limit in buckets]
    wait = max((1 - n) * of.seconds for n, (_, of) in zip(levels, buckets, strict=True))
    if wait > 0:
        return wait
    for (key, _), level in zip(buckets, levels, strict=True):
        _keep(connection, key, level - 1)
    return 0.0


def give_back(connection: Connection, buckets: Sequence[Bucket]) -> None:
    """Put one back into each: whoever signs in with the right password has not been guessing."""
    for key, limit in buckets:
        _keep(connection, key, min(float(limit.burst), _tokens(connection, key, limit) + 1))


def _tokens(connection: Connection, key: str, limit: Limit) -> float:
    """How many a bucket holds now."""
    query = select(rate_limit).where(rate_limit.c.key == key[:200]).with_for_update()
    row = connection.execute(query).first()
    if row is None:
        return float(limit.burst)
    refilled = row.tokens + max(0.0, now(connection) - row.at) / limit.seconds
    return min(float(limit.burst), refilled)


def _keep(connection: Connection, key: str, tokens: float) -> None:
    values = {"tokens": tokens, "at": now(connection)}
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(rate_limit).values(key=key[:200], **values)
    connection.execute(
        statement.on_conflict_do_update(index_elements=[rate_limit.c.key], set_=values)
    )
    if random.random() < 0.01:  # whoever tries names by the thousand leaves rows by the thousand
        connection.execute(delete(rate_limit).where(rate_limit.c.at < values["at"] - STALE))
