"""Ratings of models from files, each form of row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heedful.cli import main
from heedful.data.files import write_rows
from heedful.evals.ratings import Battle, elo
from heedful.raters.standings import of_ranking, standings


def test_of_battles():
    """By hand. Mutations caught: a tie as a whole win, a loss that is not counted, a model against itself."""
    fought = [("m", "n", 1), ("m", "n", 0.5), ("n", "o", 1), ("m", "m", 1), ("p", "q", 0)]
    battles = [Battle(*one, prompt=k, rater=k) for k, one in enumerate(fought)]
    found = standings(battles)
    assert [(s.model, s.wins, s.n) for s in found] == [
        ("q", 1, 1), ("m", 1.5, 2), ("n", 1.5, 3), ("o", 0, 1), ("p", 0, 1),
    ]  # fmt: skip
    joined = elo({("m", "n"): 1.5, ("n", "m"): 0.5, ("n", "o"): 1}, battles[:3])
    assert {s.model: (s.elo, s.elo_ci) for s in found if s.elo is not None} == joined
    assert found[0].elo is None and found[1].value == 0.75 and found[1].low < 0.75 < found[1].high


def test_of_a_ranking():
    """Equal ranks tie, none is behind all, and two of none have no order. Mutation caught: None as a rank."""
    found = of_ranking("abcd", [1, 2, None, None], "p", "r")
    assert [b[:3] for b in found if (b.prompt, b.rater) == ("p", "r")] == [
        ("a", "b", 1), ("a", "c", 1), ("a", "d", 1), ("b", "c", 1), ("b", "d", 1),
    ]  # fmt: skip
    assert [b.won for b in of_ranking("ab", [1, 1], "p", "r")] == [0.5]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Both forms of rows in one file; what cannot be read is a sentence. Mutations caught: the winner's side turned
    round, the best not first."""
    data, out = tmp_path / "battles.jsonl", tmp_path / "ratings.json"
    battles = [{"model_a": "m", "model_b": "n", "winner": w} for w in ("model_b", "tie", "model_b")]
    write_rows(data, [*battles, {"models": ["o", "n", "m"], "ranking": [1, 2, 3]}])
    assert main(["raters", str(data), "--models", "--out", str(out)]) == 0
    told = json.loads(out.read_text())["models"]
    assert [(row["model"], row["wins"], row["n"]) for row in told] == [
        ("o", 2, 2), ("n", 3.5, 5), ("m", 0.5, 5),
    ]  # fmt: skip
    assert "rating" in capsys.readouterr().out
    # Ten answers of one rater about one prompt are about one.
    again = [
        {
            "model_a": "m",
            "model_b": "n",
            "winner": ("model_a", "model_b")[k % 3 == 0],
            "prompt": f"q{k}",
        }
        for k in range(9)
    ]
    bounds = []
    for rows in (again, again * 10):
        write_rows(data, rows)
        assert main(["raters", str(data), "--models", "--out", str(out)]) == 0
        told = json.loads(out.read_text())["models"]
        bounds.append([b for row in told for b in (row["low"], row["high"])])
    assert bounds[0] == pytest.approx(bounds[1], abs=0.02)
    write_rows(data, [{"models": ["m", "n"], "ranking": [1]}])
    assert main(["raters", str(data), "--models"]) == 2
    assert "a rank, or null, for each" in capsys.readouterr().err
    write_rows(data, [{"prompt": "q", "chosen": "a", "rejected": "b"}])
    assert main(["raters", str(data), "--models"]) == 2
    assert "which model wrote what" in capsys.readouterr().err
    assert main(["raters", str(data), "--models", "--labels", "mace"]) == 2
