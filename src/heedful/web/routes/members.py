"""Members of projects and groups of people, over HTTP. `store.rights` says what their roles mean."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from sqlalchemy import Connection, select

from heedful.store.membership import members
from heedful.store.membership.rights import Role
from heedful.store.project import projects
from heedful.store.rating import trials
from heedful.store.tables.schema import rater
from heedful.web.doors import Door
from heedful.web.security import Denied, Lead, User, roles_of, store_of

router = APIRouter(route_class=Door, prefix="/api", tags=["members"])
P, G = "/projects/{project}", "/groups/{group_id}"


class Member(BaseModel):
    who: str = Field(max_length=300)
    role: Role | None = None
    paused: bool | None = None


class Settled(BaseModel):
    what: Literal["again", "pass"]


class Given(BaseModel):
    group: str = Field(max_length=36)
    role: Role = "rater"


class Name(BaseModel):
    name: str = Field(max_length=200)


class Who(BaseModel):
    who: list[str] = Field(max_length=1000)


@router.get(f"{P}/members")
def members_of(project: str, request: Request, user: Lead) -> dict[str, Any]:
    """{access, members, groups, others, other_groups, qualification}: whom the project is open to, who has been given
    a role or was paused here, the groups that have one; for leads of the workspace the pseudonyms and groups that could
    be added; and how its raters stand before the real work."""
    with store_of(request).read() as connection:
        settings = projects.settings_of(connection, project)
        listed = members.of_project(connection, project)
        given = members.groups_of_project(connection, project)
        people, groups = _others(connection, listed, given) if user.leads else ([], [])
        begun, stock = trials.of_project(connection, project), trials.stock(connection, project)
    return {
        "access": settings.access,
        "members": listed,
        "groups": given,
        "others": people,
        "other_groups": groups,
        "qualification": {
            "people": begun,
            "training": settings.training_questions,
            "questions": settings.qualification_questions,
            "share": settings.qualification_share,
            "needed": trials.needed(settings),
            **stock,
        },
    }


def _others(
    connection: Connection, listed: list[dict[str, Any]], given: list[dict[str, Any]]
) -> tuple[list[str], list[dict[str, str]]]:
    r = rater.c
    people = select(r.pseudonym).where(r.role != "judge", r.status != "gone").order_by(r.pseudonym)
    there, has = {m["pseudonym"] for m in listed}, {g["id"] for g in given}
    names = [name for name in connection.execute(people).scalars() if name not in there]
    every = [{"id": g["id"], "name": g["name"]} for g in members.groups(connection)]
    return names, [g for g in every if g["id"] not in has]


@router.put(f"{P}/members")
def change_member(project: str, body: Member, request: Request, user: Lead) -> dict[str, str]:
    """Give somebody a role in the project, or pause them in it; `who` is an id or a pseudonym, for owners a login."""
    with store_of(request).write() as connection:
        person = members.person_of(connection, body.who, logins=user.role == "owner")
        role: Role | None = "rater" if body.role is None and body.paused is None else body.role
        about = {"actor": user.rater, "paused": body.paused}
        members.change(connection, project, person.id, role=role, **about)
    return {"rater": person.id, "pseudonym": person.pseudonym}


@router.post(f"{P}/members/{{rater_id}}/qualification")
def settle(
    project: str, rater_id: str, body: Settled, request: Request, user: Lead
) -> dict[str, bool]:
    """Give who has failed another try, with other questions, or let somebody in without one."""
    with store_of(request).write() as connection:
        trials.settle(connection, project, rater_id, body.what, actor=user.rater)
    return {"done": True}


@router.delete(f"{P}/members/{{rater_id}}")
def remove_member(project: str, rater_id: str, request: Request, user: Lead) -> dict[str, bool]:
    """Somebody is no member by themselves any more; their groups may still let them in."""
    with store_of(request).write() as connection:
        members.remove(connection, project, rater_id, actor=user.rater)
    return {"done": True}


@router.put(f"{P}/groups")
def give_to_group(project: str, body: Given, request: Request, user: Lead) -> dict[str, bool]:
    """Everybody in a group has a role in the project, whoever joins it later too."""
    with store_of(request).write() as connection:
        members.give(connection, project, body.group, body.role, actor=user.rater)
    return {"done": True}


@router.delete(f"{P}/groups/{{group_id}}")
def take_from_group(project: str, group_id: str, request: Request, user: Lead) -> dict[str, bool]:
    """The group has no role in the project any more."""
    with store_of(request).write() as connection:
        members.take(connection, project, group_id, actor=user.rater)
    return {"done": True}


@router.get("/groups")
def groups(request: Request, user: Lead) -> list[dict[str, Any]]:
    """All groups, with their people, and with those of their projects that you see."""
    theirs = roles_of(request, user, "reviewer")
    with store_of(request).read() as connection:
        listed = members.groups(connection)
    for group in listed:
        seen = [p for p in group["projects"] if p["project"] in theirs]
        group |= {"projects": seen, "others": len(group["projects"]) - len(seen)}
    return listed


@router.post("/groups", status_code=201)
def make_group(body: Name, request: Request, user: Lead) -> dict[str, str]:
    """A named set of people, which can be given projects."""
    with store_of(request).write() as connection:
        return {"id": members.make_group(connection, body.name, actor=user.rater)}


@router.patch(G)
def rename_group(group_id: str, body: Name, request: Request, user: Lead) -> dict[str, bool]:
    """Another name; its people and projects stay."""
    with store_of(request).write() as connection:
        _may_change(connection, group_id, user)
        members.rename_group(connection, group_id, body.name, actor=user.rater)
    return {"done": True}


@router.delete(G)
def delete_group(group_id: str, request: Request, user: Lead) -> dict[str, bool]:
    """Its people stay, and lose what only the group gave them."""
    with store_of(request).write() as connection:
        _may_change(connection, group_id, user)
        members.delete_group(connection, group_id, actor=user.rater)
    return {"done": True}


@router.put(f"{G}/members")
def join_group(group_id: str, body: Who, request: Request, user: Lead) -> dict[str, int]:
    """Add people by their ids or pseudonyms, for owners by their logins; nobody is added where one is unknown."""
    with store_of(request).write() as connection:
        _may_change(connection, group_id, user)
        for name in body.who:
            person = members.person_of(connection, name, logins=user.role == "owner")
            members.join(connection, group_id, person.id, actor=user.rater)
    return {"people": len(body.who)}


@router.delete(f"{G}/members/{{rater_id}}")
def leave_group(group_id: str, rater_id: str, request: Request, user: Lead) -> dict[str, bool]:
    """Somebody belongs to the group no more."""
    with store_of(request).write() as connection:
        _may_change(connection, group_id, user)
        members.leave(connection, group_id, rater_id, actor=user.rater)
    return {"done": True}


def _may_change(connection: Connection, group_id: str, user: User) -> None:
    """Whoever is in a group has its projects: else a lead could let themselves into one that is closed to them."""
    if not members.may_change_group(connection, group_id, user.rater, user.role):
        raise Denied(403, "this group has a project that you do not lead; an owner may do this")
