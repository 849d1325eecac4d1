"""A workspace's database from SQLite to PostgreSQL and back: everything, exactly, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from databases import new_store
from everything import fill, guarded
from heedful.configs.check import Config as Check
from heedful.configs.move import Config
from heedful.errors import UserError
from heedful.recipes import check
from heedful.recipes import move as recipe
from heedful.store.database import audit, move
from heedful.store.database.db import Store, open_store
from heedful.store.tables import schema
from workspace import make_project, make_rater


def rows(store: Store) -> dict[str, set[str]]:
    with store.read() as connection:
        return {
            name: {repr(tuple(row)) for row in connection.execute(select(table))}
            for name, table in schema.metadata.tables.items()
        }


def test_there_and_back_again(url: str, tmp_path: Path):
    """SQLite → the database of `url` → SQLite: row for row, of every table; the copy goes on as the original would.

    Mutations caught: a table left out, a text cut, a correction before what it corrects, triggers missing."""
    first = new_store(tmp_path / "first.db")
    second = open_store(url)
    project = fill(first)
    wanted = rows(first)
    assert [name for name, found in wanted.items() if not found] == []
    moved = move.move(first, second)
    assert {name: content.rows for name, content in moved.items()} == {
        name: len(found) for name, found in wanted.items()
    }
    assert rows(second) == wanted
    guarded(second)
    if second.dialect == "postgresql":
        with second.read() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM pg_sequences").scalar() == 0
    third = new_store(tmp_path / "third.db")
    assert move.move(second, third) == moved and rows(third) == wanted
    for store in (second, third):
        with store.write() as connection:
            audit.record(connection, None, "moved", project=project)
        with store.read() as connection:
            assert audit.broken_at(connection) is None
        store.close()
    first.close()


def test_corrections_follow_what_they_correct(store: Store, tmp_path: Path):
    """A server whose clock was set back gives a correction the smaller id. Mutation caught: rows ordered by id."""
    with store.write() as connection:
        for key, parent in (("c", None), ("b", "c"), ("a", "b")):
            connection.execute(
                schema.run.insert().values(
                    id=key,
                    kind="k",
                    folder="f",
                    code_version="0",
                    config={},
                    parent=parent,
                    created_at=0.0,
                )
            )
    target = new_store(tmp_path / "target.db")
    assert move.move(store, target)["run"].rows == 3
    target.close()


def test_nothing_or_everything(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A target that is not empty, a row that arrives otherwise, a source that is written to: one sentence, no row.

    Mutation caught: rows counted only, so that a lease that changes meanwhile is missed.
    """
    source, target = new_store(tmp_path / "source.db"), open_store(url)
    fill(source)
    copy = move.copy_rows

    def spoilt(origin: Any, target: Any) -> None:
        copy(origin, target)
        target.exec_driver_sql("UPDATE assignment SET slot = slot + 7")

    monkeypatch.setattr(move, "copy_rows", spoilt)
    with pytest.raises(UserError, match="assignment arrived otherwise"):
        move.move(source, target)

    def written(origin: Any, target: Any) -> None:
        copy(origin, target)
        make_rater(source)

    monkeypatch.setattr(move, "copy_rows", written)
    with pytest.raises(UserError, match=r"rater of .* changed meanwhile.*stop the server"):
        move.move(source, target)

    def given_back(origin: Any, target: Any) -> None:  # as many rows as before
        copy(origin, target)
        with source.write() as connection:
            connection.execute(schema.assignment.update().values(leased_until=1.0))

    monkeypatch.setattr(move, "copy_rows", given_back)
    with pytest.raises(UserError, match=r"assignment of .* changed meanwhile.*stop the server"):
        move.move(source, target)
    monkeypatch.undo()
    assert not any(rows(target).values())
    make_project(target)
    with pytest.raises(UserError, match="is not empty: it has rows in"):
        move.move(source, target)
    source.close()
    target.close()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """From folder to folder, and what a failure leaves: no file."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "heedful.toml").touch()
    store = open_store(tmp_path / "old")
    fill(store)
    store.close()
    monkeypatch.setattr(move, "copy_rows", lambda *_: None)
    with pytest.raises(UserError, match="nothing was moved"):
        recipe.run(Config(source=str(tmp_path / "old"), target=str(tmp_path / "new")))
    assert not list((tmp_path / "new").glob("heedful.db*"))
    monkeypatch.undo()
    told = recipe.run(Config(source=str(tmp_path / "old"), target=str(tmp_path / "new")))
    assert (
        "rows arrived as they were sent" in told["verdict"]
        and told["tables"]["judgment"]["rows"] > 9
    )
    assert check.run(Check(workspace=tmp_path / "new"))["audit_events"] > 9
    with pytest.raises(UserError, match="is not empty"):
        recipe.run(
            Config(
                source=str(tmp_path / "old"), target=f"sqlite:///{tmp_path / 'new' / 'heedful.db'}"
            )
        )
