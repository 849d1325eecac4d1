"""`heedful compare rewards`: folds that share no prompt, forms by their own chances, and the same command again."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tiny
from changed import changed
from heedful.cli import main
from heedful.configs.compare_rewards import FORMS, Config
from heedful.data.files import write_rows
from heedful.data.sources import is_held_out
from heedful.recipes import compare_rewards, compare_rewards_trained
from heedful.recipes.compare_rewards_trained import top_1, without_ties
from heedful.rewards.heads import Cautious
from heedful.types import Comparison

ROWS = [
    {"prompt": f"p{i // 2}", "responses": ["good " * (1 + i % 3), f"bad {i}", "worse"], "ranking": [1, 2, 2 + i % 2]}
    for i in range(12)
]  # fmt: skip


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, tok = tmp_path_factory.mktemp("forms"), tiny.tokenizer()
    tiny.policy(tok).save_pretrained(folder / "model")
    tok.save_pretrained(folder / "model")
    write_rows(folder / "rows.jsonl", ROWS)
    return folder


def compare(folder: Path, *flags: object) -> int:
    words = ["compare", "rewards", "--model", folder / "model", "--data", folder / "rows.jsonl"]
    words += ["--folds", 2, "--quiet", "--lr", "1e-3"]
    return main(changed(words, *flags))


@pytest.mark.long
def test_every_form_through_the_command(begun: Path, capsys):
    """All forms predict the same pairs; those that need what the data lack are said to be Bradley–Terry; nothing of the
    models is left. Mutations caught: a form that trains as another, chances of another form, models that stay."""
    forms = ["bradley_terry", "margin", "rao_kupper", "top_1", "regression", "length"]
    assert compare(begun, "--out", begun / "out", "--forms", *forms) == 0
    told = json.loads((begun / "out" / "rewards.json").read_text())
    assert list(told["same_as_bradley_terry"]) == ["margin"]
    assert list(told["forms"]) == [name for name in forms if name != "margin"]
    assert {of["pairs"] for of in told["forms"].values()} == {6 * 2 + 6 * 3}
    assert not [*(begun / "out" / "runs").iterdir()]
    losses = [of["log_loss"] for of in told["forms"].values()]
    assert len({round(x, 9) for x in losses}) == len(losses)
    assert "Calibration of reward models" in (begun / "out" / "rewards.html").read_text()
    assert "predicts" in capsys.readouterr().out
    assert compare(begun, "--out", begun / "out", "--forms", "length", "--seed", 1) == 2
    assert "predictions of other settings" in capsys.readouterr().err
    alone = ["compare", "rewards", "--data", "d.jsonl", "--out", "o", "--forms", "categorical"]
    assert main(alone) == 2 and "needs --model" in capsys.readouterr().err
    assert compare(begun, "--out", begun / "o", "--forms", "lenght") == 2
    assert "'length'" in capsys.readouterr().err


def test_no_fold_learns_its_own_prompts(begun: Path, monkeypatch):
    """Each comparison is predicted once, by what saw no comparison of its prompt, and put back into its place; what is
    predicted already is not asked again. Mutations caught: folds by row, a fold predicted by itself, another order."""
    asked = []

    def fitted(config, name, fold, train, held):
        assert not {c.prompt for c in train} & {c.prompt for c in held} and train and held
        asked.append(fold)
        return [[float(c.responses[1].removeprefix("bad "))] for c in held]

    monkeypatch.setattr(compare_rewards, "fitted", fitted)
    config = Config(
        model="", data=str(begun / "rows.jsonl"), out=begun / "again", folds=2, strength=0.5
    )
    every = compare_rewards.read(config)
    assert all(c.strength == 0.5 for c in every)
    (begun / "again").mkdir()
    folds = [compare_rewards.fold_of(c.prompt, 2) for c in every]
    for _ in range(2):
        said = compare_rewards.predicted(config, "length", every, folds)
        assert said == [[float(i)] for i in range(12)] and sorted(asked) == [0, 1]
    assert all(compare_rewards.same(name, every) is None for name in FORMS)


def test_what_is_not_held_out_is_in_every_fold(begun: Path, capsys):
    """Mutations caught: folds by the hash that also holds prompts out, of which the first then has none; a first fold
    without a prompt, which is number 0 and no reason to refuse."""
    prompts = [f"question {i}" for i in range(300)]
    rest = [prompt for prompt in prompts if not is_held_out(prompt, 1 / 3)]
    sizes = Counter(compare_rewards.fold_of(prompt, 5) for prompt in rest)
    assert len(sizes) == 5 and min(sizes.values()) > len(rest) / 10
    for k in range(2):
        one = next(prompt for prompt in prompts if compare_rewards.fold_of(prompt, 2) == k)
        write_rows(begun / "one.jsonl", [{"prompt": one, "chosen": "a", "rejected": "b"}] * 2)
        words = ("--data", begun / "one.jsonl", "--out", begun / "none", "--folds", 2)
        assert compare(begun, *words, "--forms", "length") == 2
        assert f"fold {2 - k} of 2 has no prompt" in capsys.readouterr().err


def test_what_is_too_long_is_cut_and_asked_about(begun: Path):
    """The prompt's end and the response's beginning; of a comparison of which a cut leaves the same both are. Mutations
    caught: a long prompt that ends the command once a form is trained; a comparison that is left out."""
    tokenizer = tiny.tokenizer()
    long = Comparison("far away " * 50 + "near", ("good", "bad"), (1, 2))
    for c, limit in ((long, 8), (replace(long, responses=("go " * 30, "go " * 31)), 4)):
        group = compare_rewards_trained._sequences(tokenizer, c, limit)
        assert [len(sample.tokens) <= limit for sample in group] == [True, True]
    cut = compare_rewards_trained._sequences(tokenizer, long, 8)
    whole = compare_rewards_trained._sequences(tokenizer, replace(long, prompt="near"), 1000)
    for short, at_length in zip(cut, whole, strict=True):
        assert short.tokens[-len(at_length.tokens) + 1 :] == at_length.tokens[1:]


def test_chances_of_a_distribution_and_of_what_does_not_tie():
    """An ensemble is a mixture; a tie leaves the other outcomes' ratio; the length's slope is found. Mutations caught:
    the mean of scores for that of chances, a threshold that is left out, pairs in one order only."""
    a, b = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.0, 0.0]])
    mixed = Cautious("ensemble", 2).preferred(a, b)
    assert mixed.item() == pytest.approx((1 / (1 + math.exp(-2)) + 1 / (1 + math.exp(1))) / 2)
    normal = Cautious("mean_variance", 2).preferred(a, b)  # σ² = e⁻² and 1
    z = 2 / math.sqrt(math.exp(-2) + 1)
    assert normal.item() == pytest.approx(0.5 * (1 + math.erf(z / math.sqrt(2))))
    graded = Cautious("categorical", 2).preferred(
        torch.tensor([[0.0, 0.0]]), torch.tensor([[30.0, 0.0]])
    )
    assert graded.item() == pytest.approx(0.75)
    d, t = 1.0, math.log(3)
    win, lose = 1 / (1 + math.exp(t - d)), 1 / (1 + math.exp(t + d))
    told = without_ties(t)(torch.tensor([[d]]), torch.tensor([[0.0]]))
    assert told.item() == pytest.approx(win / (win + lose))
    assert top_1(Comparison("p", ("a", "b", "c"), (2, 1, 3))).ranking == (None, 1, None)
    pairs = [Comparison(f"{k}", ("a" * 9, "a"), (1, 2) if k % 4 else (2, 1)) for k in range(40)]
    (chance,) = compare_rewards.by_length(pairs)(Comparison("p", ("b", "b" * 9), (2, 1)))
    assert chance == pytest.approx(0.75, abs=0.01)
