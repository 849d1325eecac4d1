"""Is everything in a workspace accounted for? What is exported or excluded for a reason is what is stored."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.exc import DatabaseError

from heedful.configs.check import Config
from heedful.errors import UserError
from heedful.store.database import audit, integrity
from heedful.store.database.bulk import rarely_collecting
from heedful.store.database.db import Store
from heedful.store.exports import books
from heedful.store.tables import schema
from heedful.transfer.checked import Checked, remember, remembered
from heedful.transfer.withdrawn import holding
from heedful.transfer.workspace import opened


def run(config: Config) -> dict[str, Any]:
    """{projects: {name: {what: {stored, exported, excluded}}}, audit_events, of them checked before; by project, if
    there is any, what `withdrawn` answers are still in}; `UserError` where something is wrong."""
    before = Checked() if config.all else remembered(config.workspace)
    with opened(config.workspace) as store:
        projects, seen = store.in_read(
            lambda connection: _checked(config, store, connection, before)
        )
        elsewhere = _elsewhere(store, config.workspace)
    with suppress(UserError):  # a workspace that can only be read is checked anew each time
        remember(config.workspace, seen)
    verdict = (
        "every row is exported or excluded for a reason; audit log and database file are intact"
    )
    return {
        "verdict": verdict,
        "projects": projects,
        "audit_events": seen.audit.seq,
        "checked_before": before.audit.seq,
        **({"withdrawn": elsewhere} if elsewhere else {}),
    }


def _elsewhere(store: Store, workspace: Path) -> dict[str, list[dict[str, Any]]]:
    """By project, what withdrawn answers are still in."""
    table = schema.project.c
    names = store.in_read(
        lambda c: list(c.execute(select(table.id, table.name).order_by(table.name)))
    )
    there = {name: [held.row() for held in holding(store, key, workspace)] for key, name in names}
    return {name: rows for name, rows in there.items() if rows}


@rarely_collecting()
def _checked(
    config: Config, store: Store, connection: Connection, before: Checked
) -> tuple[dict[str, Any], Checked]:
    """The books, and what has been seen."""
    with ThreadPoolExecutor(2) as others:  # SQLite looks through its file while the books are read
        looks = [
            others.submit(integrity.in_pages, store, quickly=before != Checked()),
            others.submit(integrity.in_references, store),
        ]

        def in_file() -> list[str]:
            return list(dict.fromkeys(told for look in looks for told in look.result()))

        wrong = integrity.in_log(connection, after=before.audit)
        try:
            projects, ledgers, missing = _books(connection, before)
        except (DatabaseError, KeyError):  # pages that cannot be read, rows that are not there
            if not (wrong := wrong + in_file()):
                raise
            projects, ledgers, missing = {}, {}, ["so the books cannot be read"]
        else:
            wrong += in_file()
    if wrong := wrong + missing:
        raise UserError(f"{config.workspace}: {'; '.join(wrong)}")
    return projects, Checked(audit.head(connection), ledgers)


def _books(
    connection: Connection, before: Checked
) -> tuple[dict[str, Any], dict[str, books.Ledger], list[str]]:
    """The books of each project by its name, the ledgers by its id, and what does not add up."""
    projects: dict[str, Any] = {}
    ledgers: dict[str, books.Ledger] = {}
    wrong: list[str] = []
    for project in connection.execute(select(schema.project).order_by(schema.project.c.name)):
        there, known = books.stored(connection, project.id), before.projects.get(project.id)
        ledger = books.ledger(connection, project.id, known, there=there)
        counts = books.counts(ledger, there)
        ledgers[project.id] = ledger
        projects[project.name] = {
            what: {"stored": c.stored, "exported": c.exported, "excluded": c.excluded}
            for what, c in counts.items()
        }
        for what, c in counts.items():
            if c.missing > 0:
                wrong.append(
                    f"{c.missing} {what} of the project {project.name} are neither exported nor excluded"
                )
            elif c.missing:
                wrong.append(
                    f"{-c.missing} {what} of the project {project.name} were there before and are gone"
                )
    return projects, ledgers, wrong
