"""Members of projects and groups of people: who is one, with which role, and how that changes."""

from __future__ import annotations

from typing import Any, get_args

from sqlalchemy import Connection, Row, Table, delete, func, or_, select

from heedful.errors import UserError, did_you_mean
from heedful.store.database import audit
from heedful.store.database.db import insert, now
from heedful.store.membership import rights
from heedful.store.membership.rights import Role
from heedful.store.tables.schema import (
    group_member,
    project,
    project_group,
    project_member,
    rater,
    rater_group,
    rater_pii,
)


def person_of(connection: Connection, name: str, *, logins: bool = True) -> Row:
    """The account, with its login, of an id or a pseudonym, or of a login where these are no secret to who asks."""
    joined = rater.join(rater_pii, rater_pii.c.rater == rater.c.id)
    query = select(rater, rater_pii.c.login).select_from(joined)
    same = [rater.c.id == name, rater.c.pseudonym == name.strip()]
    if logins:
        same.append(rater_pii.c.login == name.strip().casefold())
    if row := connection.execute(query.where(or_(*same))).first():
        return row
    everybody = connection.execute(query).all()
    known = [n for row in everybody for n in ([row.login] if logins else []) + [row.pseudonym]]
    raise UserError(f"nobody here is called '{name}'{did_you_mean(name, known)}")


def change(
    connection: Connection,
    project_id: str,
    rater_id: str,
    *,
    actor: str | None,
    role: Role | None = None,
    paused: bool | None = None,
) -> None:
    """Make somebody a member with a role, or pause them in this project alone; what is None stays as it is."""
    _known(connection, project, project_id, "project")
    _known(connection, rater, rater_id, "rater")
    if role is not None:
        _refuse_role(role)
    there = (project_member.c.project == project_id, project_member.c.rater == rater_id)
    row = connection.execute(select(project_member).where(*there)).first()
    values = {
        "role": role if role is not None else row and row.role,
        "paused": paused if paused is not None else bool(row and row.paused),
    }
    if row is None:
        keys = {"project": project_id, "rater": rater_id, "created_at": now(connection)}
        connection.execute(project_member.insert().values(**keys, **values))
    elif values["role"] is None and not values["paused"]:
        connection.execute(delete(project_member).where(*there))
    else:
        connection.execute(project_member.update().where(*there).values(**values))
    audit.record(connection, actor, "member.change", project=project_id, rater=rater_id, **values)


def remove(connection: Connection, project_id: str, rater_id: str, *, actor: str | None) -> None:
    """Somebody is no member by themselves any more; groups and an open project may still let them in."""
    m = project_member.c
    there = (m.project == project_id, m.rater == rater_id, m.role.is_not(None))
    row = connection.execute(select(project_member).where(*there)).first()
    if row is None:
        raise UserError("there is no such member")
    if row.paused:
        connection.execute(project_member.update().where(*there).values(role=None))
    else:
        connection.execute(delete(project_member).where(*there))
    audit.record(connection, actor, "member.remove", project=project_id, rater=rater_id)


def keep_lead(connection: Connection, project_id: str, rater_id: str, account_role: str) -> None:
    """Whoever closes a project to all but its members is one, or would have shut themselves out."""
    has = rights.standing(connection, project_id, rater_id, account_role)
    if has is not None and not has.may("lead"):
        change(connection, project_id, rater_id, actor=rater_id, role="lead")


def give(
    connection: Connection, project_id: str, group_id: str, role: Role, *, actor: str | None
) -> None:
    """Everybody in a group has this role in the project, whoever joins the group later too."""
    _known(connection, project, project_id, "project")
    _known(connection, rater_group, group_id, "group")
    _refuse_role(role)
    there = (project_group.c.project == project_id, project_group.c.rater_group == group_id)
    if not connection.execute(project_group.update().where(*there).values(role=role)).rowcount:
        keys = {"project": project_id, "rater_group": group_id, "created_at": now(connection)}
        connection.execute(project_group.insert().values(**keys, role=role))
    audit.record(connection, actor, "group.give", project=project_id, group=group_id, role=role)


def take(connection: Connection, project_id: str, group_id: str, *, actor: str | None) -> None:
    """A group has nothing to do with a project any more."""
    there = (project_group.c.project == project_id, project_group.c.rater_group == group_id)
    if not connection.execute(delete(project_group).where(*there)).rowcount:
        raise UserError("this group has no role in the project")
    audit.record(connection, actor, "group.take", project=project_id, group=group_id)


# ── groups ───────────────────────────────────────────────────────────────────────────────────────


def make_group(connection: Connection, name: str, *, actor: str | None) -> str:
    """A new group without anybody in it; returns its id."""
    key = insert(connection, rater_group, name=_free_name(connection, name))
    audit.record(connection, actor, "group.create", group=key, name=name.strip())
    return key


def rename_group(connection: Connection, group_id: str, name: str, *, actor: str | None) -> None:
    """Its members and projects stay."""
    _known(connection, rater_group, group_id, "group")
    values = {"name": _free_name(connection, name, besides=group_id)}
    connection.execute(rater_group.update().where(rater_group.c.id == group_id).values(**values))
    audit.record(connection, actor, "group.rename", group=group_id, name=values["name"])


def delete_group(connection: Connection, group_id: str, *, actor: str | None) -> None:
    """Its people stay, and lose what only the group gave them."""
    _known(connection, rater_group, group_id, "group")
    for table in (group_member, project_group):
        connection.execute(delete(table).where(table.c.rater_group == group_id))
    connection.execute(delete(rater_group).where(rater_group.c.id == group_id))
    audit.record(connection, actor, "group.delete", group=group_id)


