"""Guidelines at the command line: after the import, in the order of docs/people.md, they reach raters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heedful.cli import main
from heedful.store.database.db import open_store
from heedful.store.rating import show, work
from heedful.transfer.workspace import project_of
from workspace import make_rater


def test_written_after_an_import_they_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    work_in = ["--workspace", str(tmp_path / "work")]
    (tmp_path / "s.jsonl").write_text(
        "".join(json.dumps({"prompt": "Why?", "completion": c}) + "\n" for c in "ab")
    )
    (tmp_path / "g.md").write_text("# Be kind")
    assert main(["init", str(tmp_path / "work")]) == 0
    assert main(["import", "samples", str(tmp_path / "s.jsonl"), *work_in, "--ask", "pair"]) == 0
    assert main(["guidelines", *work_in]) == 2
    assert "no guidelines yet" in capsys.readouterr().err
    written = []
    for _ in range(2):
        assert main(["guidelines", str(tmp_path / "g.md"), *work_in]) == 0
        written.append(json.loads(capsys.readouterr().out))
    assert [w["new"] for w in written] == [True, False]
    assert main(["guidelines", *work_in]) == 0 and capsys.readouterr().out == "# Be kind\n"
    store = open_store(tmp_path / "work")
    rater = make_rater(store)
    with store.write() as connection:
        given = work.claim(connection, project_of(connection, None), rater).assignment
        assert given
        shown = show.question(connection, given, rater)["guidelines"]
    assert shown == {"id": written[0]["version"], "body": "# Be kind"}
    store.close()
    for file, words in ((tmp_path / "none.md", "No such file"), (tmp_path / "e.md", "1 to 200000")):
        (tmp_path / "e.md").write_text(" ")
        assert main(["guidelines", str(file), *work_in]) == 2
        assert words in capsys.readouterr().err
