"""The database: exact text, migrations, backups, append-only tables, transactions."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from uuid import RFC_4122, UUID

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, String, select
from sqlalchemy.exc import DBAPIError

from everything import guarded
from heedful import exact
from heedful.errors import UserError
from heedful.store.database import audit, db
from heedful.store.database.db import (
    LOG_BYTES,
    Store,
    Unavailable,
    backup,
    insert,
    new_id,
    now,
    open_store,
)
from heedful.store.database.log import copied_beside
from heedful.store.project import content
from heedful.store.tables import schema
from heedful.store.tables.columns import Exact, Json, canonical, sha256, unescape
from workspace import answer, claim, make_project, make_rater, make_task

NASTY = "a\x00b\x1a\ud800\udfff\u202e é \x1a0041 \\u0000 'x'; DROP TABLE rater; --"


ANY_TEXT = st.text(alphabet=st.characters(codec=None), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(ANY_TEXT, inside, max_size=4),
    max_leaves=20,
)


@settings(deadline=None, max_examples=80)
@given(VALUES)
def test_canonical_is_what_python_writes(value: object):
    """Of hashes that are stored. Mutations caught: keys as they come; ASCII; NaN where it is refused; spaces."""
    how = {"sort_keys": True, "ensure_ascii": False, "separators": (",", ":")}
    assert canonical(value) == json.dumps(value, **how)
    bind = Json().bind_processor(None)
    try:
        words = json.dumps(value, allow_nan=False, **how)
    except ValueError:
        with pytest.raises(UserError, match="NaN or an infinite number"):
            bind(value)
    else:
        assert value is None or unescape(bind(value)) == words


def test_values_that_end_nowhere_are_refused():
    """A list in itself, and one that is too deep. Mutation caught: what C does not look for is not looked for."""
    ring, deep, bind = [], [], Json().bind_processor(None)
    ring.append(ring)
    for _ in range(exact.MOST_NESTED):
        deep = [deep]
    for value in (ring, deep):
        with pytest.raises(UserError, match="nested"):
            bind(value)
    assert bind(deep[0]) == "[" * exact.MOST_NESTED + "]" * exact.MOST_NESTED


@given(st.text(alphabet=st.characters(codec=None)))
@settings(deadline=None)
def test_exact_is_a_bijection(text: str):
    """An escape that is not escaped itself, or a surrogate lost, breaks the hash of a response."""
    column = Exact()
    stored = column.process_bind_param(text, None)
    assert stored is not None and "\x00" not in stored
    stored.encode("utf-8")
    assert column.process_result_value(stored, None) == text
    assert Json().process_result_value(Json().process_bind_param([text], None), None) == [text]


def test_text_survives_both_databases(store: Store):
    project = make_project(store, NASTY)
    make_task(store, project, responses=(NASTY, "e\u0301"), question=NASTY)
    with store.read() as connection:
        texts = set(connection.execute(select(schema.completion.c.text)).scalars())
        assert texts == {NASTY, "e\u0301"}
        content = connection.execute(select(schema.prompt.c.content)).scalar_one()
        assert content == [{"role": "user", "content": NASTY}]


def test_immutable_tables_refuse(store: Store):
    """The triggers stand on every table of IMMUTABLE: an UPDATE or DELETE by any client aborts."""
    project, rater = make_project(store), make_rater(store)
    make_task(store, project)
    given = claim(store, project, rater)
    assert given
    answer(store, given, rater)
    for name in ("prompt", "completion", "task", "judgment", "ranking_item", "audit_event"):
        for statement in (f"DELETE FROM {name}", f"UPDATE {name} SET created_at = 0"):
            if "created_at" in statement and "created_at" not in schema.metadata.tables[name].c:
                statement = f"UPDATE {name} SET {schema.metadata.tables[name].c.keys()[-1]} = NULL"
            with pytest.raises(DBAPIError, match="append-only"), store.write() as connection:
                connection.exec_driver_sql(statement)


def test_every_immutable_table_has_its_triggers(store: Store):
    guarded(store)


def _other_type(context, _there, wanted, there_type, wanted_type) -> bool | None:
    """SQLite keeps to no length, so a text is a text; None: as Alembic sees it."""
    texts = isinstance(there_type, String) and isinstance(wanted.type, String | Exact | Json)
    return False if context.dialect.name == "sqlite" and texts else None


def test_migrations_make_what_the_schema_says(store: Store):
    """A column added to schema.py without a migration."""
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": _other_type})
        assert compare_metadata(context, schema.metadata) == []


def test_a_failed_write_leaves_nothing(store: Store):
    with pytest.raises(RuntimeError), store.write() as connection:
        make_id = new_id()
        connection.execute(
            schema.project.insert().values(id=make_id, name="x", settings={}, created_at=0.0)
        )
        raise RuntimeError
    with store.read() as connection:
        assert connection.execute(select(schema.project)).all() == []


def test_a_newer_schema_is_refused(url: str):
    store = open_store(url)
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    store.close()
    with pytest.raises(UserError, match=r"newer heedful \(schema 9999"):
        open_store(url)


def test_a_migration_cut_off_midway_leaves_nothing(tmp_path: Path):
    """kill -9 while the first migration runs: the next start makes the tables as if nothing had been."""
    path = tmp_path / "heedful.db"
    code = (
        "import os, heedful.store.tables.triggers as t\n"
        "from heedful.store.database.db import open_store\n"
        "t.protect = lambda *a: os._exit(9)\n"
        f"open_store('sqlite:///{path}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 9
    store = open_store(f"sqlite:///{path}")
    make_project(store)
    store.close()


def test_backup_is_whole_while_others_write(tmp_path: Path):
    store = open_store(f"sqlite:///{tmp_path / 'heedful.db'}")
    make_project(store)
    with store.write() as connection:
        connection.execute(
            schema.project.insert().values(id="half", name="half", settings={}, created_at=0.0)
        )
        backup(tmp_path / "heedful.db", tmp_path / "copy.db")
    copy = sqlite3.connect(tmp_path / "copy.db")
    assert copy.execute("SELECT name FROM project").fetchall() == [("capitals",)]
    assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_log_that_somebodys_long_reading_let_grow_shrinks_again(tmp_path: Path):
    """Without a limit the file keeps for ever the size that it once had."""
    store, log = open_store(f"sqlite:///{tmp_path / 'heedful.db'}"), tmp_path / "heedful.db-wal"
    project = make_project(store)
    with store.read() as connection:
        connection.execute(select(schema.project)).all()
        make_task(store, project, question="why? " * (LOG_BYTES // 2))
    assert log.stat().st_size > 2 * LOG_BYTES
    for number in range(2):
        make_task(store, project, question=f"{number}?")
    assert log.stat().st_size <= LOG_BYTES
    store.close()


def test_the_log_is_copied_beside_many_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Not by their commits, which leave it to a thread until it is very long; whoever writes next copies it as ever.

    Mutations caught: commits that copy; a thread that does not; a log without an end; a connection that is given back
    as one that leaves the log."""
    monkeypatch.setattr(db, "MOST_LOG_PAGES", 3000)
    store = open_store(f"sqlite:///{tmp_path / 'heedful.db'}")
    file, log = tmp_path / "heedful.db", tmp_path / "heedful.db-wal"

    def add(connection: Connection) -> None:
        row = {"body": "x" * (5 << 20), "sha256": "", "project": project}
        insert(connection, schema.guideline_version, **row)

    project = make_project(store)
    before = file.stat().st_size
    store.in_write(add, leaves_log=True)
    assert file.stat().st_size == before and log.stat().st_size > LOG_BYTES
    with copied_beside(store) as copy:
        copy()
        end = time.monotonic() + 20
        while file.stat().st_size < before + (5 << 20) and time.monotonic() < end:
            time.sleep(0.01)
    copied = file.stat().st_size
    assert copied >= before + (5 << 20)
    for _ in range(6):
        store.in_write(add, leaves_log=True)
    assert file.stat().st_size > copied and log.stat().st_size < 25 << 20
    with store.read() as connection:
        assert connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar() == 1000
    store.close()


