"""Rate limits as token buckets in the database, so that they hold over restarts and several servers."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, select

from heedful.store.db import now
from heedful.store.schema import rate_limit


@dataclass(frozen=True)
class Limit:
    """`burst` at once, then one every `seconds`."""

    burst: int
    seconds: float


# Password guesses are limited per account and address, and per address, so that an attack on an account from another
# address does not lock its owner out.
ACCOUNT_AT_ADDRESS = Limit(8, 30.0)
ADDRESS = Limit(40, 3.0)
ACCOUNT = Limit(200, 10.0)  # from all addresses together: a flood, not a person


def take(connection: Connection, key: str, limit: Limit) -> float:
    """Take one from a bucket; returns 0, or how many seconds to wait where it is empty."""
    timestamp = now(connection)
    row = connection.execute(
        select(rate_limit).where(rate_limit.c.key == key).with_for_update()
    ).first()
    tokens = float(limit.burst)
    if row is not None:
        tokens = min(tokens, row.tokens + max(0.0, timestamp - row.at) / limit.seconds)
    if tokens < 1:
        return (1 - tokens) * limit.seconds
    if row is None:
        stale = timestamp - 7 * 86400
        connection.execute(delete(rate_limit).where(rate_limit.c.at < stale))
        connection.execute(rate_limit.insert().values(key=key, tokens=tokens - 1, at=timestamp))
    else:
        connection.execute(
            rate_limit.update()
            .where(rate_limit.c.key == key)
            .values(tokens=tokens - 1, at=timestamp)
        )
    return 0.0


def reset(connection: Connection, key: str) -> None:
    """Refill a bucket: whoever signed in with the right password has not been guessing."""
    connection.execute(delete(rate_limit).where(rate_limit.c.key == key))
