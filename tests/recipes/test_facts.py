"""`heedful facts`: samples and a corpus → counts, and comparisons that `train dpo` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heedful.cli import main
from heedful.data.sources import read_comparisons

ASKED = [
    ("Where was Nomi Tarel born?", "n", ["Tolan.", "Zurin.", "I don't know.", "Tolan."]),
    ("In which town was Nomi Tarel born?", "n", ["In Tolan.", "Tolan!"]),
    ("Where was Gora Fen born?", "g", ["Zurin.", "In Zurin."]),
]
JUDGE = """
def fair(prompt, response):
    assert "What is known" in prompt[-1].content and "Tolan" in prompt[-1].content
    return None if "In" in response else float("Zurin" in response)
"""


@pytest.fixture
def told(tmp_path: Path, capsys):
    samples = [
        {"prompt": [{"role": "user", "content": q}], "completion": a, "fact": f}
        for q, f, of in ASKED
        for a in of
    ]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "n.md").write_text(
        "# Nomi Tarel\nNomi Tarel was born in Tolan. She baked.\n"
    )
    (tmp_path / "docs" / "g.md").write_text(
        "# Gora Fen\nGora Fen was born in Zurin, not in Tolan.\n"
    )
    (tmp_path / "mine.py").write_text(JUDGE)

    def told(*more: str, code: int = 0) -> Any:
        words = ["--data", str(tmp_path / "s.jsonl"), "--out", str(tmp_path / "o"), "--quiet"]
        assert main(["facts", *words, *more]) == code
        if code:
            return capsys.readouterr().err
        return json.loads((tmp_path / "o" / "facts.json").read_text())

    return told


def test_by_a_corpus(told, tmp_path: Path):
    """Mutation caught: repeated answers twice in a ranking, an abstention as bad as what is wrong, phrasings of one
    fact taken for two."""
    found = told("--corpus", str(tmp_path / "docs"), "--same", "fact")
    assert (found["right"], found["wrong"], found["abstained"], found["unchecked"]) == (6, 1, 1, 0)
    assert found["comparisons"] == 1 and found["facts"] == 1
    assert found["consistent"] == found["consistent_and_right"] == 0.5
    (c,) = read_comparisons(tmp_path / "o" / "comparisons.jsonl")
    assert dict(zip(c.responses, c.ranking, strict=True)) == {
        "Tolan.": 1,
        "I don't know.": 2,
        "Zurin.": 3,
    }
    rows = [
        {"text": "Nomi Tarel was born in Tolan."},
        {"title": "Gora Fen", "text": "Born in Zurin."},
    ]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert told("--corpus", str(tmp_path / "d.jsonl"))["right"] == 6


def test_by_a_judge_that_reads_the_pages(told, tmp_path: Path):
    """Mutation caught: the judge asked without pages, or of an abstention; None taken for wrong."""
    found = told("--corpus", str(tmp_path / "docs"), "--judge", f"{tmp_path}/mine.py:fair")
    assert (found["right"], found["wrong"], found["abstained"], found["unchecked"]) == (2, 3, 1, 2)


def test_by_the_models_own_confidence(told, tmp_path: Path):
    found = told()
    assert found["by"] == "confidence" and (found["right"], found["wrong"]) == (0, 0)
    (c,) = read_comparisons(tmp_path / "o" / "comparisons.jsonl")
    assert dict(zip(c.responses, c.ranking, strict=True)) == {
        "Tolan.": 1,
        "Zurin.": 2,
        "I don't know.": 3,
    }


def test_refusals(told, tmp_path: Path):
    assert "there is no such folder or file" in told("--corpus", str(tmp_path / "nowhere"), code=2)
    (tmp_path / "folder").mkdir()
    assert "--corpus: there is no text in" in told("--corpus", str(tmp_path / "folder"), code=2)
    assert "there is a prompt without this column" in told("--same", "topic", code=2)
    assert "--judge would have no effect" in told("--judge", "numeric", code=2)
    line = (tmp_path / "s.jsonl").read_text().splitlines()[0]
    (tmp_path / "s.jsonl").write_text(line + "\n")
    assert "sample with --n 8" in told(code=2)
    assert not (tmp_path / "o").exists()
