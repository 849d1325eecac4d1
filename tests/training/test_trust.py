"""What judgments count: a weight is so many copies, raters are fitted and written down, and what cannot be is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import tiny
from heedful import registry
from heedful.cli import main
from heedful.data.files import read_rows, write_rows
from heedful.data.tokens import encode_group
from heedful.errors import UserError
from heedful.losses import reward as losses
from heedful.ranks import ALONE
from heedful.raters.reliability import Collected
from heedful.training import trust
from heedful.training.judgments import as_batch, loss_of
from heedful.training.kept import Judgment
from heedful.training.objective import find_objective
from heedful.training.rankings import as_table, rank_batch
from heedful.training.trust import Raters
from heedful.types import Comparison, LabelledResponse, Outputs

TOK = tiny.tokenizer()
COPIES = (3, 0, 1, 2)
ANSWERS = [[" 4", " five"], [" It is four.", " 5"], [" four", " I do not know."], [" 4!", " 44"]]
NAMES = {"PairLogps": (1.0, 1.0), "RankedLogps": (1.0, 2.0)}


def judged(labels: tuple[float, ...]) -> list[Judgment]:
    rows = [encode_group(TOK, f"What is {i} + 2?", a) for i, a in enumerate(ANSWERS)]
    return [Judgment(tuple(pair[: len(labels)]), labels) for pair in rows]


def weighed(judgments: list[Judgment]) -> tuple[list[Judgment], trust.Trust]:
    """By a column of weights."""
    raters = Raters("column")
    said = [
        one
        for n, j in zip(COPIES, judgments, strict=True)
        for one in raters.signed(
            Comparison("p", ("a", "b"), (1, 2), weight=float(n)), [j], learned=True
        )
    ]
    return said, raters.settled(Path(), ALONE)


def copied(judgments: list[Judgment]) -> list[Judgment]:
    return [j for n, j in zip(COPIES, judgments, strict=True) for _ in range(n)]


@pytest.mark.parametrize("name", registry.entries("loss"))
def test_a_weight_is_so_many_copies(name: str):
    """Exactly, for the mean of every loss. Mutation caught: a weight on one side of a pair, on a row in place of a
    group, a mean that is not 1, a loss that reads no weight."""
    objective = find_objective(name)
    if objective.reads == "LabelledLogps":
        both = judged((1.0,)), judged((0.0,))
        judgments = [*both[0][:2], *both[1][2:]]
    else:
        judgments = judged(NAMES[objective.reads])
    logp_of: dict[tuple[int, ...], float] = {}

    def mean(some: list[Judgment], by: trust.Trust) -> torch.Tensor:
        batch = as_batch(objective.reads, some, {}, by)
        flat = [s for j in some for s in j.samples]
        each = [logp_of.setdefault(s.tokens, -0.1 - 0.07 * len(logp_of) ** 2) for s in flat]
        out = Outputs(logp=batch.mask * torch.tensor(each)[:, None])
        return loss_of(objective)(out, batch).value.mean()

    alike = mean(judgments, trust.ALIKE)
    weights, copies = mean(*weighed(judgments)), mean(copied(judgments), trust.ALIKE)
    torch.testing.assert_close(weights, copies, rtol=1e-5, atol=1e-6)
    assert abs(alike - copies) > 1e-5  # or the test could not fail


@pytest.mark.parametrize("name", ["bradley_terry", "plackett_luce"])
def test_a_weight_is_so_many_copies_for_reward_models(tmp_path: Path, name: str):
    """The first step's loss and gradient, through the command; a loss that divides by one count. Mutation caught: a
    weight that is read and not used; means over the batch's weights in place of the data's."""
    model = tmp_path / "model"
    tiny.policy(TOK).save_pretrained(model)
    TOK.save_pretrained(model)
    rows = [
        {"prompt": f"What is {i} + 2?", "chosen": a, "rejected": b, "weight": n}
        for i, (n, (a, b)) in enumerate(zip(COPIES, ANSWERS, strict=True))
    ]
    write_rows(tmp_path / "weights.jsonl", rows)
    write_rows(tmp_path / "copies.jsonl", (r for r in rows for _ in range(r["weight"])))
    first = {}
    for file, size in (("weights", "4"), ("copies", "6")):
        out = tmp_path / f"{name}-{file}"
        data = str(tmp_path / f"{file}.jsonl")
        flags = [
            "--data",
            data,
            "--eval-data",
            data,
            "--out",
            str(out),
            "--batch-size",
            size,
            "--loss",
            name,
        ]
        flags += ["--model", str(model), "--report-to", "none", "--quiet", "--weights", "column"]
        if file == "copies":
            flags = flags[:-2]
        assert main(["train", "reward", *flags]) == 0
        (_, metrics), *_ = read_rows(out / "metrics.jsonl")
        first[file] = [metrics["loss"], metrics["grad_norm"]]
    assert first["weights"] == pytest.approx(first["copies"], rel=1e-4)
    table = rank_batch(*weighed(judged((1.0, 2.0))))
    scores, rank, _ = as_table(torch.arange(8.0), table)
    twice = [n * 4 / sum(COPIES) for n in COPIES for _ in range(2)]
    assert table.weight.tolist() == pytest.approx(twice)
    assert getattr(losses, name)(scores, rank, torch.zeros(4)).shape == (4,)


def said(rater: str | None, i: int, right: bool) -> Comparison:
    texts = f"good {'x ' * (i % 3)}", f"bad {'x ' * (i % 4)}"
    return Comparison(f"p{i % 60}", texts, (1, 2) if right else (2, 1), rater=rater)


def crowd() -> list[Comparison]:
    people = [*(f"good{k}" for k in range(4)), "troll", None]
    return [said(who, i, who != "troll") for i in range(60) for who in people]


def collected(rows: list[Comparison]) -> Raters:
    raters = Raters("raters")
    for row in rows:
        raters.signed(row, [Judgment((), ())], learned=True)
    return raters


def test_raters_are_fitted_once_and_written_down(tmp_path: Path, monkeypatch, caplog):
    """Mutation caught: a troll who counts, somebody nameless who does not, a run that goes on with another fit than it
    began with, or with that of other rows."""
    raters = collected(crowd())
    by = raters.settled(tmp_path, ALONE)
    weight = {name: float(by.by_rater[n]) for name, n in raters.number.items()}
    assert weight["troll"] == 0 and min(weight[f"good{k}"] for k in range(4)) > 0.9
    note = by.notes[0]
    assert note["without_rater"] == 60 and note["silent"] == 1 and note["judgments"] == 360
    assert "60 of 360 judgments have no rater and count 1" in caplog.text
    assert float(by.by_rater[-1]) == pytest.approx(1 / note["mean"], rel=1e-4)
    (tmp_path / trust.FILE).write_text(json.dumps(by.files[trust.FILE]))
    monkeypatch.setattr(trust, "fitted", lambda *_: pytest.fail("fitted again"))
    again = collected(crowd()).settled(tmp_path, ALONE)
    assert torch.equal(again.by_rater, by.by_rater) and again.files == by.files
    with pytest.raises(pytest.fail.Exception, match="fitted again"):
        collected(crowd()[1:]).settled(tmp_path, ALONE)


def test_what_is_held_out_is_not_fitted_to():
    """Mutation caught: held-out judgments in the fit or in the mean."""
    raters = Raters("raters")
    for row in crowd():
        raters.signed(row, [Judgment((), ())], learned=row.prompt != "p7")
    fitted_to = Collected()
    for row in crowd():
        if row.prompt != "p7":
            fitted_to.add(row)
    assert torch.equal(raters.collected.pairs().better, fitted_to.pairs().better)
    assert raters.judgments == 59 * 6


def test_a_file_of_weights(tmp_path: Path, caplog):
    """`heedful raters --out` and by hand, also for responses that were judged one by one. Mutation caught: a rater who
    is not in the file counts nothing; a version that says nothing of the numbers."""
    file = tmp_path / "w.json"
    file.write_text('{"weights": {"ada": 0.5, "bob": 0}}')
    raters = Raters(str(file), reads_comparisons=False)
    for who in ("ada", "bob", "eve"):
        raters.signed(LabelledResponse("p", "r", True, who), [Judgment((), ())], learned=True)
    by = raters.settled(tmp_path, ALONE)
    assert by.by_rater.tolist() == pytest.approx([1.0, 0.0, 2.0, 2.0])
    assert "1 of 3 raters have no weight there" in caplog.text
    version = by.notes[0]["version"]
    file.write_text('{"weights": {"ada": 0.6, "bob": 0}}')
    assert Raters(str(file)).file.version != version  # type: ignore[union-attr]
    for told, why in (
        ("[]", "holds no weights"),
        ('{"weights": {"ada": -1}}', "the weight of 'ada'"),
        ("{", "as JSON"),
    ):
        file.write_text(told)
        with pytest.raises(UserError, match=why):
            Raters(str(file))


def test_what_cannot_be_weighed_is_one_sentence(tmp_path: Path, capsys):
    """Exit code 2, nothing written. Mutation caught: a word that is taken for a file and found to be none too late."""
    write_rows(tmp_path / "d.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "b", "weight": 0}])
    flags = ["--model", "m", "--data", str(tmp_path / "d.jsonl"), "--out", str(tmp_path / "out")]
    for command, weights, why in (
        ("dpo", "rater", "did you mean 'raters'"),
        ("reward", "none.json", "expected equal, raters, column or a file"),
        ("kto", "raters", "fitted to comparisons"),
    ):
        assert main(["train", command, *flags, "--weights", weights]) == 2
        assert why in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    raters = Raters("column")
    zero = Comparison("p", ("a", "b"), (1, 2), weight=0.0)
    raters.signed(zero, [Judgment((), ())], learned=True)
    with pytest.raises(UserError, match="nothing to learn from"):
        raters.settled(tmp_path, ALONE)
    with pytest.raises(UserError, match="in the training part no comparison has both a rater"):
        collected([said(None, 0, True)]).settled(tmp_path, ALONE)
