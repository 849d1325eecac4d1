"""What opens an account besides its password: sessions, API tokens, known browsers, links to a new password."""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import Connection, Row, delete, select

from heedful.errors import UserError
from heedful.store.database import audit
from heedful.store.database.db import now
from heedful.store.tables.columns import sha256
from heedful.store.tables.schema import (
    api_token,
    known_device,
    password_link,
    rater,
    rater_pii,
    session,
)

DAY = 86400.0
DEVICE_DAYS, DEVICES = 180, 20  # browsers of a person that are known
LINK_DAYS = 1
ID = 16  # letters of a session's hash that name it: the hash itself opens nothing


def sessions(
    connection: Connection, rater_id: str, *, csrf: str | None = None
) -> list[dict[str, Any]]:
    """A person's sessions, the newest first: {id, user_agent, address, created_at, used_at, current}.

    `current` is the one of this CSRF token.
    """
    open_ = (session.c.rater == rater_id, session.c.expires_at > now(connection))
    rows = connection.execute(select(session).where(*open_).order_by(session.c.created_at.desc()))
    return [
        {
            "id": row.token_hash[:ID],
            "user_agent": row.user_agent,
            "address": row.address,
            "created_at": row.created_at,
            "used_at": row.used_at,
            "current": row.csrf == csrf,
        }
        for row in rows
    ]


def tokens(connection: Connection, rater_id: str) -> list[dict[str, Any]]:
    """A person's API tokens, the oldest first; their secrets are not kept."""
    t = api_token.c
    columns = (
        t.id,
        t.name,
        t.scopes,
        t.created_at,
        t.expires_at,
        t.revoked_at,
        t.used_at,
        t.address,
    )
    rows = connection.execute(select(*columns).where(t.rater == rater_id).order_by(t.created_at))
    return [dict(row._mapping) for row in rows]


def end_session(connection: Connection, key: str, *, actor: str, anyones: bool) -> None:
    """One's own session, or anybody's for an owner."""
    of_key = session.c.token_hash.startswith(key, autoescape=True)
    rows = connection.execute(select(session.c.token_hash, session.c.rater).where(of_key)).all()
    if len(key) != ID or len(rows) != 1 or not (anyones or rows[0].rater == actor):
        raise UserError("there is no such session")
    connection.execute(delete(session).where(session.c.token_hash == rows[0].token_hash))
    audit.record(connection, actor, "session.end", rater=rows[0].rater, session=key)


def end_others(connection: Connection, rater_id: str, csrf: str | None) -> int:
    """Every session of a person but the one of this CSRF token; returns how many."""
    others = (session.c.rater == rater_id, session.c.csrf != (csrf or ""))
    ended = connection.execute(delete(session).where(*others)).rowcount
    audit.record(connection, rater_id, "session.end", rater=rater_id, sessions=ended)
    return ended


def end_all(connection: Connection, rater_id: str) -> dict[str, int]:
    """Every session and API token of a person, what is known of their browsers, and links to a new password."""
    ended = connection.execute(delete(session).where(session.c.rater == rater_id)).rowcount
    connection.execute(delete(known_device).where(known_device.c.rater == rater_id))
    connection.execute(delete(password_link).where(password_link.c.rater == rater_id))
    open_ = (api_token.c.rater == rater_id, api_token.c.revoked_at.is_(None))
    revoked = api_token.update().where(*open_).values(revoked_at=now(connection))
    return {"sessions": ended, "tokens": connection.execute(revoked).rowcount}


# ── browsers ─────────────────────────────────────────────────────────────────────────────────────


def remember_device(connection: Connection, rater_id: str, known: str | None) -> str | None:
    """The token of a browser from which somebody has signed in, to be kept there; None if it has a good one."""
    timestamp = now(connection)
    stale = known_device.c.used_at < timestamp - DEVICE_DAYS * DAY
    connection.execute(delete(known_device).where(stale))
    if known:
        this = (known_device.c.token_hash == sha256(known), known_device.c.rater == rater_id)
        used = known_device.update().where(*this).values(used_at=timestamp)
        if connection.execute(used).rowcount:
            return None
    theirs = known_device.c.rater == rater_id
    newest = select(known_device.c.token_hash).where(theirs)
    newest = newest.order_by(known_device.c.used_at.desc()).limit(DEVICES - 1)
    # A script that keeps no cookies is a new one each time.
    connection.execute(delete(known_device).where(theirs, known_device.c.token_hash.not_in(newest)))
    token = secrets.token_urlsafe(32)
    row = {"token_hash": sha256(token), "rater": rater_id}
    connection.execute(known_device.insert().values(**row, created_at=timestamp, used_at=timestamp))
    return token


def knows_device(connection: Connection, token: str, login: str) -> bool:
    """Whether somebody has signed in to the account of this login from this browser."""
    joined = known_device.join(rater_pii, rater_pii.c.rater == known_device.c.rater)
    this = (known_device.c.token_hash == sha256(token), rater_pii.c.login == login)
    return (
        connection.execute(select(known_device.c.rater).select_from(joined).where(*this)).first()
        is not None
    )


# ── links to a new password ──────────────────────────────────────────────────────────────────────


def make_link(connection: Connection, rater_id: str, *, actor: str | None) -> str:
    """The token of a link by which this person sets a new password, once and within a day. The old one goes on."""
    person = connection.execute(select(rater_pii).where(rater_pii.c.rater == rater_id)).first()
    if person is None:
        raise UserError("there is no such person with a password")
    token, timestamp = secrets.token_urlsafe(32), now(connection)
    connection.execute(delete(password_link).where(password_link.c.rater == rater_id))
    connection.execute(
        password_link.insert().values(
            token_hash=sha256(token),
            rater=rater_id,
            made_by=actor,
            created_at=timestamp,
            expires_at=timestamp + LINK_DAYS * DAY,
        )
    )
    audit.record(connection, actor, "password.link", rater=rater_id)
    return token


def link_of(connection: Connection, token: str) -> Row:
    """{rater, login} of a link's token; `UserError` if it is over, or who made it has been suspended."""
    maker = rater.alias()
    row = connection.execute(
        select(password_link, rater_pii.c.login, maker.c.status)
        .join(rater_pii, rater_pii.c.rater == password_link.c.rater)
        .outerjoin(maker, maker.c.id == password_link.c.made_by)
        .where(password_link.c.token_hash == sha256(token))
    ).first()
    if row is None or row.expires_at < now(connection) or row.status not in (None, "active"):
        raise UserError("this link is not valid any more; ask for a new one")
    return row
