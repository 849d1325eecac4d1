"""Records of Argilla and Label Studio with several questions: one screen, and each answer where it belongs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heedful.cli import main
from heedful.data.files import read_rows
from heedful.data.sources import read_comparisons
from heedful.store.database.db import open_store
from heedful.store.exports import books
from heedful.store.project import projects
from heedful.transfer.workspace import project_of
from workspace import claim, make_rater

FIELDS = {"instruction": "Why?", "response_a": "Because.", "response_b": "No idea."}


def said(*answers: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"value": value, "user_id": user, "status": "submitted"} for user, value in answers]


ARGILLA = [
    {
        "id": "1", "fields": FIELDS, "metadata": {}, "suggestions": {},
        "responses": {
            "preference": said(("ana", "response_a"), ("bo", "response_b")),
            "response_a-rating": said(("ana", 4), ("bo", 2)),
            "response_b-rating": said(("ana", 1), ("bo", 6)),
            "confidence": said(("ana", 3)),
            "reason": said(("ana", "It answers.")),
            "response_b-flags": said(("bo", ["rude", "short"])),
        },
    },
    {"id": "2", "fields": FIELDS | {"instruction": "Who?"}, "metadata": {}, "responses": {}},
]  # fmt: skip


def result(kind: str, name: str, tag: str, **value: Any) -> dict[str, Any]:
    return {"id": name, "type": kind, "from_name": name, "to_name": tag, "value": value}


LABEL_STUDIO = [
    {
        "id": 1,
        "data": {"prompt": "Why?", "answer": "Because it is."},
        "annotations": [
            {
                "completed_by": {"id": 7, "email": "a@b.c"}, "lead_time": 12.5, "created_at": "2024-03-29T05:39:54Z",
                "result": [
                    result("rating", "quality", "answer", rating=4),
                    result("choices", "kept", "answer", choices=["polite"]),
                    result("textarea", "why", "answer", text=["short", "true"]),
                    result("labels", "errors", "answer", start=0, end=7, text="Because", labels=["vague"]),
                    result("taxonomy", "topic", "answer", taxonomy=[["a"]]),
                ],
            },
        ],
    },
]  # fmt: skip


def take(tmp_path: Path, rows: list[dict[str, Any]], *words: str) -> int:
    (tmp_path / "r.json").write_text(json.dumps(rows))
    command = ["import", "records", str(tmp_path / "r.json"), "--workspace", str(tmp_path / "work")]
    return main([*command, "--project", "p", "--quiet", *words])


def judged(tmp_path: Path) -> list[dict[str, Any]]:
    out = tmp_path / "j.jsonl"
    assert main(["export", "judgments", str(out), "--workspace", str(tmp_path / "work")]) == 0
    return [row for _, row in read_rows(str(out))]


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path / "work")]) == 0


def test_argilla_with_six_questions(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Each answer is with its response whatever the order shown, who left one out has none, and what does not say which
    response it is about is told and kept in words. Again adds nothing; what nobody answered is asked.

    Mutations caught: ratings by the order shown, a flag of the other response, an answer that was not given."""
    assert take(tmp_path, ARGILLA, "--dry-run") == 0
    looked = capsys.readouterr().out
    assert '"answers": 7' in looked and '"records": 2' in looked
    why = "a rating that does not say which response it is about"
    assert f'"kept in words: `confidence`, {why}": 1' in looked
    assert take(tmp_path, ARGILLA) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["tasks"], first["judgments"]) == (2, 2)
    assert take(tmp_path, ARGILLA) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["tasks"], again["judgments"]) == (0, 0)
    store = open_store(tmp_path / "work")
    with store.read() as connection:
        project = project_of(connection, "p")
        asked = projects.settings_of(connection, project).questions
        assert all(count.missing == 0 for count in books.reconcile(connection, project).values())
    assert [(q["name"], q["kind"], q["required"]) for q in asked] == [
        ("preference", "pair", True), ("rating", "rate", True), ("confidence", "note", False),
        ("reason", "note", False), ("flags", "rules", False),
    ]  # fmt: skip
    assert asked[1]["options"]["axes"][0]["high"] == 7
    assert claim(store, project, make_rater(store))  # the second record waits
    store.close()
    rows = {row["rater"]: row for row in judged(tmp_path)}
    assert set(rows) == {"ana", "bo"}
    for row in rows.values():
        texts = [c["text"] for c in row["completions"]]
        row |= {
            n: dict(zip(texts, row[n], strict=True))
            for n in ("preference.ranking", "rating.rating")
        }
    assert rows["ana"]["preference.ranking"] == {"Because.": 1, "No idea.": 2}
    assert rows["bo"]["preference.ranking"] == {"Because.": 2, "No idea.": 1}
    assert rows["ana"]["rating.rating"] == {"Because.": 4, "No idea.": 1}
    assert rows["bo"]["rating.rating"] == {"Because.": 2, "No idea.": 6}
    assert rows["ana"]["confidence.text"] == "3"
    assert rows["ana"]["reason.text"] == "It answers." and rows["bo"].get("reason.text") is None
    flagged = {(r["rule"], r["verdict"]) for r in rows["bo"]["rules"]}
    assert flagged == {("rude", True), ("short", True)} and not rows["ana"]["rules"]
    assert (
        main(
            [
                "export",
                "comparisons",
                str(tmp_path / "c.jsonl"),
                "--workspace",
                str(tmp_path / "work"),
            ]
        )
        == 0
    )
    assert [c.responses for c in read_comparisons(tmp_path / "c.jsonl")] == [
        ("Because.", "No idea."), ("No idea.", "Because.")
    ]  # fmt: skip


def test_label_studio_with_five_results(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """A rating, a choice, a text and a marked passage of one response; a taxonomy has no counterpart and is told.

    Mutations caught: a span shifted, an address that is kept, a result dropped in silence."""
    assert take(tmp_path, LABEL_STUDIO) == 0
    assert "left out: 1 answer to `topic`, a kind of answer that is not known" in caplog.text
    (row,) = judged(tmp_path)
    assert row["rater"] == "labeller 7" and row["active_ms"] == 12500
    assert row["quality.rating"] == [4] and row["kept.polite"] == [True]
    assert row["why.text"] == "short\ntrue"
    (mark,) = row["errors.critiques"]
    assert (mark["start"], mark["end"], mark["text"]) == (0, 7, "vague")


def test_what_is_no_record_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """And leaves nothing behind. Mutations caught: a traceback; a project of a file that could not be read."""
    span = {"start": 0, "end": 3, "label": "x"}
    wordless = {**ARGILLA[0], "responses": {"marks": said(("ana", [span]))}}
    for rows, told in (
        ([{"prompt": "a", "chosen": "b", "rejected": "c"}], "no record of Argilla"),
        (ARGILLA[1:], "nobody has answered any of its 1 records"),
        ([wordless], "none of its questions has a counterpart here; `marks`"),
        ([{**ARGILLA[0], "fields": FIELDS | {"response_b": "Because."}}], "are the same text"),
        (
            [{**ARGILLA[0], "fields": {"instruction": "Why?", "note": "x", "other": "y"}}],
            "is a response",
        ),
    ):
        assert take(tmp_path, rows) == 2
        assert told in capsys.readouterr().err
    with open_store(tmp_path / "work").read() as connection:
        assert projects.asking(connection) == []
