"""A database that cannot write now, and clocks that are wrong: refused so that the page keeps it, or kept."""

from __future__ import annotations

import errno
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, func, select

from databases import new_store
from heedful.store.database import db
from heedful.store.database.db import Store, new_id
from heedful.store.tables import schema
from workspace import make_project, make_tasks


@contextmanager
def pragma(store: Store, words: str, back: str) -> Iterator[None]:
    """Every connection that is taken out of the pool."""

    def set_it(connection: Any, *_: Any) -> None:
        connection.execute(f"PRAGMA {words}")

    event.listen(store.engine, "checkout", set_it)
    try:
        yield
    finally:
        event.remove(store.engine, "checkout", set_it)
        with store.engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA {back}")
        store.engine.dispose()


def read_only(store: Store) -> Any:
    return pragma(store, "query_only=ON", "query_only=OFF")


def full(store: Store) -> Any:
    """No page more than there is."""
    return pragma(store, "max_page_count=1", "max_page_count=1073741823")


@contextmanager
def locked(store: Store) -> Iterator[None]:
    other = sqlite3.connect(str(store.engine.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


@pytest.fixture
def store(tmp_path, monkeypatch) -> Iterator[Store]:
    monkeypatch.setattr(db, "BUSY_SECONDS", 0.2)
    opened = new_store(tmp_path / "heedful.db")
    yield opened
    opened.close()


@pytest.mark.parametrize("trouble", [locked, full, read_only])
def test_what_cannot_be_written_now_is_refused_and_comes_again(
    store: Store, person, trouble: Callable[[Store], Any]
):
    """503 with Retry-After and nothing half-written; the same request afterwards is the first and only judgment."""
    project = make_project(store)
    make_tasks(store, project, 3)
    rater = person("rater")
    asked = rater.browser.post(f"/api/projects/{project}/next", json={"holding": []}).json()["task"]
    path = f"/api/assignments/{asked['assignment']}/judgments"
    # Long, so that it needs pages that are not there.
    said = {"answer": {"value": 2, "text": "so " * 20_000}}
    key = {"Idempotency-Key": new_id()}
    with trouble(store):
        refused = rater.browser.post(path, json=said, headers=key)
        assert refused.status_code == 503, refused.text
        assert int(refused.headers["Retry-After"]) >= 1
        assert "nothing was lost" in refused.json()["error"]
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.judgment)).scalar() == 0
    kept = rater.browser.post(path, json=said, headers=key)
    assert kept.status_code == 201 and kept.json()["revision"] == 1
    assert rater.browser.post(path, json=said, headers=key).status_code == 200


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_full_disk_is_no_matter_of_the_visitors(
    store: Store, person, monkeypatch, caplog, number
):
    """503 without a path of the server's, which its log has. Mutation caught: a 500; a 400 that names a folder."""
    project, lead = make_project(store), person("lead").browser
    export, upload = (f"/api/projects/{project}/{x}" for x in ("export?what=prompts", "import"))
    error = OSError(number, "x")

    def refused(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("heedful.disk.sync", refused)
    monkeypatch.setattr("heedful.web.routes.transfer._receive", refused)
    for answer in (
        lead.get(export),
        lead.post(upload, params={"what": "prompts", "name": "a.jsonl"}, content=b"{}"),
    ):
        assert answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 1, answer.text
        assert (
            answer.json()["error"] == "the disk cannot take this now; nothing was lost, try again"
        )
    assert "cannot save /" in caplog.text


@pytest.mark.parametrize("skew", [-86400.0, 86400.0])
def test_a_raters_clock_may_be_wrong(store: Store, person, skew: float):
    """What the browser says of the time is kept and decides nothing: leases and limits go by the database's clock."""
    project = make_project(store, daily_limit=2)
    make_tasks(store, project, 5)
    rater = person("rater")
    for _ in range(2):
        url = f"/api/projects/{project}/next"
        asked = rater.browser.post(url, json={"holding": []}).json()["task"]
        receipt = rater.browser.post(
            f"/api/assignments/{asked['assignment']}/judgments",
            json={"answer": {"tie": True}, "client_at": time.time() + skew},
            headers={"Idempotency-Key": new_id()},
        )
        assert receipt.json()["disposition"] == "counted"
    last = rater.browser.post(f"/api/projects/{project}/next", json={"holding": []}).json()
    assert last["task"] is None and last["why"] == "daily limit"
    with store.read() as connection:
        row = connection.execute(select(schema.judgment)).first()
    assert row is not None
    assert abs(row.created_at - time.time()) < 60 < abs(row.client_at - row.created_at)


def test_the_servers_own_clock_decides_nothing(store: Store, person, monkeypatch):
    """A server whose clock is a day ahead neither ends leases nor sessions: both are the database's."""
    project = make_project(store)
    make_tasks(store, project, 2)
    rater = person("rater")
    asked = rater.browser.post(f"/api/projects/{project}/next", json={"holding": []}).json()["task"]
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 86400)
    receipt = rater.browser.post(
        f"/api/assignments/{asked['assignment']}/judgments",
        json={"answer": {"value": 5}},
        headers={"Idempotency-Key": "a" * 20},
    )
    assert receipt.status_code == 201 and receipt.json()["disposition"] == "counted"
