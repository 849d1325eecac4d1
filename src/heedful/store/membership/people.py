"""Accounts: first owner, invitations, signing in, sessions, API tokens. Secrets are kept as hashes only.

Passwords are hashed with argon2id, outside of transactions: hashing takes long on purpose, and the database has
one writer at a time.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, select

from heedful.errors import UserError
from heedful.store.database import audit
from heedful.store.database.db import insert, now
from heedful.store.database.prepared import prepared
from heedful.store.membership import access, invitations
from heedful.store.membership.invitations import ROLES
from heedful.store.tables.columns import sha256
from heedful.store.tables.schema import (
    api_token,
    group_member,
    identity,
    project_member,
    rater,
    rater_pii,
    session,
)

SCOPES = ("read", "rate", "lead")
SESSION_DAYS = 14
TOUCH_SECONDS = 3600.0  # a session's end moves at most so often: reading should not write
MIN_PASSWORD, MAX_PASSWORD = 10, 1000
DAY = 86400.0
KINDS = "quiet brave amber gentle lucky misty noble proud rapid silver sunny tidy velvet witty young zesty calm"
ANIMALS = "otter heron lynx panda robin tiger koala falcon badger dolphin gecko ibis marten newt owl puffin wren"


@dataclass(frozen=True)
class Session:
    """A rater who is signed in."""

    rater: str
    pseudonym: str
    role: str
    status: str
    csrf: str


def hash_password(password: str, *, login: str = "") -> str:
    """argon2id; refuses passwords that are too short, or the login again."""
    if len(password) < MIN_PASSWORD:
        raise UserError(f"a password needs at least {MIN_PASSWORD} characters")
    if len(password) > MAX_PASSWORD:
        raise UserError(f"a password has at most {MAX_PASSWORD} characters")
    if login and password.casefold() == login.casefold():
        raise UserError("the password must not be the login")
    return _hasher().hash(password.encode("utf-8", "surrogatepass"))


def verify_password(stored: str | None, password: str) -> bool:
    """Takes as long where there is no such account: an unknown login must not answer faster."""
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        encoded = password[:MAX_PASSWORD].encode("utf-8", "surrogatepass")
        return _hasher().verify(stored or _dummy_hash(), encoded) and stored is not None
    except (VerificationError, InvalidHashError):
        return False


def first_start(connection: Connection) -> str | None:
    """A one-time token to make the owner's account, while there is none; it replaces earlier ones."""
    owners = select(func.count()).select_from(rater).where(rater.c.role == "owner")
    if connection.execute(owners).scalar_one():
        return None
    invitations.clear_first(connection)
    return invite(connection, "owner", actor=None)


def invite(connection: Connection, role: str, *, actor: str | None) -> str:
    """The token of an invitation for anybody, which is shown once and kept as a hash."""
    return invitations.make(connection, role, actor=actor)[1]


def accept(
    connection: Connection, token: str, *, login: str, password_hash: str, name: str | None = None
) -> str:
    """Make the account that an invitation stands for; returns the rater's id."""
    login = normal_login(login)
    row = invitations.of_token(connection, token)
    if connection.execute(select(rater_pii.c.rater).where(rater_pii.c.login == login)).first():
        raise UserError("this login is taken")
    key = _account(connection, _pseudonym(connection), row.role)
    invited = invitations.used(connection, row, key)
    connection.execute(
        rater_pii.insert().values(
            rater=key, login=login, name=name or invited, password_hash=password_hash
        )
    )
    return key


def normal_login(login: str) -> str:
    """As it is kept and compared."""
    login = login.strip().casefold()
    if not 1 <= len(login) <= 200 or not login.isprintable():
        raise UserError("a login has 1 to 200 printable characters")
    return login


def by_login(connection: Connection, login: str) -> Row | None:
    """The account of a login, with its password hash."""
    query = select(rater, rater_pii.c.password_hash).join(
        rater_pii, rater_pii.c.rater == rater.c.id
    )
    return connection.execute(query.where(rater_pii.c.login == login.strip().casefold())).first()


def begin_session(
    connection: Connection,
    rater_id: str,
    *,
    user_agent: str | None = None,
    address: str | None = None,
) -> tuple[str, str]:
    """A new session's token and its CSRF token."""
    token, csrf, timestamp = secrets.token_urlsafe(32), secrets.token_urlsafe(24), now(connection)
    connection.execute(delete(session).where(session.c.expires_at < timestamp))
    connection.execute(
        session.insert().values(
            token_hash=sha256(token),
            rater=rater_id,
            csrf=csrf,
            created_at=timestamp,
            expires_at=timestamp + SESSION_DAYS * DAY,
            used_at=timestamp,
            user_agent=user_agent and user_agent[:300],
            address=address,
        )
    )
    audit.record(connection, rater_id, "session.begin")
    return token, csrf


