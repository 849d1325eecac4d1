"""Which prompts are hard or dated: counted from answers, and predicted for prompts that nobody was asked about."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from heedful.cli import main
from heedful.data.files import write_rows
from heedful.raters.hardness import Trials, disagreements, errors, predict
from heedful.types import Comparison

SPRING, AUTUMN = "2026-03-01T00:00:00+00:00", "2026-09-01T00:00:00Z"


def said(prompt: str, better: str, worse: str, when: str | None = None) -> Comparison:
    return Comparison(prompt, (better, worse), (1, 2), created_at=when)


def test_what_is_counted():
    """Of three answers two of three pairs disagree, as two trials; whichever response stands first; far apart in time
    is another thing; ties are neither.

    Mutations caught: the order of responses taken for what is said, three pairs as three trials, time unread.
    """
    hard, dated = disagreements(
        [said("p", "a", "b"), said("p", "b", "a"), Comparison("p", ("b", "a"), (2, 1)),
         Comparison("p", ("a", "b"), (1, 1)), said("q", "a", "b", SPRING), said("q", "b", "a", AUTUMN),
         said("r", "a", "b", SPRING), said("r", "a", "c", SPRING)], 30,
    )  # fmt: skip
    assert hard == {"p": Trials(pytest.approx(4 / 3), pytest.approx(2.0))}
    assert dated == {"q": Trials(1.0, 1.0)}
    both = [said("q", "a", "b", SPRING), said("q", "b", "a", AUTUMN)]
    assert (
        not disagreements(both, 365)[1]
        and not disagreements([both[0], said("q", "b", "a", "May")], 30)[1]
    )


def test_errors_of_a_reward():
    """Mutation caught: an error where the reward is right; a response without a score counted as wrong."""
    told = [Comparison("p", ("a", "b", "c"), (1, 2, 3)), said("q", "a", "b"), said("r", "a", "b")]
    found = errors(told, [[3.0, 1.0, 2.0], [0.0, 0.0], [None, 1.0]])
    assert found["p"] == Trials(pytest.approx(1 / 3), pytest.approx(1.0))
    assert found["q"] == Trials(0.5, 1.0) and "r" not in found


def planted(count: int, seed: int) -> list[Comparison]:
    """Two raters of each prompt: about taxes they agree by chance, about cats always; in autumn all say the other thing
    of who is the mayor."""
    rng, found = random.Random(seed), []
    for k in range(count):
        topic = ("taxes", "cats", "mayor")[k % 3]
        prompt = f"Tell me about {topic} in {rng.choice('ABCDEF')}{rng.randrange(50)}."
        other = ("b", "a") if topic == "taxes" and rng.random() < 0.5 else ("a", "b")
        found += [said(prompt, "a", "b", SPRING), said(prompt, *other, SPRING)]
        if topic == "mayor":
            found += [said(prompt, "b", "a", AUTUMN)] * 2
        else:
            found.append(said(prompt, "a", "b", AUTUMN))
    return found


def test_predicted_without_an_answer():
    """What is asked about taxes is hard, who is the mayor dated, cats neither; told of prompts with no answers, with
    intervals that hold the truth; where nothing is to be seen it says so.

    Mutations caught: chances of the wrong outcome, the mean for all, folds that were learned from, no intervals.
    """
    hard, dated = disagreements(planted(240, 0), 30)
    new = ["Say something of taxes there.", "And the cats of Y99?", "Who is mayor of Y99?"]
    disagree, change = predict(hard, new), predict(dated, new)
    assert disagree and change and disagree.predicts and change.predicts
    assert disagree.hardest > 0.35 and disagree.others < 0.2
    (taxes, (low, high)), (cats, _), _ = disagree.chances
    assert low < 0.5 < high and taxes > 0.3 and cats < 0.15
    assert change.chances[2][0] > 0.8 and change.chances[1][0] < 0.4
    rng = random.Random(1)
    blind = {f"Prompt {rng.random()}": Trials(float(rng.random() < 0.3), 1.0) for _ in range(100)}
    nothing = predict(blind, new)
    assert nothing and not nothing.predicts
    assert predict(dict(list(blind.items())[:19]), new) is None
    assert predict({k: Trials(0.0, 1.0) for k in blind}, new) is None


def test_the_command(tmp_path: Path, capsys):
    """Mutation caught: the easiest first; new prompts left out; a file where nothing could be learned."""
    rows = [
        {
            "prompt": c.prompt,
            "responses": c.responses,
            "ranking": c.ranking,
            "created_at": c.created_at,
        }
        for c in planted(90, 2)
    ]
    write_rows(tmp_path / "c.jsonl", rows)
    write_rows(tmp_path / "p.jsonl", [{"prompt": "Cats?"}, {"prompt": "The taxes in A1?"}])
    out = tmp_path / "hard.jsonl"
    words = [
        "prompts",
        str(tmp_path / "c.jsonl"),
        "--data",
        str(tmp_path / "p.jsonl"),
        "--out",
        str(out),
    ]
    assert main([*words, "--reward", "length"]) == 0
    text = capsys.readouterr().out
    assert "raters disagree: " in text and "answers far apart in time disagree: " in text
    told = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["prompt"] for row in told] == ["The taxes in A1?", "Cats?"]
    assert told[0]["disagreement_low"] < told[0]["disagreement"] < told[0]["disagreement_high"]
    assert told[0]["disagreement_trials"] == 0 and told[0]["hardness"] > told[1]["hardness"]
    out.unlink()
    write_rows(tmp_path / "c.jsonl", rows[:9])
    assert main(words) == 2 and "fewer than 20 prompts" in capsys.readouterr().err
    assert not out.exists()