def join(connection: Connection, group_id: str, rater_id: str, *, actor: str | None) -> None:
    """Somebody belongs to a group; who does already stays."""
    _known(connection, rater_group, group_id, "group")
    _known(connection, rater, rater_id, "rater")
    keys = {"rater_group": group_id, "rater": rater_id}
    there = [group_member.c[name] == value for name, value in keys.items()]
    if connection.execute(select(group_member.c.rater).where(*there)).first() is None:
        connection.execute(group_member.insert().values(**keys, created_at=now(connection)))
        audit.record(connection, actor, "group.join", group=group_id, rater=rater_id)


def leave(connection: Connection, group_id: str, rater_id: str, *, actor: str | None) -> None:
    """Somebody belongs to a group no more."""
    there = (group_member.c.rater_group == group_id, group_member.c.rater == rater_id)
    if not connection.execute(delete(group_member).where(*there)).rowcount:
        raise UserError("there is no such person in the group")
    audit.record(connection, actor, "group.leave", group=group_id, rater=rater_id)


def may_change_group(
    connection: Connection, group_id: str, rater_id: str, account_role: str
) -> bool:
    """Whether somebody leads each project that the group has a role in: who joins it gets all of them."""
    query = select(project_group.c.project).where(project_group.c.rater_group == group_id)
    given = set(connection.execute(query).scalars())
    return given <= set(rights.everywhere(connection, rater_id, account_role, least="lead"))


def group_by_name(connection: Connection, name: str) -> str:
    """The id of the group with this name."""
    names: dict[str, str] = {row.name: row.id for row in connection.execute(select(rater_group))}
    if name not in names:
        raise UserError(f"there is no group '{name}'{did_you_mean(name, names)}")
    return names[name]


# ── lists ────────────────────────────────────────────────────────────────────────────────────────


def of_project(connection: Connection, project_id: str) -> list[dict[str, Any]]:
    """Who has been given a role or been paused here: {rater, pseudonym, status, role, direct, paused, groups}, by
    pseudonym. `role` is what they are in the end, `direct` what they are without their groups."""
    m, g, r = project_member.c, project_group.c, rater.c
    direct = {
        row.rater: row
        for row in connection.execute(select(project_member).where(m.project == project_id))
    }
    through: dict[str, list[str]] = {}
    query = select(group_member.c.rater, rater_group.c.name)
    query = query.join(rater_group, rater_group.c.id == group_member.c.rater_group)
    query = query.join(project_group, g.rater_group == rater_group.c.id)
    for row in connection.execute(query.where(g.project == project_id).order_by("name")):
        through.setdefault(row.rater, []).append(row.name)
    people = select(rater).where(r.id.in_({*direct, *through})).order_by(r.pseudonym)
    listed = []
    for row in connection.execute(people):
        own = direct.get(row.id)
        has = rights.standing(connection, project_id, row.id, row.role)
        listed.append(
            {
                "rater": row.id,
                "pseudonym": row.pseudonym,
                "status": row.status,
                "role": has and has.role,
                "direct": own and own.role,
                "paused": bool(own and own.paused),
                "groups": through.get(row.id, []),
            }
        )
    return listed


def groups_of_project(connection: Connection, project_id: str) -> list[dict[str, Any]]:
    """{id, name, role, people} of the groups that have a role here."""
    people = select(func.count()).where(group_member.c.rater_group == rater_group.c.id)
    query = (
        select(
            rater_group.c.id,
            rater_group.c.name,
            project_group.c.role,
            people.scalar_subquery().label("people"),
        )
        .join(project_group, project_group.c.rater_group == rater_group.c.id)
        .where(project_group.c.project == project_id)
        .order_by(rater_group.c.name)
    )
    return [dict(row._mapping) for row in connection.execute(query)]


def groups(connection: Connection) -> list[dict[str, Any]]:
    """All groups: {id, name, people: [{rater, pseudonym}], projects: [{project, name, role}]}."""
    r, g = rater_group.c, group_member.c
    listed = {
        row.id: {"id": row.id, "name": row.name, "people": [], "projects": []}
        for row in connection.execute(select(rater_group).order_by(r.name))
    }
    query = select(g.rater_group, g.rater, rater.c.pseudonym).join(rater, rater.c.id == g.rater)
    for row in connection.execute(query.order_by(rater.c.pseudonym)):
        person = {"rater": row.rater, "pseudonym": row.pseudonym}
        listed[row.rater_group]["people"].append(person)
    p = project_group.c
    query = select(p.rater_group, p.project, p.role, project.c.name)
    query = query.join(project, project.c.id == p.project).order_by(project.c.name)
    for row in connection.execute(query):
        given = {"project": row.project, "name": row.name, "role": row.role}
        listed[row.rater_group]["projects"].append(given)
    return list(listed.values())


def _known(connection: Connection, table: Table, key: str, what: str) -> None:
    if connection.execute(select(table.c.id).where(table.c.id == key)).first() is None:
        raise UserError(f"there is no such {what}")


def _refuse_role(role: str) -> None:
    if role not in get_args(Role):
        raise UserError(f"a role in a project is {', '.join(rights.ROLES)}, not '{role}'")


def _free_name(connection: Connection, name: str, *, besides: str | None = None) -> str:
    name = name.strip()
    if not name:
        raise UserError("a group needs a name")
    same = connection.execute(select(rater_group.c.id).where(rater_group.c.name == name)).scalar()
    if same is not None and same != besides:
        raise UserError(f"there is a group '{name}' already")
    return name
