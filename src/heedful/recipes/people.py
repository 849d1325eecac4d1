"""Accounts at the command line: who there is and where, new passwords, pausing, ending sessions and tokens."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select

from heedful.configs.people import Config
from heedful.errors import UserError
from heedful.store.database import audit
from heedful.store.membership import access, members, people, rights
from heedful.store.project import consent, projects
from heedful.store.tables.schema import project, rater, rater_pii
from heedful.transfer.withdrawn import holding
from heedful.transfer.workspace import opened


def run(config: Config) -> Any:
    """What was asked for, or what was done."""
    with opened(config.workspace) as store:
        done = store.in_write(lambda connection: _done(connection, config))
        if config.action == "withdraw":
            key = store.in_read(lambda connection: _project(connection, config.project or "").id)
            done["still_in"] = [held.row() for held in holding(store, key, config.workspace)]
        return done


def _done(connection: Connection, config: Config) -> Any:
    if config.action == "list":
        groups = _groups(connection)
        return [_about(row) | _places(connection, row, groups) for row in _everybody(connection)]
    person = members.person_of(connection, config.name or "")
    if config.action == "show":
        return {
            **_about(person),
            **_places(connection, person, _groups(connection)),
            "sessions": access.sessions(connection, person.id),
            "tokens": access.tokens(connection, person.id),
        }
    if config.action == "reset":
        token = access.make_link(connection, person.id, actor=None)
        return {**_about(person), "link": f"{config.url.rstrip('/')}/reset?token={token}"}
    if config.action == "end":
        ended = access.end_all(connection, person.id)
        audit.record(connection, None, "access.end", rater=person.id, **ended)
        return {**_about(person), "ended": ended}
    if config.action in ("join", "leave"):
        _move(connection, person.id, config)
        return {**_about(person), **_places(connection, person, _groups(connection))}
    if config.action in ("withdraw", "restore"):
        change = consent.withdraw if config.action == "withdraw" else consent.give_again
        row = _project(connection, config.project or "")
        change(connection, row.id, person.id, actor=None)
        gone = person.id in consent.withdrawn(connection, row.id)
        return {**_about(person), "project": row.name, "withdrawn": gone}
    status = "paused" if config.action == "pause" else "active"
    people.change_rater(connection, person.id, actor=None, status=status)
    return {**_about(person), "status": status}


def _everybody(connection: Connection) -> list[Row]:
    joined = rater.outerjoin(rater_pii, rater_pii.c.rater == rater.c.id)
    query = select(rater, rater_pii.c.login).select_from(joined)
    return list(connection.execute(query.order_by(rater.c.created_at)))


def _groups(connection: Connection) -> dict[str, list[str]]:
    """The names of each person's groups, by the person's id."""
    groups: dict[str, list[str]] = {}
    for group in members.groups(connection):
        for person in group["people"]:
            groups.setdefault(person["rater"], []).append(group["name"])
    return groups


def _places(connection: Connection, row: Row, groups: dict[str, list[str]]) -> dict[str, Any]:
    """Groups, and what somebody is in which project."""
    names = dict(map(tuple, connection.execute(select(project.c.id, project.c.name))))
    roles = {} if row.role == "judge" else rights.everywhere(connection, row.id, row.role)
    there = {names[key]: role for key, role in roles.items()}
    return {"groups": groups.get(row.id, []), "projects": dict(sorted(there.items()))}


def _move(connection: Connection, rater_id: str, config: Config) -> None:
    if config.project is not None:
        row = _project(connection, config.project)
        if config.action == "join":
            members.change(connection, row.id, rater_id, actor=None, role=config.role)
        else:
            members.remove(connection, row.id, rater_id, actor=None)
        return
    name = config.group or ""
    if config.action == "leave":
        group = members.group_by_name(connection, name)
        members.leave(connection, group, rater_id, actor=None)
        return
    there = {g["name"]: g["id"] for g in members.groups(connection)}
    group = there.get(name.strip()) or members.make_group(connection, name, actor=None)
    members.join(connection, group, rater_id, actor=None)


def _project(connection: Connection, name: str) -> Row:
    row = projects.by_name(connection, name)
    if row is None:
        raise UserError(f"there is no project '{name}'")
    return row


def _about(row: Row) -> dict[str, Any]:
    return {
        "login": row.login,
        "pseudonym": row.pseudonym,
        "role": row.role,
        "status": row.status,
    }
