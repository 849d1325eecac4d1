"""Accounts of people who sign in through another server (OpenID Connect), by its issuer and what it calls them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, Row, delete, select

from heedful.errors import UserError
from heedful.store.database import audit
from heedful.store.database.db import now
from heedful.store.membership import people
from heedful.store.tables.schema import identity, rater, rater_pii


@dataclass(frozen=True)
class Claims:
    """Who somebody is by the word of the issuer, checked: `subject` never changes, an address is theirs if verified."""

    issuer: str
    subject: str
    email: str | None = None
    verified: bool = False
    name: str | None = None

    @property
    def domain(self) -> str | None:
        """Of an address that is theirs."""
        return self.email.rpartition("@")[2].casefold() if self.email and self.verified else None


def account_of(connection: Connection, claims: Claims) -> Row | None:
    """The account that this identity opens; None if there is none yet."""
    this = (identity.c.issuer == claims.issuer, identity.c.subject == claims.subject)
    query = select(rater).join(identity, identity.c.rater == rater.c.id)
    return connection.execute(query.where(*this)).first()


def first_time(
    connection: Connection, claims: Claims, *, invitation: str | None, domains: Collection[str]
) -> str:
    """Make the account of somebody who comes for the first time, by an invitation or an allowed domain; its id.

    An account with a password that bears the same address is never taken over: logins are what people typed, and
    nobody has checked that they are theirs. `UserError` says what to do.
    """
    login = people.normal_login(
        claims.email if claims.email and claims.verified else f"{claims.subject}@sso"
    )
    taken = select(rater_pii.c.rater).where(rater_pii.c.login == login)
    if connection.execute(taken).first():
        raise UserError(
            "there is an account with this login already; sign in with its password, and connect it under Account"
        )
    if invitation is None and claims.domain in {d.casefold() for d in domains}:
        invitation = people.invite(connection, "rater", actor=None)
    elif invitation is None:
        raise UserError(
            "you have no account here yet; ask the person who leads your project for an invitation"
        )
    key = people.accept(
        connection, invitation, login=login, password_hash=people.no_password(), name=claims.name
    )
    link(connection, claims, key)
    return key


def link(connection: Connection, claims: Claims, rater_id: str) -> None:
    """From now on this identity opens the account; `UserError` where it opens another one."""
    there = account_of(connection, claims)
    if there is not None and there.id != rater_id:
        raise UserError("this identity belongs to another account")
    if there is None:
        row = {"issuer": claims.issuer, "subject": claims.subject, "rater": rater_id}
        connection.execute(identity.insert().values(**row, created_at=now(connection)))
        audit.record(connection, rater_id, "identity.link", rater=rater_id)


def linked(connection: Connection, rater_id: str) -> bool:
    """Whether somebody may sign in without the password."""
    return (
        connection.execute(select(identity.c.rater).where(identity.c.rater == rater_id)).first()
        is not None
    )


def unlink(connection: Connection, rater_id: str, *, actor: str | None) -> int:
    """Only the password opens the account from now on."""
    ended = connection.execute(delete(identity).where(identity.c.rater == rater_id)).rowcount
    audit.record(connection, actor, "identity.unlink", rater=rater_id)
    return ended
