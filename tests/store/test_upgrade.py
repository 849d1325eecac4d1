"""Workspaces that earlier versions wrote, under this one: `old/0001.json` has a row in every table of the first schema,
and `old/REVISION.sql` what a later one added, in that schema's own words.

A migration gets such a file with it. `PYTHONPATH=src:tests python tests/store/test_upgrade.py` writes all rows of a
workspace by the code at hand, as `old/REVISION.json`.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Boolean, Connection, MetaData, create_engine, select

from everything import fill, guarded
from heedful.store.database import audit, db
from heedful.store.database.db import open_store
from heedful.store.exports import books
from heedful.store.tables import schema
from workspace import answer, claim, make_rater, make_task

OLD = Path(__file__).parent / "old"


FIRST = "0001"
REVISIONS = [FIRST, *sorted(p.stem for p in OLD.glob("*.sql"))]
Rows = dict[str, list[dict[str, Any]]]  # by table, as the database itself holds them


def made_by(revision: str, url: str) -> Rows:
    """A database that every version up to this one has written into; returns its rows, by the names of that schema."""
    tables: Rows = json.loads((OLD / f"{FIRST}.json").read_text(encoding="utf-8"))
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    config = Config()
    config.set_main_option("script_location", str(db.MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        for step in REVISIONS[: REVISIONS.index(revision) + 1]:
            command.upgrade(config, step)
            if step == FIRST:
                insert(connection, tables)
                continue
            for statement in (OLD / f"{step}.sql").read_text(encoding="utf-8").splitlines():
                if statement and not statement.startswith("--"):
                    changed = connection.exec_driver_sql(statement).rowcount
                    assert changed, statement
        rows: Rows = {}
        metadata = MetaData()
        metadata.reflect(connection)
        for table in metadata.sorted_tables:
            if table.name != "alembic_version":
                found = connection.exec_driver_sql(f'SELECT * FROM "{table.name}"')
                rows[table.name] = [dict(row._mapping) for row in found]
    engine.dispose()
    return rows


def insert(connection: Connection, tables: Rows) -> None:
    metadata = MetaData()
    metadata.reflect(connection)
    for table in metadata.sorted_tables:
        truths = [c.name for c in table.c if isinstance(c.type, Boolean)]
        rows = [row | {n: bool(row[n]) for n in truths} for row in tables.get(table.name, [])]
        if rows:
            connection.execute(table.insert(), rows)


BETWEEN = [pytest.param(revision, marks=pytest.mark.long) for revision in REVISIONS[1:-1]]


@pytest.mark.parametrize("revision", [FIRST, *BETWEEN, REVISIONS[-1]])
def test_an_old_workspace_goes_on(revision: str, empty_url: str):
    """Every row is as it was, the books and the audit log are right, the triggers stand, and people go on answering.

    Mutations caught: a migration that loses a column's values, a trigger, a default for rows that are there."""
    tables = made_by(revision, empty_url)
    assert all(tables.values()), "a table without a row shows nothing"
    store = open_store(empty_url)
    with store.read() as connection:
        for name, rows in tables.items():
            names = ", ".join(f'"{column}"' for column in rows[0])
            found = connection.exec_driver_sql(f'SELECT {names} FROM "{name}"').all()
            wanted = [tuple(row.values()) for row in rows]
            assert sorted(map(tuple, found), key=repr) == sorted(wanted, key=repr), name
        for table in schema.metadata.sorted_tables:
            connection.execute(select(table)).all()
        assert audit.broken_at(connection) is None
        project = connection.execute(select(schema.project.c.id)).scalar_one()
        counts = books.reconcile(connection, project)
        assert counts["judgments"].exported > 9 and not any(c.missing for c in counts.values())
    guarded(store)
    make_task(store, project, question="Since the upgrade?")
    rater = make_rater(store)
    given = claim(store, project, rater)
    assert given
    answer(store, given, rater, {"skip": None})
    store.close()


def test_every_schema_has_its_workspace():
    """Mutation caught: a migration that comes without the rows of its day."""
    files = (db.MIGRATIONS / "versions").glob("[0-9]*.py")
    assert sorted(path.name[:4] for path in files) == REVISIONS


def write_newest() -> Path:
    """The rows of a workspace that has everything, by the code at hand."""
    file = Path(tempfile.mkdtemp()) / "heedful.db"
    store = open_store(f"sqlite:///{file}")
    fill(store)
    store.close()
    connection = sqlite3.connect(file)
    connection.row_factory = sqlite3.Row
    (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    tables = {
        table.name: [dict(row) for row in connection.execute(f'SELECT * FROM "{table.name}"')]
        for table in schema.metadata.sorted_tables
    }
    OLD.mkdir(exist_ok=True)
    target = OLD / f"{revision}.json"
    target.write_text(json.dumps(tables, indent=0, ensure_ascii=True) + "\n", encoding="utf-8")
    return target


if __name__ == "__main__":
    print(write_newest(), file=sys.stderr)
