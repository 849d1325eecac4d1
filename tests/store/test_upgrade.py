"""Workspaces that earlier versions wrote, under this one: `old/REVISION.json` has a row in every table of that schema.

A revision that is released gets a file: `PYTHONPATH=src:tests python tests/store/test_upgrade.py` writes that of the
newest, with the code of that release.
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
from sqlalchemy import Boolean, MetaData, create_engine, select

from everything import fill, guarded
from heedful.store import audit, books, db, schema
from heedful.store.db import open_store
from workspace import answer, claim, make_rater, make_task

OLD = Path(__file__).parent / "old"


def made_by(revision: str, url: str, tables: dict[str, list[dict[str, Any]]]) -> None:
    """A database of that schema with these rows, as the database itself holds them."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    config = Config()
    config.set_main_option("script_location", str(db.MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        metadata = MetaData()
        metadata.reflect(connection)
        for table in metadata.sorted_tables:
            truths = [c.name for c in table.c if isinstance(c.type, Boolean)]
            rows = [row | {n: bool(row[n]) for n in truths} for row in tables.get(table.name, [])]
            if rows:
                connection.execute(table.insert(), rows)
    engine.dispose()


@pytest.mark.parametrize("revision", sorted(p.stem for p in OLD.glob("*.json")))
def test_an_old_workspace_goes_on(revision: str, empty_url: str):
    """Every row is as it was, the books and the audit log are right, the triggers stand, and people go on answering.

    Mutations caught: a migration that loses a column's values, a trigger, a default for rows that are there."""
    tables = json.loads((OLD / f"{revision}.json").read_text(encoding="utf-8"))
    made_by(revision, empty_url, tables)
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
