"""`heedful evaluate --calibration`: its numbers are those of the samples beside it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import tiny
from heedful.cli import main
from heedful.evals import calibration
from heedful.models.save import save_model

GOLD = """
import zlib
def gold(prompt, response):
    return 0.0 if zlib.crc32(response.encode()) % 3 else 0.8
"""


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    tok = tiny.tokenizer()
    save_model(tiny.policy(tok), tok, tmp_path / "m")
    (tmp_path / "mine.py").write_text(GOLD)
    (tmp_path / "p.jsonl").write_text("".join(f'{{"prompt": "{k}?"}}\n' for k in range(40)))
    given = [
        "--model",
        str(tmp_path / "m"),
        "--data",
        str(tmp_path / "p.jsonl"),
        "--max-tokens",
        "4",
    ]
    return ["evaluate", *given, "--out", str(tmp_path / "o"), "--quiet", "--calibration"]


def test_numbers_follow_from_the_samples(words: list[str], tmp_path: Path, capsys):
    """Mutation caught: log-probs in the place of probabilities, --right left aside, gold above and not from `right`."""
    assert main([*words, "--scorer", f"{tmp_path}/mine.py:gold", "--right", "0.8"]) == 0
    told = json.loads((tmp_path / "o" / "evaluation.json").read_text())["calibration"]
    rows = [
        json.loads(line) for line in (tmp_path / "o" / "samples.jsonl").read_text().splitlines()
    ]
    right = [row["gold"] == 0.8 for row in rows]
    assert 0 < sum(right) < 40
    whole = calibration.summary([math.exp(row["logprob"]) for row in rows], right)
    token = calibration.summary(
        [math.exp(row["logprob"] / len(row["tokens"])) for row in rows], right
    )
    for name, wanted in (("answer", whole), ("token", token)):
        for key in ("right", "confidence", "ece", "brier", "auroc"):
            assert told[name][key] == pytest.approx(wanted[key], abs=1e-5), (name, key)
    page = (tmp_path / "o" / "calibration.html").read_text()
    assert "40 answers are right" in page and page.count("<svg") >= 2
    assert str(tmp_path / "o" / "calibration.html") in capsys.readouterr().out


def test_refusals(words: list[str], tmp_path: Path, capsys):
    for more, said in (
        ([], "--calibration needs --scorer"),
        (["--scorer", "capitals", "--best-of", "4", "--reward", "length"], "leave --best-of out"),
        (["--scorer", f"{tmp_path}/mine.py:gold", "--limit", "29"], "at least, not 29"),
    ):
        assert main([*words, *more]) == 2
        assert said in capsys.readouterr().err
    bare = [w for w in words if w != "--calibration"]
    assert main([*bare, "--scorer", "capitals", "--right", "0.7"]) == 2
    assert "--right would have no effect" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
