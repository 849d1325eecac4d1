"""`heedful evaluate reward` on files as RewardBench has them, and on anybody's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heedful.cli import main

REWARD = """
def short(prompt, response):
    assert prompt[0].role == "user" if not isinstance(prompt, str) else True
    return -float(len(response))
def even(prompt, response):
    return None if len(response) % 2 else 1.0
def chat(prompt, response):
    return float(not isinstance(prompt, str))
"""
FIRST = [
    {"prompt": "Hi?", "chosen": "Yes.", "chosen_model": "a", "rejected": "No, never.", "rejected_model": "b",
     "subset": name, "id": k}
    for k, name in enumerate(["hep-go", "hep-go", "alpacaeval-easy"])
]  # fmt: skip
SECOND = [
    {"prompt": "2 + 2?", "chosen": ["4"], "rejected": ["five", "six", "seven"], "num_correct": 1, "subset": "Math",
     "id": "1"},
    {"prompt": "A colour?", "chosen": ["red"], "rejected": ["seven"], "subset": "Ties", "id": "ref:1"},
    {"prompt": "A colour?", "chosen": ["red", "blue"], "rejected": ["seven", "nine"], "subset": "Ties", "id": "tied:1"},
]  # fmt: skip


@pytest.fixture
def told(tmp_path: Path, capsys):
    (tmp_path / "mine.py").write_text(REWARD)

    def told(rows: list[dict[str, Any]], *more: str, reward: str = "short", code: int = 0) -> Any:
        (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = [
            "--data",
            str(tmp_path / "d.jsonl"),
            "--out",
            str(tmp_path / "o"),
            "--quiet",
            *more,
        ]
        spec = f"{tmp_path}/mine.py:{reward}"
        assert main(["evaluate", "reward", "--reward", spec, *words]) == code
        if code:
            return capsys.readouterr().err
        return json.loads((tmp_path / "o" / "evaluation.json").read_text())

    return told


def test_both_layouts(told, tmp_path: Path):
    """Mutation caught: a text prompt of theirs that is no user's turn; several right responses taken for turns."""
    first = told(FIRST)
    assert first["sections"] == {"Chat": 1.0, "Reasoning": 1.0} and first["score"] == 1.0
    assert first["subsets"]["hep-go"]["rows"] == 2 and first["best_is_longest"] is None
    second = told(SECOND)
    assert second["subsets"]["Math"]["accuracy"] == 1.0
    ties = second["subsets"]["Ties"]  # red −3, blue −4, nine −4, seven −5
    assert (ties["ref_accuracy"], ties["tied_accuracy"], ties["gap_above_spread"]) == (1, 0, 0)
    lines = [json.loads(x) for x in (tmp_path / "o" / "scores.jsonl").read_text().splitlines()]
    assert lines[2]["scores"] == [-3, -4, -5, -4] and lines[2]["ranking"] == [1, 1, 2, 2]
    assert told(FIRST, reward="chat")["accuracy"] == 0.5  # all alike


def test_anybodys_comparisons(told):
    """By a column of their own; ties are left out; what a reward abstains from is counted."""
    rows = [
        {"prompt": "a", "chosen": "b", "rejected": "c" * k, "language": "de" if k % 2 else "en"}
        for k in range(2, 6)
    ]
    tie = {"prompt": "a", "responses": ["b", "cc"], "ranking": [1, 1]}
    found = told([*rows, tie], "--by", "language")
    assert {n: s["rows"] for n, s in found["subsets"].items()} == {"de": 2, "en": 2}
    assert found["best_is_not_longest"]["accuracy"] == 1.0 and "score" not in found
    assert "no row of" in told(rows, "--by", "languag", code=2)  # and not all of them as one subset
    again = [
        {"prompt": "a", "responses": ["ccc", "b"], "ranking": [k, 3 - k], "rater": str(k)}
        for k in (1, 2)
    ]
    found = told([*rows, *again])
    assert found["people_agree"] == pytest.approx(1 / 3) and found["asked_of_several"] == 1
    even = [{"prompt": "a", "chosen": "bb", "rejected": "c" * k} for k in (3, 4)]
    assert told(even, reward="even")["unscored"] == 1
    assert "abstains from every row" in told(even[:1], reward="even", code=2)
    assert "no row compares anything" in told([tie], code=2)
    assert "--on-bad-row drop" in told([{"prompt": "a"}], code=2)
