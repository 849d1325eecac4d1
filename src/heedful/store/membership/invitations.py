"""Invitations: links by which somebody makes an account, for anybody or for a certain person, with what they give.

Whom a link is for is kept apart, in `invitation_pii`, and can be erased; a link's token is kept as a hash.
"""

from __future__ import annotations

import csv
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, select

from heedful.errors import UserError
from heedful.store.database import audit
from heedful.store.database.db import insert, now
from heedful.store.membership import members, rights
from heedful.store.tables.columns import sha256
from heedful.store.tables.schema import (
    invitation,
    invitation_pii,
    project,
    rater,
    rater_group,
)

ROLES = ("owner", "lead", "rater")
DAYS, DAY = 7, 86400.0
MOST = 500  # made at once
STALE = "this invitation is not valid any more; ask for a new one"
USED = "this link works once and has been used: sign in with the account that was made, or ask for a new link"
EMAIL = re.compile(r"[^\s<>@,;\"]+@[^\s<>@,;\"]+")


@dataclass(frozen=True)
class Addressee:
    """Whom an invitation is for, as far as who invites has said."""

    name: str | None = None
    email: str | None = None


@dataclass(frozen=True)
class Gives:
    """What an invitation gives to whoever accepts it: groups by id, roles in projects by id."""

    groups: Collection[str] = ()
    projects: Mapping[str, rights.Role] | None = None

    def __bool__(self) -> bool:
        return bool(self.groups or self.projects)


NOTHING = Gives()


def addressees(text: str) -> list[Addressee]:
    """People of a list as one pastes it: a name, an address, both (`Ada <ada@example.org>`), or CSV with `,`, `;` or
    tabs and perhaps a header; one a line. Who is there twice, by address or else by name, is there once."""
    found: dict[str, Addressee] = {}
    for line in text.splitlines():
        delimiter = next((d for d in "\t;" if d in line), ",")
        cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
        if {cell.casefold() for cell in cells if cell} <= {"name", "email", "e-mail", "mail"}:
            continue  # empty, or a header
        address = next((m[0] for cell in cells if (m := EMAIL.search(cell))), None)
        words = [EMAIL.sub("", cell).strip(" <>\"'") for cell in cells]
        name = " ".join(word for word in words if word) or None
        if any(
            not (value or "x").isprintable() or len(value or "") > 200 for value in (name, address)
        ):
            raise UserError(
                f"'{line[:60]}' is no name or address of at most 200 printable characters"
            )
        found.setdefault((address or name or "").casefold(), Addressee(name, address))
    if len(found) > MOST:
        raise UserError(f"{len(found)} people are too many at once; {MOST} are the most")
    return list(found.values())


def make(
    connection: Connection,
    role: str,
    *,
    actor: str | None,
    person: Addressee | None = None,
    gives: Gives = NOTHING,
) -> tuple[str, str]:
    """An invitation's id and its token, which is shown once."""
    if role not in ROLES:
        raise UserError(f"there is no role '{role}': {', '.join(ROLES)}")
    token, timestamp = secrets.token_urlsafe(32), now(connection)
    given = {"groups": sorted(gives.groups), "projects": dict(gives.projects or {})}
    key = insert(
        connection,
        invitation,
        token_hash=sha256(token),
        role=role,
        invited_by=actor,
        created_at=timestamp,
        expires_at=timestamp + DAYS * DAY,
        gives=given if gives else None,
    )
    if person is not None and (person.name or person.email):
        about = {"invitation": key, "name": person.name, "email": person.email}
        connection.execute(invitation_pii.insert().values(**about))
    audit.record(connection, actor, "invitation.create", invitation=key, role=role, **given)
    return key, token


def of_token(connection: Connection, token: str) -> Row:
    """The open invitation of a token; `UserError` if there is none: `USED` or `STALE`."""
    row = connection.execute(
        select(invitation).where(invitation.c.token_hash == sha256(token)).with_for_update()
    ).first()
    if row is not None and row.used_by is not None:
        raise UserError(USED)
    if row is None or row.expires_at < now(connection):
        raise UserError(STALE)
    if row.invited_by is not None and _inviter(connection, row) is None:
        raise UserError(STALE)
    return row


def _inviter(connection: Connection, row: Row) -> Row | None:
    """Who made it, if they may still: whoever is suspended, or leads no more, invites nobody by links made before,
    which they could use themselves."""
    query = select(rater.c.id, rater.c.role, rater.c.status).where(rater.c.id == row.invited_by)
    person = connection.execute(query).one()
    may = ("owner", "lead") if row.role == "rater" else ("owner",)
    return person if person.status == "active" and person.role in may else None


