"""`heedful check`: the books of a workspace."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import select

from heedful.cli import main
from heedful.store.database.db import open_store
from heedful.store.exports import books
from heedful.store.project import content
from heedful.store.tables import schema
from workspace import answer, claim, make_project, make_rater, make_tasks


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    assert main(["init", str(tmp_path)]) == 0
    store = open_store(tmp_path)
    project, rater = make_project(store), make_rater(store)
    make_tasks(store, project, 4)
    for said in ({"value": 2}, {"tie": True}, {"skip": None}):
        given = claim(store, project, rater)
        assert given
        answer(store, given, rater, said)
    store.close()
    return tmp_path


def test_the_books_are_shown(workspace: Path, capsys: pytest.CaptureFixture[str]):
    """Stored is exported and excluded with a reason, for each form."""
    capsys.readouterr()
    assert main(["check", str(workspace)]) == 0
    books = json.loads(capsys.readouterr().out)["projects"]["capitals"]
    assert books["comparisons"] == {
        "stored": 3, "exported": 1, "excluded": {"skipped": 1, "tie": 1},
    }  # fmt: skip
    for book in books.values():
        assert book["stored"] == book["exported"] + sum(book["excluded"].values())


def test_tampering_is_found(workspace: Path, capsys: pytest.CaptureFixture[str]):
    """Whoever gets round the triggers breaks the chain of the audit log."""
    with sqlite3.connect(workspace / "heedful.db") as raw:
        raw.execute("DROP TRIGGER immutable_audit_event_update")
        raw.execute("UPDATE audit_event SET actor = 'somebody' WHERE seq = 2")
    assert main(["check", str(workspace)]) == 2
    assert "event 2" in capsys.readouterr().err


FIRST = "(SELECT min(id) FROM judgment)"
DAMAGE = {
    "an event changed": ("UPDATE audit_event SET detail = '{}' WHERE seq = 2", "event 2"),
    "an event taken out": ("DELETE FROM audit_event WHERE seq = 2", "event 2"),
    "an event put in": (
        "INSERT INTO audit_event SELECT max(seq) + 1, 1.0, NULL, 'x', '{}', hash FROM audit_event", "event",
    ),
    "an event that is no text": ("UPDATE audit_event SET detail = 5 WHERE seq = 3", "event 3"),
    "a rater gone": ("DELETE FROM rater", "point to nothing"),
    "responses gone": ("DELETE FROM completion", "point to nothing"),
    "an index that lacks a row": (
        "UPDATE sqlite_master SET sql = 'CREATE INDEX ix_judgment_task ON judgment (assignment)' "
        "WHERE name = 'ix_judgment_task'", "damaged",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_kind_of_damage_is_found(workspace: Path, damage: str, capsys):
    """At the first look and, where it is new or `--all` looks, at a later one."""
    statement, words = DAMAGE[damage]
    looked = workspace / "checked.json"
    assert main(["check", str(workspace)]) == 0
    remembered = looked.read_text()
    with sqlite3.connect(workspace / "heedful.db") as raw:
        names = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        for (name,) in raw.execute(names).fetchall():
            raw.execute(f"DROP TRIGGER {name}")
        raw.execute("PRAGMA writable_schema = ON")
        raw.execute(statement)
    raw.close()
    for _ in range(2):  # what is wrong is not remembered as seen
        assert main(["check", str(workspace), "--all"]) == 2
        assert words in capsys.readouterr().err
    assert looked.read_text() == remembered
    looked.unlink()
    assert main(["check", str(workspace)]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("seen", [False, True])
def test_pages_that_are_no_database_any_more(workspace: Path, seen: bool, capsys):
    """Bytes of the file that were overwritten, since an earlier check too: a sentence, and no traceback of the
    database's own error. Mutation caught: a later check that trusts the file."""
    assert not seen or main(["check", str(workspace)]) == 0
    database = workspace / "heedful.db"
    raw = bytearray(database.read_bytes())
    for start in range(4096 * 12, len(raw), 4096):
        raw[start : start + 64] = b"\xff" * 64
    database.write_bytes(raw)
    assert main(["check", str(workspace)]) == 2
    assert "malformed" in capsys.readouterr().err


