"""Is everything in a workspace accounted for? What is exported or excluded for a reason is what is stored."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from heedful.configs.check import Config
from heedful.errors import UserError
from heedful.store import audit, schema, snapshot
from heedful.store.db import Store
from heedful.transfer.workspace import opened


def run(config: Config) -> dict[str, Any]:
    """{projects: {name: {what: {stored, exported, excluded}}}, audit_events}; `UserError` where something is wrong."""
    with opened(config.workspace) as store:
        return store.in_read(lambda connection: _checked(config, store, connection))


def _checked(config: Config, store: Store, connection: Connection) -> dict[str, Any]:
    wrong = _damage(store, connection)
    books: dict[str, Any] = {}
    for project in connection.execute(select(schema.project).order_by(schema.project.c.name)):
        counts = snapshot.reconcile(connection, project.id)
        books[project.name] = {
            what: {"stored": c.stored, "exported": c.exported, "excluded": c.excluded}
            for what, c in counts.items()
        }
        wrong += [
            f"{c.missing} {what} of the project {project.name} are neither exported nor excluded"
            for what, c in counts.items()
            if c.missing
        ]
    if wrong:
        raise UserError(f"{config.workspace}: {'; '.join(wrong)}")
    verdict = (
        "every row is exported or excluded for a reason; audit log and database file are intact"
    )
    return {"verdict": verdict, "projects": books, "audit_events": audit.count(connection)}


def _damage(store: Store, connection: Connection) -> list[str]:
    wrong = []
    if (event := audit.broken_at(connection)) is not None:
        wrong.append(
            f"the audit log was changed: event {event} does not follow from the one before"
        )
    if store.dialect == "sqlite":
        integrity = connection.exec_driver_sql("PRAGMA integrity_check").scalar()
        if integrity != "ok":
            wrong.append(f"the database file is damaged: {integrity}")
        if rows := connection.exec_driver_sql("PRAGMA foreign_key_check").all():
            wrong.append(f"{len(rows)} rows point to nothing")
    return wrong