def used(connection: Connection, row: Row, rater_id: str) -> str | None:
    """Somebody has accepted it: they get what it gives, as far as who made it may still give that. Returns the name
    that it was for."""
    connection.execute(
        invitation.update().where(invitation.c.id == row.id).values(used_by=rater_id)
    )
    audit.record(connection, rater_id, "invitation.accept", invitation=row.id, role=row.role)
    given = row.gives or {}
    inviter = _inviter(connection, row) if row.invited_by else None
    for group in given.get("groups", ()):
        there = connection.execute(
            select(rater_group.c.id).where(rater_group.c.id == group)
        ).first()
        if (
            there
            and inviter
            and members.may_change_group(connection, group, inviter.id, inviter.role)
        ):
            members.join(connection, group, rater_id, actor=inviter.id)
    for key, role in given.get("projects", {}).items():
        has = inviter and rights.standing(connection, key, inviter.id, inviter.role)
        if inviter and has and has.may("lead"):
            members.change(connection, key, rater_id, actor=inviter.id, role=role)
    name = select(invitation_pii.c.name).where(invitation_pii.c.invitation == row.id)
    return connection.execute(name).scalar()


def forget(connection: Connection, rater_id: str) -> None:
    """Nothing that names the person by whom an invitation was used."""
    theirs = select(invitation.c.id).where(invitation.c.used_by == rater_id)
    connection.execute(delete(invitation_pii).where(invitation_pii.c.invitation.in_(theirs)))


def withdraw(connection: Connection, key: str, *, actor: str) -> bool:
    """An invitation that nobody has used is worth nothing from now on, and names nobody; False if there is none."""
    open_ = (invitation.c.id == key, invitation.c.used_by.is_(None))
    if not connection.execute(invitation.update().where(*open_).values(expires_at=0.0)).rowcount:
        return False
    connection.execute(delete(invitation_pii).where(invitation_pii.c.invitation == key))
    audit.record(connection, actor, "invitation.withdraw", invitation=key)
    return True


def sent(connection: Connection, problems: Mapping[str, str | None]) -> None:
    """Mails have gone out, or not, and why: by the invitation's id."""
    timestamp = now(connection)
    for key, problem in problems.items():
        at = timestamp if problem is None else None
        row = invitation_pii.update().where(invitation_pii.c.invitation == key)
        connection.execute(row.values(sent_at=at, problem=problem))


def listed(connection: Connection, *, everything: bool, limit: int = 1000) -> list[dict[str, Any]]:
    """The newest invitations: {id, role, state, created_at, expires_at, name, email, sent_at, problem, groups,
    projects, used_by}; `state` is open, used, expired or withdrawn. Who has used one that names somebody is told only
    to who may know whose pseudonyms these are (`everything`)."""
    p, i, timestamp = invitation_pii.c, invitation.c, now(connection)
    query = (
        select(invitation, p.name, p.email, p.sent_at, p.problem, rater.c.pseudonym)
        .outerjoin(invitation_pii, p.invitation == i.id)
        .outerjoin(rater, rater.c.id == i.used_by)
        .order_by(i.created_at.desc(), i.id.desc())
        .limit(limit)
    )
    names = {
        row.id: row.name
        for table in (rater_group, project)
        for row in connection.execute(select(table.c.id, table.c.name))
    }
    told = []
    for row in connection.execute(query):
        given = row.gives or {}
        state = (
            "open" if row.expires_at >= timestamp else "expired" if row.expires_at else "withdrawn"
        )
        named = bool(row.name or row.email)
        told.append(
            {
                "id": row.id,
                "role": row.role,
                "state": "used" if row.used_by else state,
                "created_at": row.created_at,
                "expires_at": row.expires_at,
                "name": row.name,
                "email": row.email,
                "sent_at": row.sent_at,
                "problem": row.problem,
                "groups": [names[k] for k in given.get("groups", ()) if k in names],
                "projects": {k: r for k, r in given.get("projects", {}).items() if k in names},
                "used_by": row.pseudonym if everything or not named else None,
            }
        )
    return told


def clear_first(connection: Connection) -> None:
    """Open invitations of owners are worth nothing any more, while there is no owner."""
    unused = (invitation.c.role == "owner", invitation.c.used_by.is_(None))
    keys = select(invitation.c.id).where(*unused)
    connection.execute(delete(invitation_pii).where(invitation_pii.c.invitation.in_(keys)))
    connection.execute(delete(invitation).where(*unused))


def refuse(connection: Connection, gives: Gives, actor: str, actor_role: str) -> str | None:
    """Why somebody may not give that, in a sentence; None where they may."""
    mine: Sequence[str] = list(rights.everywhere(connection, actor, actor_role, least="lead"))
    for key, role in (gives.projects or {}).items():
        if key not in mine:
            return "only a lead of a project may invite people to it"
        if role not in rights.ROLES:
            return f"a role in a project is {', '.join(rights.ROLES)}, not '{role}'"
    for group in gives.groups:
        if (
            connection.execute(select(rater_group.c.id).where(rater_group.c.id == group)).first()
            is None
        ):
            return "there is no such group"
        if not members.may_change_group(connection, group, actor, actor_role):
            return "this group has a project that you do not lead; an owner may do this"
    return None