@pytest.mark.long_on_postgres
def test_only_what_is_new_is_looked_at(url: str, tmp_path: Path, monkeypatch, capsys):
    """A later check gives the same books as one of everything, also of answers corrected since, and reads less."""
    (tmp_path / "heedful.toml").write_text(f'database = "{url}"')
    store = open_store(tmp_path)
    project, rater = make_project(store), make_rater(store)
    make_tasks(store, project, 12)
    other = make_project(store, "demonstrations alone")

    def imitate(text: str) -> None:
        with store.write() as connection:
            prompt = content.add_prompt(connection, other, "p")
            content.add_demonstration(connection, prompt, text)

    loaded: list[int] = []
    counted = books._counted

    def noted(connection, name, *more):
        rows, last = counted(connection, name, *more)
        loaded.extend([rows] if name == "judgments" else [])
        return rows, last

    monkeypatch.setattr(books, "_counted", noted)

    def rate(n: int) -> list[str]:
        given: list[str] = []
        for _ in range(n):
            given.append(claim(store, project, rater) or "")
            answer(store, given[-1], rater)
        return given

    def check(*words: str) -> dict:
        loaded.clear()
        capsys.readouterr()
        assert main(["check", str(tmp_path), *words]) == 0
        return json.loads(capsys.readouterr().out)

    first = rate(6)
    imitate("a")
    assert check()["checked_before"] == 0 and sum(loaded) == 6
    again = check()
    assert again["checked_before"] == again["audit_events"] and not sum(loaded)
    rate(3)
    imitate("b")
    answer(store, first[0], rater, {"tie": True})  # a correction of what was counted
    quick = check()
    assert sum(loaded) == 3 + 1 + 1, "not only the new ones and the one that was corrected"
    slow = check("--all")
    assert quick["projects"] == slow["projects"] and sum(loaded) == 10
    book = slow["projects"]["capitals"]["comparisons"]
    assert book == {"stored": 10, "exported": 8, "excluded": {"corrected later": 1, "tie": 1}}
    # An id from before, as of another clock: all is counted again.
    with store.write() as connection:
        row = connection.execute(select(schema.judgment).limit(1)).one()._mapping
        late = {**row, "id": "0", "idempotency_key": "late", "revision": 99, "supersedes": None}
        connection.execute(schema.judgment.insert().values(**late))
    assert check()["projects"] == check("--all")["projects"]
    store.close()


def test_what_was_seen_before_cannot_vanish(workspace: Path, capsys):
    """The end of the log cut off, or judgments gone with all that belongs to them: the chain alone would not tell."""
    assert main(["check", str(workspace)]) == 0
    with sqlite3.connect(workspace / "heedful.db") as raw:
        for (name,) in raw.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            raw.execute(f"DROP TRIGGER {name}")
        raw.execute("DELETE FROM audit_event WHERE seq = (SELECT max(seq) FROM audit_event)")
    raw.close()
    assert main(["check", str(workspace)]) == 2
    assert "not the one that was seen before" in capsys.readouterr().err
    with sqlite3.connect(workspace / "heedful.db") as raw:
        for table in ("ranking_item", "task_slot"):
            raw.execute(f"DELETE FROM {table} WHERE judgment = {FIRST}")
        raw.execute(f"DELETE FROM judgment WHERE id = {FIRST}")
    raw.close()
    assert main(["check", str(workspace)]) == 2
    assert "were there before and are gone" in capsys.readouterr().err


def test_a_command_line_brings_files_in_and_out(workspace: Path, tmp_path_factory, capsys):
    """import, export and training on db:, by the words a user types."""
    folder = tmp_path_factory.mktemp("files")
    rows = [
        {"prompt": f"What is {i}?", "chosen": f"{i}.", "rejected": "No idea."} for i in range(9)
    ]
    (folder / "in.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    there = ["--workspace", str(workspace), "--project", "other"]
    assert main(["import", "comparisons", str(folder / "in.jsonl"), *there, "--quiet"]) == 0
    assert main(["export", "comparisons", str(folder / "out.jsonl"), *there]) == 0
    out = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert {(r["prompt"], r["chosen"]) for r in out} == {(r["prompt"], r["chosen"]) for r in rows}
    capsys.readouterr()
    assert main(["baselines", "--data", f"db:{workspace}#other", "--held-out", "0.3"]) == 0
    assert "shorter" in capsys.readouterr().out
    assert main(["baselines", "--data", f"db:{workspace}#other", "--held-out", "0.001"]) == 2
    assert "such as --held-out 0.3" in capsys.readouterr().err
    assert main(["baselines", "--data", f"db:{workspace}#nobody"]) == 2
    assert "there is no project 'nobody'" in capsys.readouterr().err
