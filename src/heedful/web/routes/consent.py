"""What people are told before their first answer, that they agree, and that they take it back, over HTTP."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from heedful.store.membership import members
from heedful.store.project import consent, projects
from heedful.transfer.withdrawn import holding
from heedful.web.doors import Door, terms
from heedful.web.render import to_html
from heedful.web.security import Lead, SignedIn, store_of

router = APIRouter(route_class=Door, prefix="/api", tags=["consent"])
MINE, P = "/projects/{project_id}/consent", "/projects/{project}"


class Disclosure(BaseModel):
    body: str = Field(max_length=200_000)


class Version(BaseModel):
    version: str = Field(max_length=36)


class Withdrawn(BaseModel):
    withdrawn: bool


@router.get(MINE)
def mine(project_id: str, request: Request, user: SignedIn) -> dict[str, Any]:
    """{disclosure, agreed_at, withdrawn_at, by_themselves}: what you have been told here ({id, created_at, html} or
    null), when you agreed to it, and whether your answers are withdrawn."""
    with store_of(request).read() as connection:
        return told(connection, project_id, user.rater)


@router.post(MINE)
def agree(project_id: str, body: Version, request: Request, user: SignedIn) -> dict[str, bool]:
    """You have read this version, which must be the newest, and agree."""
    with store_of(request).write() as connection:
        consent.agree(connection, project_id, user.rater, body.version)
    return {"done": True}


@router.put(f"{MINE}/withdrawn")
def withdraw(project_id: str, body: Withdrawn, request: Request, user: SignedIn) -> dict[str, bool]:
    """Nothing that you have said here is exported or learned from any more, and you are not asked; or again."""
    with store_of(request).write() as connection:
        change = consent.withdraw if body.withdrawn else consent.give_again
        change(connection, project_id, user.rater, actor=user.rater)
    return {"done": True}


@router.put(f"{P}/disclosure")
@terms(body=2_000_000)
def write(project: str, body: Disclosure, request: Request, user: Lead) -> dict[str, Any]:
    """A new version of what raters agree to before they are asked anything, everybody anew; empty: nothing any more."""
    with store_of(request).write() as connection:
        projects.settings_of(connection, project)
        key = consent.write(connection, project, body.body, actor=user.rater)
    return {"id": key, "html": to_html(body.body)}


@router.put(f"{P}/members/{{rater_id}}/withdrawn")
def take_out(
    project: str, rater_id: str, body: Withdrawn, request: Request, user: Lead
) -> dict[str, bool]:
    """Nothing that somebody has said here is exported any more, and they are not asked; or again, where they have not
    withdrawn it themselves."""
    with store_of(request).write() as connection:
        person = members.person_of(connection, rater_id)
        change = consent.withdraw if body.withdrawn else consent.give_again
        change(connection, project, person.id, actor=user.rater)
    return {"done": True}


@router.get(f"{P}/withdrawn")
@terms(lane="reports")
def withdrawn(project: str, request: Request, _user: Lead) -> dict[str, list[dict[str, Any]]]:
    """{held}: what answers that people have withdrawn are still in: exports by their snapshots, files in the workspace,
    runs that learned from these or from such runs; how many answers, why, and what to do."""
    store = store_of(request)
    with store.read() as connection:
        projects.settings_of(connection, project)
    return {"held": [held.row() for held in holding(store, project, request.app.state.workspace)]}


def told(connection: Connection, project: str, rater: str) -> dict[str, Any]:
    """`consent.standing`, with the text as HTML."""
    standing = consent.standing(connection, project, rater)
    if (text := standing["disclosure"]) is not None:
        shown = {"id": text["id"], "created_at": text["created_at"], "html": to_html(text["body"])}
        standing["disclosure"] = shown
    return standing