def end_session(connection: Connection, token: str) -> None:
    connection.execute(delete(session).where(session.c.token_hash == sha256(token)))


def find_session(connection: Connection, token: str) -> tuple[Session | None, bool]:
    """Whose session it is, and whether its end ought to be moved (`touch`)."""
    row = connection.execute(
        select(session, rater.c.pseudonym, rater.c.role, rater.c.status)
        .join(rater, rater.c.id == session.c.rater)
        .where(session.c.token_hash == sha256(token))
    ).first()
    timestamp = now(connection)
    if row is None or row.expires_at < timestamp or row.status == "gone":
        return None, False
    stale = row.expires_at - timestamp < SESSION_DAYS * DAY - TOUCH_SECONDS
    return Session(row.rater, row.pseudonym, row.role, row.status, row.csrf), stale


def touch(connection: Connection, token: str, address: str | None) -> None:
    """A session that is used goes on."""
    timestamp = now(connection)
    connection.execute(
        session.update()
        .where(session.c.token_hash == sha256(token))
        .values(expires_at=timestamp + SESSION_DAYS * DAY, used_at=timestamp, address=address)
    )


def touch_token(connection: Connection, key: str, address: str | None) -> None:
    """An API token has been used."""
    used = {"used_at": now(connection), "address": address}
    connection.execute(api_token.update().where(api_token.c.id == key).values(**used))


def make_token(
    connection: Connection,
    rater_id: str,
    name: str,
    scopes: Collection[str],
    *,
    days: float | None = None,
) -> tuple[str, str]:
    """An API token's id and its secret, which is shown once."""
    if not name.strip():
        raise UserError("a token needs a name")
    unknown = [s for s in scopes if s not in SCOPES]
    if unknown or not scopes:
        raise UserError(
            f"scopes are {', '.join(SCOPES)}" + (f", not '{unknown[0]}'" if unknown else "")
        )
    if days is not None and not 0 < days <= 3650:
        raise UserError("a token lives for 1 to 3650 days, or without an end")
    secret, timestamp = f"hf_{secrets.token_urlsafe(32)}", now(connection)
    key = insert(
        connection,
        api_token,
        rater=rater_id,
        name=name,
        token_hash=sha256(secret),
        scopes=sorted(set(scopes)),
        created_at=timestamp,
        expires_at=None if days is None else timestamp + days * DAY,
    )
    audit.record(connection, rater_id, "token.create", token=key, scopes=sorted(set(scopes)))
    return key, secret


def token_of(connection: Connection, secret: str) -> tuple[Row | None, bool]:
    """The rater and scopes of a valid API token, and whether its use ought to be noted (`touch_token`)."""
    row = _by_token(connection, sha256(secret)).first()
    if row is None or row.revoked_at is not None or row.status == "gone":
        return None, False
    timestamp = now(connection)
    if row.expires_at is not None and row.expires_at < timestamp:
        return None, False
    return row, (row.used_at or 0.0) < timestamp - TOUCH_SECONDS


@prepared
def _by_token(token_hash: str) -> Select:
    of_rater = select(api_token, rater.c.pseudonym, rater.c.role, rater.c.status)
    joined = of_rater.join(rater, rater.c.id == api_token.c.rater)
    return joined.where(api_token.c.token_hash == token_hash)


def revoke_token(connection: Connection, token_id: str, *, actor: str, anyones: bool) -> None:
    """One's own token, or anybody's for an owner."""
    ownership = () if anyones else (api_token.c.rater == actor,)
    result = connection.execute(
        api_token.update()
        .where(api_token.c.id == token_id, api_token.c.revoked_at.is_(None), *ownership)
        .values(revoked_at=now(connection))
    )
    if not result.rowcount:
        raise UserError("there is no such token")
    audit.record(connection, actor, "token.revoke", token=token_id)


def change_password(connection: Connection, rater_id: str, password_hash: str) -> None:
    """All sessions and API tokens end: whoever knew the old password is out, and so is what they have made."""
    connection.execute(
        rater_pii.update().where(rater_pii.c.rater == rater_id).values(password_hash=password_hash)
    )
    audit.record(connection, rater_id, "password.change", **access.end_all(connection, rater_id))


