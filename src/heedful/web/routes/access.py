"""What opens an account, over HTTP: sessions, API tokens, links to a new password; listed, made and ended."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from sqlalchemy import Connection, select

from heedful.errors import UserError
from heedful.store.database import audit, limits
from heedful.store.membership import access, people, rights
from heedful.store.tables.schema import rater
from heedful.web import passwords, proxy
from heedful.web.doors import Door
from heedful.web.security import (
    Denied,
    Lead,
    Owner,
    Person,
    roles_of,
    same_site,
    slow_down,
    store_of,
)

router = APIRouter(route_class=Door, prefix="/api", tags=["people"])


class NewToken(BaseModel):
    name: str = Field(max_length=200)
    scopes: list[str] = Field(max_length=10)
    days: float | None = None


class Reset(BaseModel):
    token: str = Field(max_length=200)
    password: str = Field(max_length=2000)


@router.get("/sessions")
def sessions(request: Request, user: Person) -> list[dict[str, Any]]:
    """Where you are signed in: browser, shortened address, when it was last used (to the hour)."""
    with store_of(request).read() as connection:
        return access.sessions(connection, user.rater, csrf=user.csrf)


@router.delete("/sessions")
def end_other_sessions(request: Request, user: Person) -> dict[str, int]:
    """Sign out everywhere but here."""
    with store_of(request).write() as connection:
        return {"ended": access.end_others(connection, user.rater, user.csrf)}


@router.delete("/sessions/{session_id}")
def end_session(session_id: str, request: Request, user: Person) -> dict[str, bool]:
    """A session of yours, or for owners anybody's."""
    with store_of(request).write() as connection:
        access.end_session(connection, session_id, actor=user.rater, anyones=user.role == "owner")
    return {"done": True}


@router.get("/tokens")
def tokens(request: Request, user: Person) -> list[dict[str, Any]]:
    """Your API tokens; their secrets are not kept."""
    with store_of(request).read() as connection:
        return access.tokens(connection, user.rater)


@router.post("/tokens", status_code=201)
def make_token(body: NewToken, request: Request, user: Person) -> dict[str, str]:
    """A new API token; its secret is in this answer and nowhere else."""
    if "lead" in body.scopes and not (user.leads or roles_of(request, user, "reviewer")):
        raise Denied(403, "only a lead's token can have the scope lead")
    with store_of(request).write() as connection:
        key, secret = people.make_token(
            connection, user.rater, body.name, body.scopes, days=body.days
        )
    return {"id": key, "token": secret}


@router.delete("/tokens/{token_id}")
def revoke_token(token_id: str, request: Request, user: Person) -> dict[str, bool]:
    """A token of yours, or for owners anybody's."""
    with store_of(request).write() as connection:
        people.revoke_token(connection, token_id, actor=user.rater, anyones=user.role == "owner")
    return {"done": True}


@router.get("/raters/{rater_id}/access")
def access_of(rater_id: str, request: Request, _user: Owner) -> dict[str, Any]:
    """A person's sessions and API tokens."""
    with store_of(request).read() as connection:
        _role(connection, rater_id)
        return {
            "sessions": access.sessions(connection, rater_id),
            "tokens": access.tokens(connection, rater_id),
        }


@router.delete("/raters/{rater_id}/access")
def end_access(rater_id: str, request: Request, user: Owner) -> dict[str, int]:
    """Sign a person out everywhere and end their API tokens; the password stays."""
    with store_of(request).write() as connection:
        _role(connection, rater_id)
        ended = access.end_all(connection, rater_id)
        audit.record(connection, user.rater, "access.end", rater=rater_id, **ended)
        return ended


@router.post("/raters/{rater_id}/reset", status_code=201)
def reset(rater_id: str, request: Request, user: Lead) -> dict[str, str]:
    """A link by which a person who has forgotten the password sets a new one, once and within a day."""
    with store_of(request).write() as connection:
        if _role(connection, rater_id) != "rater" and user.role != "owner":
            raise Denied(403, "only an owner may do this for leads and owners")
        if not rights.leads_all_of(connection, user.rater, user.role, rater_id):
            raise Denied(
                403, "this person is in a project that you do not lead; an owner may do this"
            )
        token = access.make_link(connection, rater_id, actor=user.rater)
    return {"url": f"{proxy.public_url(request)}/reset?token={token}"}


def _role(connection: Connection, rater_id: str) -> str:
    role = connection.execute(select(rater.c.role).where(rater.c.id == rater_id)).scalar()
    if role is None:
        raise UserError("there is no such rater")
    return role


@router.post("/password")
async def set_password(body: Reset, request: Request) -> dict[str, bool]:
    """A new password, with such a link; every session and API token ends."""
    same_site(request)
    store, place = store_of(request), proxy.network(proxy.address(request))

    def login() -> str:
        try:
            with store.read() as connection:
                return access.link_of(connection, body.token).login
        except UserError:
            slow_down(request, (f"join:{place}", limits.ADDRESS))
            raise

    def changed() -> dict[str, bool]:
        with store.write() as connection:
            row = access.link_of(connection, body.token)  # it may have been used meanwhile
            people.change_password(connection, row.rater, hashed)
        return {"done": True}

    async with passwords.queue(request):
        name = await passwords.written(login)
        hashed = await passwords.in_turn(lambda: people.hash_password(body.password, login=name))
        return await passwords.written(changed)
