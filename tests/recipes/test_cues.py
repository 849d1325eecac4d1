"""`heedful cues --fit`: what cues are worth, by the ratings of a few conversations."""

from __future__ import annotations

import random

import numpy as np
import pytest

from heedful.cli import main
from heedful.data.files import read_rows, write_rows
from heedful.errors import UserError
from heedful.evals.cue_weights import fitted
from heedful.evals.statistics import rank_correlation

THANKED, LAUGHED = 2.0, 0.5  # what the cues are worth in the world below


def talks(number: int = 200, rated: int = 60, noise: float = 0.2) -> list[dict]:
    """Conversations of three replies, whose ratings are 3, and the more the more is thanked and laughed."""
    rng, rows = random.Random(0), []
    for i in range(number):
        said, worth = [{"role": "user", "content": f"question {i}"}], 0.0
        for k in range(3):
            thanks, laughs = rng.random() < 0.5, rng.random() < 0.5
            worth += (THANKED * thanks + LAUGHED * laughs) / 3
            words = ["next"] + ["thanks"] * thanks + ["haha"] * laughs
            said += [
                {"role": "assistant", "content": f"reply {i} {k}"},
                {"role": "user", "content": " ".join(words)},
            ]
        rating = 3 + worth + rng.gauss(0, noise) if i < rated else None
        rows.append({"messages": said, "stars": rating})
    return rows


def run(tmp_path, rows: list[dict], *more: str) -> int:
    write_rows(tmp_path / "t.jsonl", rows)
    out = ["--out", str(tmp_path / "rated.jsonl"), "--cues", "thanks", "laughs"]
    return main(["cues", str(tmp_path / "t.jsonl"), "--fit", "stars", *out, *more])


def test_a_cue_that_never_changes_has_no_interval(tmp_path, capsys):
    """Nothing is known of it, which [0, 0] would not say. Mutation caught: an interval for each cue."""
    assert run(tmp_path, talks(), "--cues", "thanks", "leaves") == 0
    said = capsys.readouterr().out
    assert "  leaves: 0, as it is the same in all\n" in said and "  thanks: 1" in said


def test_a_few_ratings_weigh_the_cues_of_all(tmp_path, capsys):
    """Mutations caught: replies of unrated conversations left out; weights of standardised cues told as the cues' own;
    a label by another threshold than the mean."""
    assert run(tmp_path, talks()) == 0
    said = capsys.readouterr().out
    assert "weights by the stars of 60 of 200 conversations" in said
    line = next(line for line in said.splitlines() if line.startswith("to use them elsewhere"))
    weights = dict(part.split("=") for part in line.split("--cues ")[1].split())
    assert float(weights["thanks"]) == pytest.approx(THANKED, abs=0.35)
    assert float(weights["laughs"]) == pytest.approx(LAUGHED, abs=0.35)
    rows = [row for _, row in read_rows(tmp_path / "rated.jsonl")]
    assert len(rows) == 600
    mean = np.mean([row["reward"] for row in rows])
    for row in rows:
        assert row["reward"] == pytest.approx(sum(row["reward_parts"].values()), abs=1e-6)
        assert row["label"] == (row["reward"] > mean)
    assert {round(row["reward_parts"]["thanks"], 6) for row in rows} == {
        0.0,
        float(weights["thanks"]),
    }


@pytest.mark.parametrize("units", [1.0, 1000.0])
def test_weights_are_found_again(units):
    """Whatever the cues' units, with intervals that hold the truth, and what never changes weighs nothing.

    Mutations caught: cues that are penalised by their units; an interval of the penalised mean alone; ratings that are
    predicted by a fit to themselves.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3)) * [1.0, units, 0.0] + [0.0, 0.0, 5.0]
    y = 4 + x @ [1.5, -0.5 / units, 0.0] + rng.normal(size=400)
    found = fitted(x.tolist(), y.tolist())
    for weight, (low, high), true in zip(
        found.weights, found.intervals, (1.5, -0.5 / units, 0.0), strict=True
    ):
        assert low - 1e-9 <= true <= high + 1e-9 and low <= weight <= high
    assert found.weights[2] == 0 and 0.7 < found.correlation < 0.9
    noise = fitted(x.tolist(), rng.normal(size=400).tolist())
    assert abs(noise.correlation) < 0.15


def test_equal_values_share_a_rank():
    """Spearman's coefficient by hand: ranks 1, 2.5, 2.5, 4 and 1, 2, 3.5, 3.5."""
    hand = np.corrcoef([1, 2.5, 2.5, 4], [1, 2, 3.5, 3.5])[0, 1]
    assert rank_correlation(np.array([0, 3, 3, 9]), np.array([1, 2, 7, 7])) == pytest.approx(hand)
    assert rank_correlation(np.ones(4), np.arange(4)) == 0


def test_what_says_nothing_of_cues_is_one_sentence(tmp_path, capsys):
    """Exit code 2, and no file."""
    same = [row | {"stars": 3} for row in talks()]
    words = [row | {"stars": "good"} for row in talks()]
    for rows, more, why in (
        (talks(rated=19), (), "19 conversations have a rating; weights of cues need at least 20"),
        (talks(rated=0), (), "no conversation with a reply has a 'stars'"),
        (same, (), "all 200 ratings are 3"),
        (words, (), "`stars` must be a number, true or false, not 'good'"),
        (talks(), ("--cues", "thanks=2"), "give --cues their names alone"),
    ):
        write_rows(tmp_path / "t.jsonl", rows)
        line = [
            "cues",
            str(tmp_path / "t.jsonl"),
            "--fit",
            "stars",
            "--out",
            str(tmp_path / "o.jsonl"),
        ]
        assert main([*line, *(more or ("--cues", "thanks"))]) == 2
        assert why in capsys.readouterr().err and not (tmp_path / "o.jsonl").exists()
    with pytest.raises(UserError, match="say nothing of cues"):
        fitted([[0.0]] * 30, [1.0] * 30)