def change_rater(
    connection: Connection,
    rater_id: str,
    *,
    actor: str | None,
    role: str | None = None,
    status: str | None = None,
    settings: dict[str, Any] | None = None,
) -> None:
    """Role, status and limits of a person; the last owner stays one."""
    person = connection.execute(select(rater).where(rater.c.id == rater_id)).first()
    if person is None:
        raise UserError("there is no such rater")
    if role is not None and (role not in ROLES or person.role == "judge"):
        raise UserError(f"the role must be one of {', '.join(ROLES)}, and judges keep theirs")
    if status is not None and status not in ("active", "paused"):
        raise UserError("the status must be active or paused")
    loses = person.role == "owner" and (role not in (None, "owner") or status == "paused")
    if loses and _owners(connection) == 1:
        raise UserError("the last owner stays an active owner")
    values: dict[str, Any] = {}
    if role is not None:
        values["role"] = role
    if status is not None:
        values["status"] = status
    if settings is not None:
        merged = person.settings | _limits(settings)
        # Null takes a limit away, so that the project's counts again.
        values["settings"] = {k: v for k, v in merged.items() if v is not None}
    if values:
        connection.execute(rater.update().where(rater.c.id == rater_id).values(**values))
        audit.record(connection, actor, "rater.change", rater=rater_id, changed=values)


def erase(connection: Connection, rater_id: str, *, actor: str) -> None:
    """Forget who somebody was: login, name, sessions and tokens go, what they judged stays under the pseudonym."""
    person = connection.execute(select(rater).where(rater.c.id == rater_id)).first()
    if person is None or person.role == "judge":
        raise UserError("there is no such person")
    if person.role == "owner" and _owners(connection) == 1:
        raise UserError("the last owner cannot be erased")
    access.end_all(connection, rater_id)
    for table in (group_member, project_member, identity):
        connection.execute(delete(table).where(table.c.rater == rater_id))
    invitations.forget(connection, rater_id)
    own = api_token.c.rater == rater_id
    connection.execute(api_token.update().where(own).values(name="", address=None))
    connection.execute(delete(rater_pii).where(rater_pii.c.rater == rater_id))
    connection.execute(
        rater.update().where(rater.c.id == rater_id).values(status="gone", settings={})
    )
    audit.record(connection, actor, "rater.erase", rater=rater_id)


def ensure_judge(connection: Connection, name: str) -> str:
    """The account of a judge who is no person: a simulation, a model, an imported file. It cannot sign in."""
    account = connection.execute(
        select(rater.c.id, rater.c.role).where(rater.c.pseudonym == name)
    ).first()
    if account and account.role == "judge":
        return account.id
    if account:  # a person bears this name
        return ensure_judge(connection, f"{name} (judge)")
    return _account(connection, name, "judge")


def _account(connection: Connection, pseudonym: str, role: str) -> str:
    row = {"pseudonym": pseudonym, "role": role, "status": "active", "settings": {}}
    return insert(connection, rater, **row)


def _limits(settings: dict[str, Any]) -> dict[str, Any]:
    for name, value in settings.items():
        if name not in ("daily_limit", "total_limit", "cost_per_hour"):
            raise UserError(f"a rater has no setting '{name}'")
        types = (int, float) if name == "cost_per_hour" else (int,)
        if value is not None and (type(value) not in types or not 0 <= value < 1e9):
            raise UserError(f"{name} must be a number from 0 on")
    return settings


def _owners(connection: Connection) -> int:
    active = (rater.c.role == "owner", rater.c.status == "active")
    return connection.execute(select(func.count()).select_from(rater).where(*active)).scalar_one()


def _pseudonym(connection: Connection) -> str:
    """Pleasant, and says nothing about the person."""
    while True:
        name = f"{secrets.choice(KINDS.split())}-{secrets.choice(ANIMALS.split())}-{secrets.randbelow(90) + 10}"
        if not connection.execute(select(rater.c.id).where(rater.c.pseudonym == name)).first():
            return name


def _hasher() -> Any:
    from argon2 import PasswordHasher

    return PasswordHasher()


def no_password() -> str:
    """The hash of an account without a password, which none fits and which takes as long to try as any."""
    return _dummy_hash()


@cache
def _dummy_hash() -> str:
    """A hash that fits no password; made up, since hashing one would take time and memory of its own."""
    hasher = _hasher()
    salt, hashed = (
        b64encode(secrets.token_bytes(n)).decode().rstrip("=")
        for n in (hasher.salt_len, hasher.hash_len)
    )
    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${costs}${salt}${hashed}"
