"""Accounts over HTTP: signing in and out, joining, people, the audit log."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import func, select

from heedful.errors import UserError
from heedful.store.database import limits
from heedful.store.membership import invitations, people
from heedful.store.tables.schema import audit_event, judgment, rater, rater_pii
from heedful.web import cookies, passwords, proxy
from heedful.web.doors import Door
from heedful.web.security import (
    COOKIE,
    DEVICE,
    PAUSED,
    Anybody,
    Denied,
    Lead,
    Owner,
    Person,
    same_site,
    slow_down,
    store_of,
)

router = APIRouter(route_class=Door, prefix="/api", tags=["people"])


class Login(BaseModel):
    login: str = Field(max_length=300)
    password: str = Field(max_length=2000)


class NewAccount(Login):
    token: str = Field(max_length=200)
    name: str | None = Field(None, max_length=200)


class NewPassword(BaseModel):
    old: str = Field(max_length=2000)
    new: str = Field(max_length=2000)


class RaterChange(BaseModel):
    role: str | None = None
    status: str | None = None
    settings: dict[str, float | int | None] | None = None


@router.post("/session")
async def log_in(body: Login, request: Request, response: Response) -> dict[str, Any]:
    """Sign in. A wrong password and an unknown login answer alike, and take as long."""
    same_site(request)
    store, login = passwords.impatient(store_of(request)), body.login.strip().casefold()[:200]
    place, device = proxy.network(proxy.address(request)), cookies.read(request, DEVICE)

    def signed_in() -> dict[str, Any]:
        account = attempt.account
        with store.write() as connection:
            limits.give_back(connection, attempt.buckets)
            if account.status != "active":
                return {}
            if old := cookies.read(request, COOKIE):
                people.end_session(connection, old)
            csrf = cookies.begin_session(connection, request, response, account.id)
        return {
            "rater": account.id,
            "pseudonym": account.pseudonym,
            "role": account.role,
            "csrf": csrf,
        }

    async with passwords.queue(request):
        attempt = await passwords.written(
            lambda: passwords.begin(store, login, place=place, device=device)
        )
        stored = attempt.password_hash
        right = await passwords.in_turn(lambda: people.verify_password(stored, body.password))
        if not right or attempt.account.status == "gone":
            raise Denied(401, passwords.WRONG)
        if not (user := await passwords.written(signed_in)):
            raise Denied(403, PAUSED)
        return user


@router.delete("/session")
def log_out(request: Request, response: Response, user: Anybody) -> dict[str, bool]:
    if user.scopes is not None:
        raise Denied(403, "this needs a person who is signed in, not a token")
    with store_of(request).write() as connection:
        people.end_session(connection, cookies.read(request, COOKIE) or "")
    cookies.forget(request, response, COOKIE)
    return {"done": True}


@router.get("/me")
def me(user: Anybody) -> dict[str, Any]:
    """Who you are."""
    return {
        "rater": user.rater,
        "pseudonym": user.pseudonym,
        "role": user.role,
        "status": user.status,
        "csrf": user.csrf,
        "scopes": sorted(user.scopes) if user.scopes is not None else None,
    }


@router.post("/setup", status_code=201)
async def setup(body: NewAccount, request: Request, response: Response) -> dict[str, Any]:
    """Make the first owner's account with the one-time link that the server printed."""
    return await _join(body, request, response, owner=True)


@router.post("/invitations/accept", status_code=201)
async def join(body: NewAccount, request: Request, response: Response) -> dict[str, Any]:
    """Make an account with an invitation."""
    return await _join(body, request, response, owner=False)


