"""Accounts over HTTP: signing in and out, invitations, tokens, people, the audit log."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import func, select

from heedful.store import audit, limits, people
from heedful.store.schema import api_token, audit_event, invitation, judgment, rater, rater_pii
from heedful.web.security import (
    COOKIE,
    CurrentUser,
    Denied,
    Lead,
    Owner,
    Person,
    address,
    same_site,
    slow_down,
    store_of,
)

router = APIRouter(prefix="/api", tags=["people"])


class Login(BaseModel):
    login: str = Field(max_length=300)
    password: str = Field(max_length=2000)


class NewAccount(Login):
    token: str = Field(max_length=200)
    name: str | None = Field(None, max_length=200)


class Invitation(BaseModel):
    role: str = "rater"


class NewPassword(BaseModel):
    old: str = Field(max_length=2000)
    new: str = Field(max_length=2000)


class NewToken(BaseModel):
    name: str = Field(max_length=200)
    scopes: list[str] = Field(max_length=10)
    days: float | None = None


class RaterChange(BaseModel):
    role: str | None = None
    status: str | None = None
    settings: dict[str, float | int | None] | None = None


@router.post("/session")
def log_in(body: Login, request: Request, response: Response) -> dict[str, Any]:
    """Sign in. A wrong password and an unknown login answer alike, and take as long."""
    same_site(request)
    store, login = store_of(request), body.login.strip().casefold()[:200]
    bucket = f"login:{address(request)}:{login}"
    slow_down(
        request,
        (bucket, limits.ACCOUNT_AT_ADDRESS),
        (f"login:{address(request)}", limits.ADDRESS),
        (f"login-of:{login}", limits.ACCOUNT),
    )
    with store.read() as connection:
        account = people.by_login(connection, login)
    verified = people.verify_password(account.password_hash if account else None, body.password)
    if not account or not verified or account.status == "gone":
        raise Denied(401, "login or password is wrong")
    with store.write() as connection:
        if old := request.cookies.get(COOKIE):
            people.end_session(connection, old)
        limits.reset(connection, bucket)
        token, csrf = people.begin_session(connection, account.id)
    _set_cookie(request, response, token)
    return {
        "rater": account.id,
        "pseudonym": account.pseudonym,
        "role": account.role,
        "csrf": csrf,
    }


@router.delete("/session")
def log_out(request: Request, response: Response, _user: Person) -> dict[str, bool]:
    with store_of(request).write() as connection:
        people.end_session(connection, request.cookies[COOKIE])
    response.delete_cookie(COOKIE, path="/")
    return {"done": True}


@router.get("/me")
def me(user: CurrentUser) -> dict[str, Any]:
    """Who you are."""
    return {
        "rater": user.rater,
        "pseudonym": user.pseudonym,
        "role": user.role,
        "csrf": user.csrf,
        "scopes": sorted(user.scopes) if user.scopes is not None else None,
    }


@router.post("/setup", status_code=201)
def setup(body: NewAccount, request: Request, response: Response) -> dict[str, Any]:
    """Make the first owner's account with the one-time link that the server printed."""
    return _join(body, request, response, owner=True)


@router.post("/invitations/accept", status_code=201)
def join(body: NewAccount, request: Request, response: Response) -> dict[str, Any]:
    """Make an account with an invitation."""
    return _join(body, request, response, owner=False)


def _join(body: NewAccount, request: Request, response: Response, *, owner: bool) -> dict[str, Any]:
    same_site(request)
    slow_down(request, (f"join:{address(request)}", limits.ADDRESS))
    store = store_of(request)
    login = people.normal_login(body.login)
    # Hashing waits outside the transaction; a token that is worth nothing costs the server that much at most.
    hashed = people.hash_password(body.password, login=login)
    with store.write() as connection:
        key = people.accept(
            connection, body.token, login=login, password_hash=hashed, name=body.name
        )
        role = connection.execute(select(rater.c.role).where(rater.c.id == key)).scalar_one()
        if owner and role != "owner":
            raise Denied(403, "this link is an invitation, open /join with it")
        token, csrf = people.begin_session(connection, key)
    _set_cookie(request, response, token)
    return {"rater": key, "role": role, "csrf": csrf}


