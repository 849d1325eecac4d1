"""A database that is away for a while: commands wait, say so once, go on, and have done nothing twice."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import DataError, OperationalError

import postgres
from heedful.cli import main
from heedful.data.files import write_rows
from heedful.errors import Unavailable, UserError
from heedful.store.database import db, patience
from heedful.store.database.db import Store, open_store
from heedful.store.intake import ingest
from heedful.store.lead import rounds
from heedful.store.rating import judging
from heedful.store.tables import schema
from workspace import make_project, make_task


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(db, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(ingest, "BATCH", 20)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    assert main(["init", str(tmp_path / "work")]) == 0
    # The same pair four times by one rater, across batches: what is counted while writing would be counted twice.
    rows = [
        {"prompt": f"{i % 15}?", "chosen": "yes", "rejected": "no", "rater": f"r{i % 2}"}
        for i in range(60)
    ]
    rows = [row | {"created_at": f"2026-01-01T00:{i // 15:02}:00"} for i, row in enumerate(rows)]
    write_rows(tmp_path / "rows.jsonl", rows)
    return tmp_path / "work"


def load(workspace: Path) -> int:
    file = workspace.parent / "rows.jsonl"
    words = ["--workspace", str(workspace), "--project", "p", "--quiet"]
    return main(["import", "comparisons", str(file), *words])


def books(store: Store) -> dict[str, int]:
    tables = (schema.prompt, schema.completion, schema.task, schema.assignment, schema.judgment)
    with store.read() as connection:
        return {
            t.name: connection.execute(select(func.count()).select_from(t)).scalar_one()
            for t in (*tables, schema.audit_event)
        }


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join()


def told(capsys) -> list[str]:
    return [x for x in capsys.readouterr().err.splitlines() if x.startswith("heedful: ")]


def test_a_lock_that_outlasts_the_busy_timeout(workspace: Path, capsys):
    """Mutation caught: a traceback, a refusal, a line for every attempt."""
    other = sqlite3.connect(workspace / "heedful.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")

    def let_go():
        time.sleep(0.6)
        other.execute("ROLLBACK")

    with meanwhile(let_go):
        assert load(workspace) == 0
    first, second = told(capsys)
    assert "the database is away (database is locked); nothing is lost" in first
    assert "the database is back after " in second
    assert books(open_store(workspace))["judgment"] == 60


def test_a_commit_whose_answer_was_lost(workspace: Path, tmp_path: Path, monkeypatch, capsys):
    """Every transaction is made, and the news of it lost, once. Mutation caught: a batch that was made and is written
    again as another one, because repetitions were counted while writing."""
    assert load(workspace) == 0
    once = books(open_store(workspace))
    assert main(["init", str(tmp_path / "other")]) == 0
    write, lost = Store.write, []

    @contextmanager
    def made_but_not_told(self, **how):
        with write(self, **how) as connection:
            yield connection
        lost.append(len(lost) % 2 == 0)
        if lost[-1]:
            raise Unavailable("the connection is lost")

    monkeypatch.setattr(Store, "write", made_but_not_told)
    assert load(tmp_path / "other") == 0
    monkeypatch.undo()
    assert len(lost) == 2 * (2 + 3) and books(open_store(tmp_path / "other")) == once
    assert load(tmp_path / "other") == 0 and books(open_store(tmp_path / "other")) == once


def test_what_does_not_pass_is_told_at_once(workspace: Path, monkeypatch, capsys):
    """And what is locked for ever, after a while. Mutation caught: an hour of waiting for a disk that is full; waiting
    for what a user wrote."""
    for sign, passes in (
        ("database or disk is full", False),
        ("attempt to write a readonly database", False),
        ("database is locked", True),
    ):
        with pytest.raises(Unavailable) as caught, db._translate_errors():
            raise OperationalError("INSERT", {}, sqlite3.OperationalError(sign))
        assert caught.value.passes is passes and str(caught.value) == sign
    with pytest.raises(DataError), db._translate_errors():
        raise DataError("INSERT", {}, sqlite3.DataError("'my disk is full, and locked'"))
    with sqlite3.connect(workspace / "heedful.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        store = open_store(workspace, patience=0.3)
        with pytest.raises(UserError, match=r"has been away for 0 minutes .database is locked"):
            store.in_write(lambda connection: None)
        server = open_store(workspace)  # which tells its people at once
        with pytest.raises(Unavailable):
            server.in_write(lambda connection: None)
        other.execute("ROLLBACK")
    monkeypatch.setattr(Store, "read", lambda self: _raised(Unavailable("full", passes=False)))
    assert main(["check", str(workspace)]) == 2
    assert "the database cannot take this now: full" in told(capsys)[-1]


def _raised(error: Exception):
    raise error


@pytest.mark.postgres
def test_a_server_that_is_stopped_and_started_again(workspace: Path, monkeypatch, capsys):
    """In the middle of an import, which then has everything once, and while answers are waited for.

    Mutation caught: a lost connection taken for a bug; a pool that hands out dead connections.
    """
    programs = postgres.programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    with postgres.running(programs) as server:
        monkeypatch.setenv("HEEDFUL_DATABASE", server.url)
        insert, calls = judging.insert_all, 0

        def crash_in_the_second_batch(connection, table, rows, **same):
            nonlocal calls
            calls += table is schema.judgment
            if calls == 2:
                calls += 1
                server.stop()
                threading.Timer(0.3, server.start).start()
            insert(connection, table, rows, **same)

        monkeypatch.setattr(judging, "insert_all", crash_in_the_second_batch)
        assert load(workspace) == 0
        away, back = told(capsys)
        assert "the database is away (" in away and "the database is back after" in back
        store = open_store(server.url, patience=60)
        assert books(store)["judgment"] == 60
        assert load(workspace) == 0 and books(store)["judgment"] == 60
        task = make_task(store, make_project(store))
        server.stop("fast")
        with meanwhile(server.start):
            waiting = store.in_read(lambda connection: rounds.waiting(connection, [task]))
        assert waiting.expected == 1
        store.close()