async def _join(
    body: NewAccount, request: Request, response: Response, *, owner: bool
) -> dict[str, Any]:
    same_site(request)
    store = passwords.impatient(store_of(request))
    place = proxy.network(proxy.address(request))
    login = people.normal_login(body.login)

    def invited() -> str:
        """The role. Asked before anything is hashed: a token that is worth nothing costs nothing."""
        try:
            with store.read() as connection:
                return invitations.of_token(connection, body.token).role
        except UserError:
            slow_down(request, (f"join:{place}", limits.ADDRESS))
            raise

    def joined() -> dict[str, Any]:
        with store.write() as connection:
            key = people.accept(
                connection, body.token, login=login, password_hash=hashed, name=body.name
            )
            csrf = cookies.begin_session(connection, request, response, key)
        return {"rater": key, "role": role, "csrf": csrf}

    async with passwords.queue(request):
        role = await passwords.written(invited)
        if owner and role != "owner":
            raise Denied(403, "this link is an invitation, open /join with it")
        hashed = await passwords.in_turn(lambda: people.hash_password(body.password, login=login))
        return await passwords.written(joined)


@router.post("/me/password")
async def change_password(
    body: NewPassword, request: Request, response: Response, user: Person
) -> dict[str, Any]:
    """A new password; every other session ends, and every API token."""
    store = store_of(request)

    def account() -> Any:
        slow_down(request, (f"password:{user.rater}", limits.ACCOUNT_AT_ADDRESS))
        with store.read() as connection:
            query = select(rater_pii).where(rater_pii.c.rater == user.rater)
            return connection.execute(query).one()

    def changed() -> dict[str, Any]:
        with store.write() as connection:
            people.change_password(connection, user.rater, hashed)
            csrf = cookies.begin_session(connection, request, response, user.rater)
        return {"csrf": csrf}

    async with passwords.queue(request):
        row = await passwords.written(account)
        stored = row.password_hash
        if not await passwords.in_turn(lambda: people.verify_password(stored, body.old)):
            raise Denied(403, "the old password is wrong")
        hashed = await passwords.in_turn(lambda: people.hash_password(body.new, login=row.login))
        return await passwords.written(changed)


@router.get("/raters")
def raters(request: Request, user: Lead) -> list[dict[str, Any]]:
    """Everybody; logins and names for owners only."""
    answer_counts = (
        select(judgment.c.rater, func.count().label("answers"))
        .group_by(judgment.c.rater)
        .subquery()
    )
    query = (
        select(rater, rater_pii.c.login, rater_pii.c.name, answer_counts.c.answers)
        .outerjoin(rater_pii, rater_pii.c.rater == rater.c.id)
        .outerjoin(answer_counts, answer_counts.c.rater == rater.c.id)
        .order_by(rater.c.created_at)
    )
    with store_of(request).read() as connection:
        rows = [dict(row._mapping) for row in connection.execute(query)]
    for row in rows:
        row["answers"] = row["answers"] or 0
        if user.role != "owner":
            del row["login"], row["name"]
    return rows


@router.patch("/raters/{rater_id}")
def change_rater(rater_id: str, body: RaterChange, request: Request, user: Lead) -> dict[str, bool]:
    """Status and limits; roles are for owners."""
    with store_of(request).write() as connection:
        current_role = connection.execute(
            select(rater.c.role).where(rater.c.id == rater_id)
        ).scalar()
        if user.role != "owner" and (body.role is not None or current_role != "rater"):
            raise Denied(403, "only an owner may change roles, leads and owners")
        people.change_rater(
            connection,
            rater_id,
            actor=user.rater,
            role=body.role,
            status=body.status,
            settings=body.settings,
        )
    return {"done": True}


@router.delete("/raters/{rater_id}/personal")
def erase(rater_id: str, request: Request, user: Owner) -> dict[str, bool]:
    """Forget who this was; what they judged stays, under the pseudonym."""
    with store_of(request).write() as connection:
        people.erase(connection, rater_id, actor=user.rater)
    return {"done": True}


@router.get("/audit")
def audit_log(
    request: Request, _user: Owner, after: Annotated[int, Query(ge=0, le=2**53)] = 0
) -> dict[str, Any]:
    """200 events after a number, and whether the chain of hashes is whole."""
    query = select(audit_event).where(audit_event.c.seq > after).order_by(audit_event.c.seq)
    with store_of(request).read() as connection:
        rows = [dict(row._mapping) for row in connection.execute(query.limit(200))]
    return {"events": rows}
