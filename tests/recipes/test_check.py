"""`heedful check`: the books of a workspace."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from heedful.cli import main
from heedful.store.db import open_store
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
    assert main(["baselines", "--data", f"db:{workspace}#nobody"]) == 2
    assert "there is no project 'nobody'" in capsys.readouterr().err
