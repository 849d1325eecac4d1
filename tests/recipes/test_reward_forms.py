"""The forms of reward models beside Bradley–Terry, through the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import tiny
from heedful.cli import main
from heedful.data.files import read_rows, write_rows
from heedful.data.tokens import encode_group
from heedful.losses.reward import davidson

ROWS = [
    {
        "prompt": f"p{i}",
        "responses": [f"good {i % 5}", f"bad {i % 7}"],
        "ranking": [1, 1 + (i % 4 > 0)],
        "strength": 0.5,
    }
    for i in range(8)
]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, tok = tmp_path_factory.mktemp("forms"), tiny.tokenizer()
    tiny.policy(tok).save_pretrained(folder / "model")
    tok.save_pretrained(folder / "model")
    write_rows(folder / "rows.jsonl", ROWS)
    return folder


def train(folder: Path, name: str, *flags: str) -> int:
    data, out = folder / "rows.jsonl", folder / name
    words = ["train", "reward", "--model", folder / "model", "--data", data, "--eval-data", data]
    words += ["--out", out, "--report-to", "none", "--quiet", "--batch-size", "8", "--lr", "0"]
    return main([str(word) for word in (*words, *flags)])


def test_a_model_with_ties_is_one_that_others_load(begun: Path):
    """The chance of a tie is the data's, and a score one number. Mutations caught: ties that are counted by response, a
    parameter that the loss does not get, a second output."""
    assert train(begun, "ties", "--loss", "davidson") == 0
    ((_, note),) = read_rows(begun / "ties" / "record.jsonl")
    assert note["ties"] == 0.25
    (_, first), *_ = read_rows(begun / "ties" / "metrics.jsonl")
    evaluated = json.loads((begun / "ties" / "evaluation.json").read_text())
    assert first["loss"] == pytest.approx(evaluated["loss"], abs=1e-4) and evaluated["pairs"] == 6
    model = AutoModelForSequenceClassification.from_pretrained(begun / "ties").eval()

    def score(tokens: tuple[int, ...]) -> float:
        (one,) = model(torch.tensor([tokens])).logits[0]
        return one.item()

    tok = tiny.tokenizer()
    of_rows = [encode_group(tok, row["prompt"], row["responses"]) for row in ROWS]
    scores = torch.tensor([[score(s.tokens) for s in two] for two in of_rows])
    ranks = torch.tensor([row["ranking"] for row in ROWS])
    assert first["loss"] == pytest.approx(float(davidson(scores, ranks, 0.25).mean()), abs=1e-4)


def test_what_a_form_does_not_read_is_refused(begun: Path, capsys):
    """Exit code 2 and no run. Mutation caught: --ties beside a loss without ties is ignored; a row without a strength
    is one of strength 0."""
    write_rows(begun / "rows.jsonl", [{**ROWS[0], "strength": None}, *ROWS[1:]])
    for flags, why in (
        (("--ties", "0.1"), "--ties would have no effect"),
        (("--loss", "rao_kupper", "--margin", "1"), "--margin would have no effect"),
        (("--loss", "davidson", "--ties", "1"), "--ties"),
        (("--loss", "soft_bradley_terry"), "needs a strength of each comparison; of 16"),
    ):
        assert train(begun, "none", *flags) == 2
        assert why in capsys.readouterr().err
    assert not (begun / "none").exists()
    write_rows(begun / "rows.jsonl", ROWS)
