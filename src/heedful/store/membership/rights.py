"""Who may do what in which project: decided here, for pages, the HTTP interface, tokens and exports alike.

An owner of the workspace leads every project. Anybody else has the strongest of the roles that a project gives them:
as a member, through their groups, and, unless it is open to its members only, through their account (a lead leads it,
a rater rates in it). Who is paused in a project has none there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Select, select

from heedful.store.database.prepared import prepared
from heedful.store.tables.schema import (
    assignment,
    group_member,
    project,
    project_group,
    project_member,
    task,
    webhook,
    webhook_delivery,
)

Role = Literal["rater", "reviewer", "lead"]
ROLES: tuple[Role, ...] = ("rater", "reviewer", "lead")  # each may do what those before it may
EVERYBODY, MEMBERS = "everybody", "members"  # to whom a project is open: its setting `access`


@dataclass(frozen=True)
class Standing:
    """What somebody is in a project; `role` is None for who has nothing to do with it."""

    role: Role | None
    paused: bool = False

    def may(self, least: Role) -> bool:
        """Whether the role is this one or a stronger one."""
        return self.role is not None and ROLES.index(self.role) >= ROLES.index(least)


def standing(
    connection: Connection, project_id: str, rater_id: str, account_role: str
) -> Standing | None:
    """A person's standing in a project; None where there is no such project. `account_role` is the workspace's."""
    row = _membership(connection, project_id, rater_id).first()
    if row is None:
        return None
    if account_role == "owner":
        return Standing("lead")
    through = _through_groups(connection, rater_id, project_id).get(project_id, ())
    return _standing(account_role, row.settings, row.role, bool(row.paused), through)


@prepared
def _membership(project_id: str, rater_id: str) -> Select:
    m = project_member.c
    joined = project.outerjoin(project_member, (m.project == project.c.id) & (m.rater == rater_id))
    query = select(project.c.settings, m.role, m.paused).select_from(joined)
    return query.where(project.c.id == project_id)


def everywhere(
    connection: Connection, rater_id: str, account_role: str, *, least: Role = "rater"
) -> dict[str, Role]:
    """The projects in which a person is at least this, by id, with what they are there."""
    m = project_member.c
    query = select(m.project, m.role, m.paused).where(m.rater == rater_id)
    own = {row.project: row for row in connection.execute(query)}
    through = _through_groups(connection, rater_id)
    roles: dict[str, Role] = {}
    for row in connection.execute(select(project.c.id, project.c.settings)):
        member = own.get(row.id)
        role, paused = (member.role, bool(member.paused)) if member else (None, False)
        has = _standing(account_role, row.settings, role, paused, through.get(row.id, ()))
        if has.role is not None and has.may(least):
            roles[row.id] = has.role
    return roles


def project_of(connection: Connection, parameters: Mapping[str, Any]) -> str | None:
    """The project that an address speaks of by itself, a task, an assignment or a webhook in its path; None where it
    speaks of none, or of something that is not there."""
    for name in ("project", "project_id"):
        if name in parameters:
            return parameters[name]
    lookups = {
        "task": select(task.c.project).where(task.c.id == parameters.get("task")),
        "assignment_id": select(assignment.c.project).where(
            assignment.c.id == parameters.get("assignment_id")
        ),
        "key": select(webhook.c.project)
        .outerjoin(webhook_delivery, webhook_delivery.c.webhook == webhook.c.id)
        .where(
            (webhook.c.id == parameters.get("key"))
            | (webhook_delivery.c.id == parameters.get("key"))
        )
        .limit(1),
    }
    for name, query in lookups.items():
        if name in parameters:
            return connection.execute(query).scalar()
    return None


def leads_all_of(connection: Connection, actor: str, actor_role: str, other: str) -> bool:
    """Whether somebody leads each project in which another has a role as a member or through a group: who does not
    could take over an account and see what is not theirs to see."""
    m = project_member.c
    direct = select(m.project).where(m.rater == other, m.role.is_not(None))
    theirs = {*connection.execute(direct).scalars(), *_through_groups(connection, other)}
    return theirs <= set(everywhere(connection, actor, actor_role, least="lead"))


def _standing(
    account_role: str,
    settings: Mapping[str, Any],
    direct: Role | None,
    paused: bool,
    through: Iterable[Role],
) -> Standing:
    if account_role == "owner":
        return Standing("lead")
    if paused:
        return Standing(None, paused=True)
    given: list[Role] = [role for role in (direct, *through) if role]
    if settings.get("access", EVERYBODY) == EVERYBODY:
        given.append("lead" if account_role == "lead" else "rater")
    return Standing(max(given, key=ROLES.index, default=None))


def _through_groups(
    connection: Connection, rater_id: str, project_id: str | None = None
) -> dict[str, list[Role]]:
    """The roles that a person's groups have, by project."""
    roles: dict[str, list[Role]] = {}
    for row in _groups(connection, rater_id):
        if project_id in (None, row.project):
            roles.setdefault(row.project, []).append(row.role)
    return roles


@prepared
def _groups(rater_id: str) -> Select:
    g = project_group.c
    joined = select(g.project, g.role).join(
        group_member, group_member.c.rater_group == g.rater_group
    )
    return joined.where(group_member.c.rater == rater_id)
