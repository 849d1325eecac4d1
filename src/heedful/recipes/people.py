"""Accounts at the command line: who there is, new passwords, pausing, ending sessions and tokens."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, or_, select

from heedful.configs.people import Config
from heedful.errors import UserError, did_you_mean
from heedful.store import access, audit, people
from heedful.store.schema import rater, rater_pii
from heedful.transfer.workspace import opened


def run(config: Config) -> Any:
    """What was asked for, or what was done."""
    with opened(config.workspace) as store:
        return store.in_write(lambda connection: _done(connection, config))


def _done(connection: Connection, config: Config) -> Any:
    if config.action == "list":
        return [_about(row) for row in _everybody(connection)]
    person = _named(connection, config.name or "")
    if config.action == "show":
        return {
            **_about(person),
            "sessions": access.sessions(connection, person.id),
            "tokens": access.tokens(connection, person.id),
        }
    if config.action == "reset":
        token = access.make_link(connection, person.id, actor=None)
        return {**_about(person), "link": f"{config.url.rstrip('/')}/reset?token={token}"}
    if config.action == "end":
        ended = access.end_all(connection, person.id)
        audit.record(connection, None, "access.end", rater=person.id, **ended)
        return {**_about(person), "ended": ended}
    status = "paused" if config.action == "pause" else "active"
    people.change_rater(connection, person.id, actor=None, status=status)
    return {**_about(person), "status": status}


def _everybody(connection: Connection) -> list[Row]:
    joined = rater.outerjoin(rater_pii, rater_pii.c.rater == rater.c.id)
    query = select(rater, rater_pii.c.login).select_from(joined)
    return list(connection.execute(query.order_by(rater.c.created_at)))


def _named(connection: Connection, name: str) -> Row:
    joined = rater.join(rater_pii, rater_pii.c.rater == rater.c.id)
    query = select(rater, rater_pii.c.login).select_from(joined)
    this = or_(rater_pii.c.login == name.strip().casefold(), rater.c.pseudonym == name)
    if row := connection.execute(query.where(this)).first():
        return row
    known = [n for row in connection.execute(query) for n in (row.login, row.pseudonym)]
    raise UserError(f"nobody here is called '{name}'{did_you_mean(name, known)}")


def _about(row: Row) -> dict[str, Any]:
    return {
        "login": row.login,
        "pseudonym": row.pseudonym,
        "role": row.role,
        "status": row.status,
    }
