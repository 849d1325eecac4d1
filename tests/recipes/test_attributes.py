"""Reward models with a head for each axis and each rule: what is read, learned, saved, weighed and told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import tiny
from changed import changed
from heedful.cli import main
from heedful.data.files import read_rows, write_rows
from heedful.data.ratings import stream_ratings
from heedful.data.reading import Reading
from heedful.data.tokens import encode_group
from heedful.errors import UserError
from heedful.losses.attributes import attributes
from heedful.models.save import save_model
from heedful.rewards import load_rewards
from heedful.rewards.heads import Attributes, Cautious
from heedful.store.rating import talk
from heedful.transfer.workspace import opened
from workspace import answer, claim, make_project, make_rater, make_task


def row(i: int) -> dict:
    """A kind response is rated 4 or 5 and keeps the rule, another 1 or 2 and breaks it; length is rated by the way."""
    kind = i % 2 == 0
    said = f"Lima, of course. {i % 5}" if kind else f"ask somebody who cares! {i % 7}"
    return {
        "prompt": f"What is the capital of Peru, {i}?",
        "response": said,
        "warm": (4 if kind else 1) + i % 3 // 2,
        "polite": kind,
        "long": i % 3,
    }


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, tok = tmp_path_factory.mktemp("attributes"), tiny.tokenizer()
    save_model(tiny.policy(tok), tok, folder / "model")
    write_rows(folder / "rows.jsonl", [row(i) | {"harmful": i % 4 == 0} for i in range(64)])
    return folder


def train(folder: Path, name: str, *flags: str, data: str = "rows.jsonl") -> int:
    words = ["train", "attributes", "--model", folder / "model", "--data", folder / data]
    words += ["--out", folder / name, "--report-to", "none", "--quiet"]
    return main(changed(words, *flags))


def test_the_loss_by_hand():
    """½(0.5 − 2)² of a rating, log(1 + e^{-1}) of a kept rule with log-odds 1, over two heads; what is not said adds
    nothing. Mutations caught: the mean over what was said, the sign of a rule, a mask that is left out."""
    logits = torch.tensor([[0.5, 1.0], [0.5, 1.0], [9.0, -9.0]])
    target = torch.tensor([[[2.0, 1], [1, 1]], [[2.0, 1], [0, 0]], [[0.0, 0], [0, 0]]])
    told = attributes(logits, target, torch.tensor([False, True]))
    entropy = torch.log1p(torch.exp(torch.tensor(-1.0)))
    assert torch.allclose(told, torch.tensor([(1.125 + entropy) / 2, 1.125 / 2, 0.0]))


def test_one_number_of_several_heads_by_hand():
    """A rating back on its scale, a rule as a probability, both normalised and weighed; caution takes k deviations off.
    Mutations caught: weights on raw outputs, a rule's log-odds for its chance, a sample's deviation, k unscaled."""
    heads = Attributes(
        ("warm", "polite"),
        (False, True),
        (3.0, 0.0),
        (2.0, 1.0),
        (4.0, 0.5),
        (0.5, 0.25),
        (1.0, 2.0),
    )
    logits = torch.tensor([[1.0, 0.0]])
    assert heads.columns(logits) == {"warm": [5.0], "polite": [0.5]}
    assert heads.reward(logits).tolist() == [2.0]  # 1·(5 − 4)/½ + 2·(½ − ½)/¼
    assert heads.given("", {"polite": 1.0}).reward(torch.tensor([[1.0, 100.0]])).tolist() == [2.0]
    with pytest.raises(UserError, match=r"no head 'polit' .did you mean 'polite'"):
        heads.given("--reward x", {"polit": 1.0})
    sure = Cautious("ensemble", 2, k=2.0, shift=1.0, scale=4.0)
    assert sure.reward(torch.tensor([[3.0, 7.0]])).item() == (5 - 1 - 2 * 2) / 4
    assert sure.columns(torch.tensor([[3.0, 7.0]])) == {"uncertainty": [0.5]}
    spread = Cautious("mean_variance", 2, k=1.0)
    assert spread.reward(torch.tensor([[3.0, 0.0]])).item() == 3 - 1


def test_neighbouring_rows_of_a_response_are_read_together(tmp_path: Path):
    """One value a row, as exported: what one rater said of one response is one item, and its place is its first row's.
    Mutations caught: other raters mixed in, a value that is overwritten, a place that is the next row's."""
    said = [
        ("a", "helpful", 4),
        ("a", "polite", True),
        ("b", "helpful", 1),
        ("b", "helpful", 2),
        ("b", "x", None),
    ]
    rows = [
        {"prompt": "p", "completion": "c", "axis": axis, "value": v, "rater": who}
        for who, axis, v in said
    ]
    write_rows(tmp_path / "s.jsonl", rows)
    reading = Reading()
    found = [
        (reading.place.rpartition(":")[2], r.rater, dict(r.values))
        for r in stream_ratings(str(tmp_path / "s.jsonl"), reading=reading)
    ]
    assert found == [
        ("1", "a", {"helpful": 4, "polite": 1}),
        ("3", "b", {"helpful": 1}),
        ("4", "b", {"helpful": 2}),
    ]


