"""Absolute against pairwise judgments of the same responses, counted by hand."""

from __future__ import annotations

from heedful.cli import main
from heedful.data.files import write_rows
from heedful.raters.rated_alike import rated_alike
from heedful.types import Comparison, Rated


def test_by_hand():
    """Two raters, two prompts. Of p the higher rated a wins one of two comparisons (b wins the other), of q the ratings
    are alike on average, though each rater orders them; the third prompt was rated on one side only.

    Mutations caught: the alphabet's order taken for the better one, ties that agree, a mean over all responses, pairs
    that were not rated counted among those compared."""
    compared = [
        Comparison("p", ("b", "a"), (2, 1), rater="ada"),
        Comparison("p", ("a", "b"), (2, 1), rater="bob"),
        Comparison("q", ("a", "b"), (1, 2), rater="ada"),
        Comparison("q", ("b", "a"), (2, 1), rater="bob"),
        Comparison("r", ("a", "b"), (1, 2), rater="ada"),
        Comparison("r", ("a", "b"), (1, 2), rater="bob"),
        Comparison("p", ("a", "b"), (1, 1), rater="cem"),
    ]
    told = {
        ("p", "a"): {"ada": 5, "bob": 4, "cem": 3}, ("p", "b"): {"ada": 1, "bob": 2, "cem": 3},
        ("q", "a"): {"ada": 4, "bob": 2}, ("q", "b"): {"ada": 2, "bob": 4}, ("r", "a"): {"ada": 1},
    }  # fmt: skip
    rated = [
        Rated(prompt, response, {"helpful": float(value)}, rater=who)
        for (prompt, response), of in told.items()
        for who, value in of.items()
    ]
    (found,) = rated_alike(compared, rated)
    assert found.axis == "helpful"
    assert (found.wins.n, found.wins.value) == (2, 0.5)
    assert (found.equal.n, found.equal.value) == (4, 0.5)
    assert (found.compared.n, found.compared.value) == (2, 0.5)  # p: no, q: yes
    assert (found.rated.n, found.rated.value) == (2, 0.5)  # p: yes, q: no
    assert found.wins.ci is not None and found.wins.ci[0] < 0.5 < found.wins.ci[1]
    assert rated_alike(compared[4:6], rated) == []


def test_the_command(tmp_path, capsys):
    """Longer responses win and are rated higher; without a rated pair one sentence. Mutation caught: rows of ratings
    read as comparisons."""
    rows = [
        {"prompt": f"{k}?", "chosen": "a b c d" + " e" * (k % 3), "rejected": "a", "rater": "ada"}
        for k in range(30)
    ]
    scores = [
        {"prompt": row["prompt"], "completion": row[side], "axis": "good", "value": value, "rater": "bob"}
        for row in rows
        for side, value in (("chosen", 5), ("rejected", 2))
    ]  # fmt: skip
    for name, of in (("rows", rows), ("scores", scores), ("other", scores[::2])):
        write_rows(tmp_path / f"{name}.jsonl", of)
    command = ["biases", str(tmp_path / "rows.jsonl"), "--ratings"]
    assert main([*command, str(tmp_path / "scores.jsonl")]) == 0
    assert "good" in (said := capsys.readouterr().out) and "of 30" in said
    assert main([*command, str(tmp_path / "other.jsonl")]) == 2
    assert "no two responses that were compared have both been rated" in capsys.readouterr().err
