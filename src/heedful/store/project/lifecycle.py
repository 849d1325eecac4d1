"""A project's name, and its end: archived, deleted, brought back.

An archived project is hidden from raters and from lists; leads may still open and export it. A deleted one is hidden
from everybody and refused everywhere, and its name is free. Neither removes a row: judgments are append-only, and the
audit log, whose events name the project, must go on being true. An answer that was on somebody's screen is still kept.
"""

from __future__ import annotations

from sqlalchemy import Connection, Row, Select, select

from heedful.errors import UserError
from heedful.store.database import audit
from heedful.store.database.db import now
from heedful.store.database.prepared import prepared
from heedful.store.project import projects
from heedful.store.tables.columns import MAX_NAME
from heedful.store.tables.schema import project


def rename(connection: Connection, project_id: str, name: str, *, actor: str | None) -> str:
    """Call it otherwise; returns the name without spaces around it."""
    name, row = name.strip(), _there(connection, project_id)
    if not name or len(name) > MAX_NAME:
        raise UserError(f"a project's name has 1 to {MAX_NAME} characters")
    if name == row.name:
        return name
    if projects.by_name(connection, name):
        raise UserError(f"there is a project '{name}' already")
    _set(connection, project_id, name=name)
    about = {"project": project_id, "before": row.name, "name": name}
    audit.record(connection, actor, "project.rename", **about)
    return name


def archive(connection: Connection, project_id: str, archived: bool, *, actor: str | None) -> None:
    """Hide it from raters and lists, or show it again."""
    row = _there(connection, project_id)
    if (row.archived_at is not None) == archived:
        return
    _set(connection, project_id, archived_at=now(connection) if archived else None)
    action = "project.archive" if archived else "project.unarchive"
    audit.record(connection, actor, action, project=project_id, name=row.name)


def delete(connection: Connection, project_id: str, name: str, *, actor: str | None) -> None:
    """Hide it from everybody; `name` is its name, typed by who deletes it."""
    row = _there(connection, project_id)
    if name != row.name:
        raise UserError(f"to delete the project, type its name exactly: {row.name}")
    _set(connection, project_id, deleted_at=now(connection), name=_mark(row))
    audit.record(connection, actor, "project.delete", project=project_id, name=row.name)


def restore(connection: Connection, project_id: str, *, actor: str | None) -> str:
    """Bring a deleted project back, as it was; returns its name."""
    row = connection.execute(select(project).where(project.c.id == project_id)).first()
    if row is None or row.deleted_at is None:
        raise UserError("there is no such deleted project")
    name = shown_name(row)
    if projects.by_name(connection, name):
        raise UserError(f"there is another project '{name}' now; rename that one first")
    _set(connection, project_id, deleted_at=None, name=name)
    audit.record(connection, actor, "project.restore", project=project_id, name=name)
    return name


def shown_name(row: Row) -> str:
    """The name by which people know it."""
    return row.name if row.deleted_at is None else row.name.removesuffix(_suffix(row))


def is_archived(connection: Connection, project_id: str) -> bool:
    return _archived_at(connection, project_id).scalar() is not None


@prepared
def _archived_at(project_id: str) -> Select:
    return select(project.c.archived_at).where(project.c.id == project_id)


def _mark(row: Row) -> str:
    """A name that nobody else's is, and as long as names may be."""
    suffix = _suffix(row)
    return row.name[: MAX_NAME - len(suffix)] + suffix


def _suffix(row: Row) -> str:
    return f" (deleted {row.id})"


def _there(connection: Connection, project_id: str) -> Row:
    row = connection.execute(
        select(project).where(project.c.id == project_id, project.c.deleted_at.is_(None))
    ).first()
    if row is None:
        raise UserError("there is no such project")
    return row


def _set(connection: Connection, project_id: str, **values: object) -> None:
    connection.execute(project.update().where(project.c.id == project_id).values(**values))