@router.post("/me/password")
def change_password(
    body: NewPassword, request: Request, response: Response, user: Person
) -> dict[str, Any]:
    """A new password; every other session ends."""
    slow_down(request, (f"password:{user.rater}", limits.ACCOUNT_AT_ADDRESS))
    store = store_of(request)
    with store.read() as connection:
        row = connection.execute(select(rater_pii).where(rater_pii.c.rater == user.rater)).one()
    if not people.verify_password(row.password_hash, body.old):
        raise Denied(403, "the old password is wrong")
    hashed = people.hash_password(body.new, login=row.login)
    with store.write() as connection:
        people.change_password(connection, user.rater, hashed)
        token, csrf = people.begin_session(connection, user.rater)
    _set_cookie(request, response, token)
    return {"csrf": csrf}


@router.get("/tokens")
def tokens(request: Request, user: Person) -> list[dict[str, Any]]:
    """Your API tokens; their secrets are not kept."""
    t = api_token.c
    query = select(t.id, t.name, t.scopes, t.created_at, t.expires_at, t.revoked_at)
    with store_of(request).read() as connection:
        rows = connection.execute(query.where(t.rater == user.rater).order_by(t.created_at))
        return [dict(row._mapping) for row in rows]


@router.post("/tokens", status_code=201)
def make_token(body: NewToken, request: Request, user: Person) -> dict[str, str]:
    """A new API token; its secret is in this answer and nowhere else."""
    if "lead" in body.scopes and not user.leads:
        raise Denied(403, "only a lead's token can have the scope lead")
    with store_of(request).write() as connection:
        key, secret = people.make_token(
            connection, user.rater, body.name, body.scopes, days=body.days
        )
    return {"id": key, "token": secret}


@router.delete("/tokens/{token_id}")
def revoke_token(token_id: str, request: Request, user: Person) -> dict[str, bool]:
    with store_of(request).write() as connection:
        people.revoke_token(connection, token_id, actor=user.rater, anyones=user.role == "owner")
    return {"done": True}


@router.get("/invitations")
def invitations(request: Request, _user: Lead) -> list[dict[str, Any]]:
    i = invitation.c
    query = select(i.id, i.role, i.created_at, i.expires_at, rater.c.pseudonym.label("used_by"))
    with store_of(request).read() as connection:
        rows = connection.execute(
            query.outerjoin(rater, rater.c.id == i.used_by).order_by(i.created_at.desc()).limit(200)
        )
        return [dict(row._mapping) for row in rows]


@router.post("/invitations", status_code=201)
def invite(body: Invitation, request: Request, user: Lead) -> dict[str, str]:
    """A link for one person. Leads invite raters; owners invite anybody."""
    if body.role != "rater" and user.role != "owner":
        raise Denied(403, "only an owner may invite leads and owners")
    with store_of(request).write() as connection:
        token = people.invite(connection, body.role, actor=user.rater)
    base = request.app.state.base_url or str(request.base_url).rstrip("/")
    return {"url": f"{base}/join?token={token}", "role": body.role}


@router.delete("/invitations/{invitation_id}")
def withdraw(invitation_id: str, request: Request, user: Lead) -> dict[str, bool]:
    """An invitation that nobody has used is worth nothing from now on."""
    with store_of(request).write() as connection:
        open_ = (invitation.c.id == invitation_id, invitation.c.used_by.is_(None))
        result = connection.execute(invitation.update().where(*open_).values(expires_at=0.0))
        if not result.rowcount:
            raise Denied(404, "there is no such open invitation")
        audit.record(connection, user.rater, "invitation.withdraw", invitation=invitation_id)
    return {"done": True}


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


def _set_cookie(request: Request, response: Response, token: str) -> None:
    base = request.app.state.base_url or ""
    response.set_cookie(
        COOKIE,
        token,
        max_age=int(people.SESSION_DAYS * people.DAY),
        path="/",
        httponly=True,
        samesite="lax",
        secure=base.startswith("https://"),
    )