def test_what_is_hashed_is_canonical(store: Store):
    """Responses and events, whose JSON is put together of parts. Mutations caught: a part in another place; a text
    that is not escaped; an origin that is taken for the one before it."""
    p = make_project(store)
    origins = [
        {},
        {"model": 'm"\n'},
        {"token_ids": [1], "sampling": {"b": 1, "a": NASTY}, "seed": 2},
    ]
    with store.write() as connection:
        prompt = content.add_prompt(connection, p, "Why?")
        rows = [(prompt, text, origin) for text in ("", NASTY) for origin in origins]
        keys = content.add_completions(connection, rows)
        audit.record(connection, None, "something", text=NASTY, of=[1.5, None])
        audit.record(connection, keys[0], "something")
    none = dict.fromkeys(content.ORIGIN)
    with store.read() as connection:
        c, e = schema.completion.c, schema.audit_event.c
        found = {row.id: row.sha256 for row in connection.execute(select(c.id, c.sha256))}
        events = connection.execute(select(schema.audit_event).order_by(e.seq)).all()
    for key, (_, text, origin) in zip(keys, rows, strict=True):
        assert found[key] == content.digest({"text": text} | none | origin)
    for one, after in pairwise(events):
        names = ("seq", "at", "actor", "action", "detail")
        line = canonical({name: getattr(after, name) for name in names})
        assert after.hash == sha256(one.hash + line)
    assert len(events) >= 3


