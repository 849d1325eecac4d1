"""Canaries: exposure by hand, what is planted, and a model that has learned a secret by heart."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch

import tiny
from heedful.cli import main
from heedful.data.files import read_rows, write_rows
from heedful.evals.canaries import Canary, alternatives, drawn, exposure


def test_exposure_by_hand():
    """Of 8 secrets the likeliest has 3 bits, the second 2, one that no model tells from others about 1; chance gives
    1.44. Mutations caught: a rank from 0, equal ones that rank first, natural logarithms, the unlikeliest first."""
    assert exposure(-1.0, [-2.0] * 7) == 3 and exposure(-1.0, [-0.5, *[-2.0] * 6]) == 2
    assert exposure(-1.0, [-1.0] * 7) == pytest.approx(3 - math.log2(4.5))
    ranks = range(1024)
    mean = sum(exposure(-k, [-j for j in ranks if j != k]) for k in ranks[::32]) / 32
    assert mean == pytest.approx(math.log2(math.e), abs=0.3)


def test_alternatives_are_all_others_or_some():
    """Mutations caught: the secret among its alternatives, leading zeros lost, the same one twice."""
    canary = Canary("The number of X is", " 07", 1)
    assert sorted(alternatives(canary, 99, 0)) == [f" {k:02d}" for k in range(100) if k != 7]
    some = alternatives(canary, 40, 0)
    assert len({*some}) == 40 and " 07" not in some and some != alternatives(canary, 40, 1)
    made = drawn(3, 6, (0, 2), 0)
    assert Counter(c.times for c in made) == {0: 3, 2: 3} and len({c.prefix for c in made}) == 6
    assert all(len(c.secret) == 7 for c in made)


def test_what_is_learned_by_heart_is_exposed(tmp_path: Path, capsys, monkeypatch):
    """Among demonstrations, pairs and texts; nothing else is changed. A secret that stands eight times in what a model
    overfits is the likeliest of all, with all log₂ 10 bits, exactly as the model's own log-probs rank it. Mutations
    caught: canaries planted another number of times, secrets of others, log-probs of the prompt."""
    monkeypatch.chdir(tmp_path)
    tok = tiny.tokenizer()
    model = tiny.policy(tok)
    model.save_pretrained("model")
    tok.save_pretrained("model")
    rows = [{"prompt": f"p{k}", "completion": f" c{k}"} for k in range(6)]
    write_rows("d.jsonl", rows)
    words = ["canaries", "--canaries", "secrets.json"]
    plant = [
        *words,
        "--data",
        "d.jsonl",
        "--out",
        "planted.jsonl",
        "--digits",
        "1",
        "--number",
        "2",
    ]
    assert main([*plant, "--times", "0", "8"]) == 0
    planted = [row for _, row in read_rows("planted.jsonl")]
    secrets = json.loads(Path("secrets.json").read_text())["canaries"]
    added = Counter((r["prompt"], r["completion"]) for r in planted if r not in rows)
    assert added == {(c["prefix"], c["secret"]): 8 for c in secrets if c["times"]}
    assert [row for row in planted if row in rows] == rows
    capsys.readouterr()

    def measured(name: str) -> dict:
        assert main([*words, "--model", name]) == 0
        return json.loads(capsys.readouterr().out)

    before = measured("model")
    model.eval()
    for canary, told in zip(secrets, before["canaries"], strict=True):
        own = []
        for digit in range(10):
            ids = (
                tok(canary["prefix"])["input_ids"]
                + tok(f" {digit}")["input_ids"]
                + [tok.eos_token_id]
            )
            start = len(tok(canary["prefix"])["input_ids"])
            logp = model(torch.tensor([ids])).logits[0].log_softmax(-1).detach()
            own.append(sum(float(logp[t - 1, ids[t]]) for t in range(start, len(ids))))
        mine = own.pop(int(canary["secret"]))
        assert told["exposure"] == pytest.approx(exposure(mine, own))
    sft = [
        "train",
        "sft",
        "--model",
        "model",
        "--data",
        "planted.jsonl",
        "--out",
        "sft",
        "--lr",
        "1e-2",
        "--quiet",
    ]
    assert (
        main(
            [*sft, "--epochs", "20", "--batch-size", "11", "--held-out", "0", "--report-to", "none"]
        )
        == 0
    )
    capsys.readouterr()
    after = measured("sft")
    by = {of["times"]: of for of in after["by_times"]}
    assert by[8]["exposure"] == after["most"] == math.log2(10) and by[8]["likeliest"] == 1
    assert by[0]["exposure"] < math.log2(10)
    for row, said in (
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "chosen"),
        ({"text": "t"}, "text"),
    ):
        write_rows("other.jsonl", [row] * 2)
        assert main([*words, "--data", "other.jsonl", "--out", "o.jsonl", "--times", "1"]) == 0
        assert sum(said in r and r != row for _, r in read_rows("o.jsonl")) == 8
    write_rows("other.jsonl", [{"a": 1}])
    for flags, why in (
        (["--data", "other.jsonl", "--out", "o.jsonl"], "canaries are planted among"),
        (["--out", "o.jsonl"], "needs --data and --out"),
        (["--model", "model", "--digits", "3"], "measures what was planted"),
    ):
        assert main([*words, *flags]) == 2
        assert why in capsys.readouterr().err
    assert main(["canaries", "--canaries", "d.jsonl", "--model", "model"]) == 2
