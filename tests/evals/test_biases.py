"""Attributes that predict preference, and a reward without them: planted biases are found, others are not."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

from heedful.cli import main
from heedful.data.files import read_rows, write_rows
from heedful.evals.biases import NAMES, TEXTUAL, attributes, biases, logistic, pairs_of, slopes
from heedful.types import Comparison

WORDS = ["lima", "peru", "city", "river", "llama", "bread", "stone", "cloud", "train", "music"]


def planted(length: float, agreeing: float, place: float, number: int = 1500) -> list[Comparison]:
    """Two responses a prompt; log-odds a word's log, for "you are right", and for standing first."""
    rng, found = random.Random(3), []
    for k in range(number):
        texts, worth = [], []
        for _ in range(2):
            words, agrees = rng.choices(WORDS, k=rng.randint(2, 30)), rng.random() < 0.3
            texts.append(("You are right. " if agrees else "") + " ".join(words) + f" x{k}")
            worth.append(length * attributes("", texts[-1])[0] + agreeing * agrees)
        order = [0, 1] if rng.random() < 0.5 else [1, 0]
        worth[order[0]] += place
        first = rng.random() < 1 / (1 + math.exp(worth[1] - worth[0]))
        ranking = (1, 2) if first else (2, 1)
        found.append(Comparison(f"Where? {k}", tuple(texts), ranking, order_shown=tuple(order)))
    return found


def test_attributes_by_hand():
    """Mutations caught: words that are counted as characters, a list within a line, echoes of any word."""
    text = "You're right, great question!\n- Lima\n2. **Cusco**\n# Peru\nI can't say, sorry; perhaps `x`?"
    told = dict(zip(TEXTUAL, attributes("Where is Peru?", text), strict=True))
    assert told["longer"] == pytest.approx(math.log1p(16))
    assert told["lists"] == told["agreeing"] == pytest.approx(math.log(3))
    ones = (
        "headings",
        "bold",
        "code",
        "questions",
        "exclamations",
        "hedging",
        "apologising",
        "refusing",
    )
    assert all(told[name] == pytest.approx(math.log(2)) for name in ones)
    assert told["echoing"] == pytest.approx(1 / 16)


def test_planted_biases_are_found_and_no_others():
    """Within their intervals, per standard deviation; what nobody has planted is near 0, and what seems to win because
    it goes with length does not in the joint fit. Mutations caught: an order shown the other way round, attributes of
    the worse less the better, a constant that swallows a bias."""
    found = {b.name: b for b in biases(pairs_of(planted(1.0, 0.8, 0.6)))}
    pairs = pairs_of(planted(1.0, 0.8, 0.6))
    for name, per_unit in (("longer", 1.0), ("agreeing", 0.8 / math.log(2)), ("shown first", 0.6)):
        scale = math.sqrt((pairs.x[:, NAMES.index(name)] ** 2).mean())
        low, high = found[name].log_odds_ci
        assert low < per_unit * scale < high and low > 0, name
        assert found[name].wins > 0.55 and found[name].wins_ci[0] > 0.5
    assert set(found) == {"longer", "agreeing", "shown first"}
    fair = {b.name: b for b in biases(pairs_of(planted(1.0, 0.0, 0.0)))}
    assert fair["agreeing"].log_odds_ci[0] < 0 < fair["agreeing"].log_odds_ci[1]


def test_errors_are_of_comparisons_not_of_pairs():
    """The same rows told four times have the same standard errors, as one ranking would. Mutation caught: pairs taken
    for independent ones."""
    pairs = pairs_of(planted(1.0, 0.0, 0.0, 300))
    x = pairs.x[:, :1]
    w, error = logistic(x, pairs.row, pairs.weight)
    again, other = logistic(
        np.repeat(x, 4, 0), np.repeat(pairs.row, 4), np.repeat(pairs.weight / 4, 4)
    )
    assert again == pytest.approx(w, abs=1e-8) and other == pytest.approx(error, rel=1e-6)


def test_slopes_within_prompts():
    """Least squares by hand; what differs between prompts alone is no slope. Mutations caught: means over all
    responses, slopes of one attribute where two were asked."""
    items, rewards, rng = [], [], random.Random(1)
    for k in range(60):
        texts = [
            " ".join(rng.choices(WORDS, k=rng.randint(2, 40))) + "!" * rng.randint(0, 3)
            for _ in range(3)
        ]
        known = [dict(zip(TEXTUAL, attributes("q", t), strict=True)) for t in texts]
        items.append((f"q{k}", texts))
        rewards.append([100 * k + 2 * a["longer"] - 3 * a["exclamations"] for a in known])
    told = slopes(items, rewards)
    assert told.of(["longer", "exclamations"]) == pytest.approx(
        {"longer": 2.0, "exclamations": -3.0}
    )
    assert told.explained(["longer", "exclamations"]) == pytest.approx(1.0)
    assert told.explained(["longer"]) < 0.9 and told.of(["bold"]) == {"bold": 0.0}


def test_the_command_and_a_reward_without_length(tmp_path: Path, capsys):
    """From comparisons to a table and a file, and from that to a reward that no longer goes by length. Mutations
    caught: the slope added, an attribute's mean left in, a file of another command that is read."""
    comparisons = planted(1.0, 0.8, 0.6, 300)
    rows = [
        {"prompt": c.prompt, "responses": c.responses, "ranking": c.ranking} for c in comparisons
    ]
    write_rows(tmp_path / "c.jsonl", rows)
    (tmp_path / "mine.py").write_text(
        "import math\ndef score(prompt, response):\n"
        "    return 2 * math.log1p(len(response.split())) + ('llama' in response)\n"
    )
    reward, out = f"{tmp_path}/mine.py:score", tmp_path / "biases.json"
    assert main(["biases", str(tmp_path / "c.jsonl"), "--reward", reward, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "longer" in said and "length explains" in said
    assert json.loads(out.read_text())["reward"]["explained by length"] > 0.5
    samples = [{"prompt": c.prompt, "completion": r} for c in comparisons[:60] for r in c.responses]
    write_rows(tmp_path / "s.jsonl", samples)
    told = {}
    for name, spec in (("whole", reward), ("rest", f"residual({reward}, {out})")):
        score = ["score", "--data", str(tmp_path / "s.jsonl"), "--reward", spec, "--quiet"]
        assert main([*score, "--out", str(tmp_path / f"{name}.jsonl")]) == 0
        told[name] = [row["reward"] for _, row in read_rows(tmp_path / f"{name}.jsonl")]
    longer = [attributes("", s["completion"])[0] for s in samples]
    assert (
        np.corrcoef(told["whole"], longer)[0, 1]
        > 0.8
        > 0.35
        > abs(np.corrcoef(told["rest"], longer)[0, 1])
    )
    assert np.mean(told["rest"]) == pytest.approx(np.mean(told["whole"]), abs=0.3)
    for spec, why in (
        (f"residual({reward})", "expected residual(REWARD, FILE)"),
        (f"residual({reward}, {out}, of=longr)", "there is no attribute 'longr'"),
        (f"residual({reward}, {tmp_path / 'c.jsonl'})", "is no file of `heedful biases"),
    ):
        assert (
            main(
                ["score", "--data", str(tmp_path / "s.jsonl"), "--reward", spec, "--out", "x.jsonl"]
            )
            == 2
        )
        assert why in capsys.readouterr().err
    write_rows(tmp_path / "few.jsonl", rows[:5])
    assert main(["biases", str(tmp_path / "few.jsonl")]) == 2
    assert "no attribute differs in 20 pairs" in capsys.readouterr().err