def test_an_older_schema_is_backed_up_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "heedful.db"
    store = open_store(f"sqlite:///{path}")
    make_project(store)
    store.close()
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    from heedful.store.database import db

    for file in (db.MIGRATIONS / "env.py", *(db.MIGRATIONS / "versions").glob("*.py")):
        target = tmp_path / "migrations" / file.relative_to(db.MIGRATIONS)
        target.write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    newest = max(p.stem[:4] for p in versions.glob("*.py"))
    (versions / "9998_later.py").write_text(
        f"from alembic import op\nrevision='9998'\ndown_revision='{newest}'\n"
        "def upgrade():\n    op.execute('CREATE TABLE later (x integer)')\n"
    )
    monkeypatch.setattr(db, "MIGRATIONS", tmp_path / "migrations")
    open_store(f"sqlite:///{path}").close()
    kept = sqlite3.connect(f"{path}.before-9998")
    assert kept.execute("SELECT count(*) FROM project").fetchone() == (1,)
    assert not kept.execute("SELECT 1 FROM sqlite_master WHERE name = 'later'").fetchone()


def test_two_servers_start_together(empty_url: str):
    """Both migrate an empty database; one waits for the other."""
    errors: list[Exception] = []

    def start() -> None:
        try:
            open_store(empty_url).close()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert errors == []


def test_a_locked_database_is_unavailable_not_broken(tmp_path: Path, monkeypatch):
    from heedful.store.database import db

    monkeypatch.setattr(db, "BUSY_SECONDS", 0.1)
    store = open_store(f"sqlite:///{tmp_path / 'heedful.db'}")
    other = sqlite3.connect(tmp_path / "heedful.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable), store.write():
        pass
    other.execute("ROLLBACK")
    with store.write():
        pass


@pytest.mark.parametrize(
    "where, sentence",
    [
        ("sqlite:////nowhere/at/all/heedful.db", "does not exist"),
        ("mysql+what://x", "is no database address"),
        ("nothing", "is no workspace"),
    ],
)
def test_a_wrong_address_is_one_sentence(where: str, sentence: str):
    with pytest.raises(UserError, match=sentence):
        open_store(where)


def test_ids_sort_by_time(monkeypatch: pytest.MonkeyPatch):
    """Strictly, also with a clock that stands still or is set back. Mutation caught: chance below the millisecond."""
    ids = [new_id() for _ in range(100)]
    assert all(UUID(i).version == 7 and UUID(i).variant == RFC_4122 for i in ids)
    since = time.time() - int(ids[-1].replace("-", "")[:12], 16) / 1000
    assert -1 < since < 60
    still = time.time_ns() - 10**9
    monkeypatch.setattr(time, "time_ns", lambda: still)
    ids += [new_id() for _ in range(10_000)]
    assert len(set(ids)) == len(ids) and sorted(ids) == ids


def test_the_clock_is_the_databases(store: Store, monkeypatch: pytest.MonkeyPatch):
    """A server whose own clock is a day off still gives right leases."""
    true = time.time()
    monkeypatch.setattr(time, "time", lambda: true + 86400)
    with store.read() as connection:
        assert abs(now(connection) - true) < 60