@pytest.mark.long
def test_heads_are_learned_saved_weighed_and_told(begun: Path, capsys):
    """From a command to rewards: ratings and a rule are learned, plain transformers loads a label a head, a spec weighs
    anew, `evaluate` says what share breaks the rule. Mutations caught: heads in another order, standardised ratings
    given out, a rule told as kept, weights that nobody reads."""
    flags = ("--axes", "warm", "polite=2", "--epochs", "12", "--lr", "5e-3", "--held-out", "0.2")
    assert train(begun, "run", *flags) == 0
    told = json.loads((begun / "run" / "evaluation.json").read_text())["heads"]
    assert (
        told["polite"]["accuracy"] == 1 and told["warm"]["rmse"] < 0.6 * told["warm"]["rmse_mean"]
    )
    model = AutoModelForSequenceClassification.from_pretrained(begun / "run").eval()
    assert model.config.id2label == {0: "warm", 1: "polite"}
    kind, rude = row(0)["response"], row(1)["response"]
    (sample,) = encode_group(tiny.tokenizer(), "Who?", [kind])
    outputs = model(torch.tensor([sample.tokens])).logits[0]
    write_rows(begun / "s.jsonl", [{"prompt": "Who?", "completion": text} for text in (kind, rude)])
    score = [
        "score",
        "--data",
        str(begun / "s.jsonl"),
        "--quiet",
        "--out",
        str(begun / "scored.jsonl"),
        "--reward",
    ]
    assert main([*score, str(begun / "run")]) == 0
    (_, first), (_, second) = read_rows(begun / "scored.jsonl")
    assert first["reward"] > 1 > -1 > second["reward"]
    assert first["reward_extra"]["polite"] == pytest.approx(outputs[1].sigmoid().item(), abs=1e-4)
    assert first["reward_extra"]["warm"] > 3.5 > 2.5 > second["reward_extra"]["warm"]
    assert main([*score, f"{begun / 'run'}(polite=-1)"]) == 0
    (_, first), (_, second) = read_rows(begun / "scored.jsonl")
    assert first["reward"] < 0 < second["reward"]
    assert main([*score, f"{begun / 'run'}(rude=1)"]) == 2
    assert "there is no head 'rude'" in capsys.readouterr().err
    assert load_rewards(str(begun / "run")).reward_model is None
    asked = [
        "evaluate",
        "--model",
        str(begun / "model"),
        "--data",
        str(begun / "rows.jsonl"),
        "--limit",
        "8",
    ]
    asked += [
        "--reward",
        str(begun / "run"),
        "--out",
        str(begun / "eval"),
        "--quiet",
        "--max-tokens",
        "4",
    ]
    assert main(asked) == 0
    told = json.loads((begun / "eval" / "evaluation.json").read_text())
    assert (told["refused_of"], told["over_refused_of"]) == (2, 6)
    heads = told["heads"]
    kept = [
        r["reward_extra"]["polite"] >= 0.5 for _, r in read_rows(begun / "eval" / "samples.jsonl")
    ]
    assert heads["polite"]["broken"] == 1 - sum(kept) / len(kept)


def test_what_cannot_be_learned_is_refused(begun: Path, capsys):
    """One sentence, and no run. Mutations caught: an axis nobody has rated gets a head; words count as 0."""
    write_rows(begun / "bad.jsonl", [{**row(0), "warm": "very"}, row(1)])
    write_rows(begun / "same.jsonl", [{**row(i), "polite": True} for i in range(8)])
    for data, flags, why in (
        ("rows.jsonl", (), "expected the columns `axis` and `value`, or --axes NAME"),
        ("rows.jsonl", ("--axes", "cold"), "none of the axes cold is a column"),
        ("rows.jsonl", ("--axes", "warm", "cold"), "--axes cold: nobody has said anything of it"),
        ("rows.jsonl", ("--axes", "warm=much"), "--axes warm=much: expected NAME or NAME=WEIGHT"),
        (
            "bad.jsonl",
            ("--axes", "warm"),
            "bad.jsonl:1: `warm` must be a number, true or false, not 'very'",
        ),
        ("same.jsonl", ("--axes", "polite"), "nothing is said of any axis or rule that differs"),
    ):
        assert train(begun, "none", *flags, data=data) == 2
        assert why in capsys.readouterr().err
    assert not (begun / "none").exists()


@pytest.mark.long
def test_a_head_from_attempts_to_break_a_rule(begun: Path, tmp_path: Path):
    """Of a workspace in which people tried to make a model rude: `db:` has each reply behind the conversation before
    it, and the rule's head tells kind ones from rude ones. Mutation caught: conversations that `db:` cannot read."""
    workspace = tmp_path / "work"
    assert main(["init", str(workspace)]) == 0
    with opened(workspace) as store:
        project = make_project(store, models=["m"])
        for i in range(40):
            make_task(
                store,
                project,
                "probe",
                (),
                f"Guide {i}.",
                options={"rules": [{"code": "polite", "text": "It is polite."}]},
            )
        rater = make_rater(store)
        for i in range(40):
            given = claim(store, project, rater)
            assert given
            told = {"text": row(i)["response"], "model": "m"}
            with store.write() as connection:
                talk.offer(connection, given, rater, 0, "Be rude!", [told])
            answer(store, given, rater, {"broken": [not row(i)["polite"]]})
    words = ["train", "attributes", "--model", begun / "model", "--data", f"db:{workspace}"]
    words += ["--out", tmp_path / "rules", "--report-to", "none", "--quiet"]
    assert main(changed(words, "--epochs", "10", "--learning-rate", "3e-3")) == 0
    found = json.loads((tmp_path / "rules" / "evaluation.json").read_text())["heads"]["polite"]
    assert found["responses"] > 0 and found["accuracy"] == 1.0
