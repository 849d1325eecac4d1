"""The forms of reward models beside Bradley–Terry, through the command."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import tiny
from changed import changed
from heedful.cli import main
from heedful.data.collate import collate
from heedful.data.files import read_rows, write_rows
from heedful.data.tokens import encode_group
from heedful.losses.reward import davidson
from heedful.models.forward import policy_outputs
from heedful.models.load import new_reward_model
from heedful.models.scores import sequence_scores
from heedful.rewards.heads import Cautious
from heedful.training.ensemble import bootstrap, loss_of_heads
from heedful.training.language import language_forward, language_loss
from heedful.types import Outputs, Ranked, Sampling
from heedful.types.tensors import Bootstrapped

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
    return main(changed(words, *flags))


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


def test_an_ensemble_on_one_body_and_a_mean_with_a_variance(begun: Path):
    """Both are labels that plain transformers loads; a spec asks for more caution, and a reward is that much less. The
    heads of an ensemble learn from draws of their own. Mutations caught: one draw for all heads, a draw that
    evaluation sees, caution that is not read, a deviation that begins as noise."""
    write_rows(
        begun / "asked.jsonl", [{"prompt": f"p{i}", "completion": f"good {i}"} for i in range(6)]
    )
    score = [
        "score",
        "--data",
        str(begun / "asked.jsonl"),
        "--quiet",
        "--out",
        str(begun / "scored.jsonl"),
        "--reward",
    ]
    for name, flags, outputs in (
        ("four", ("--heads", "4", "--caution", "1"), 4),
        ("spread", ("--loss", "mean_variance"), 2),
        ("graded", ("--loss", "categorical", "--grades", "5"), 5),
    ):
        assert train(begun, name, *flags, "--lr", "1e-3") == 0
        model = AutoModelForSequenceClassification.from_pretrained(begun / name)
        assert model.config.num_labels == outputs
        told = {}
        for k in (0, 3):
            assert main([*score, f"{begun / name}(k={k})"]) == 0
            told[k] = [row for _, row in read_rows(begun / "scored.jsonl")]
        assert main([*score, str(begun / name)]) == 0
        usual = [row for _, row in read_rows(begun / "scored.jsonl")]
        for free, careful, own in zip(told[0], told[3], usual, strict=True):
            unsure = free["reward_extra"]["uncertainty"]
            assert unsure > 0
            assert careful["reward"] == pytest.approx(free["reward"] - 3 * unsure, abs=1e-4)
            less = unsure if name == "four" else 0.0
            assert own["reward"] == pytest.approx(free["reward"] - less, abs=1e-4)
    rank, draw = torch.tensor([1, 2]), torch.tensor([[[2.0], [0.0]]] * 2)
    fields = {
        n: torch.zeros(2)
        for n in ("mask", "old_logp", "reward", "truncated", "step_rewards", "episode")
    }
    group = {
        "tokens": rank,
        "lengths": rank,
        "group": torch.tensor([0, 0]),
        "strength": torch.zeros(2),
    }
    batch = Bootstrapped(**fields, **group, rank=rank, weight=torch.ones(2), draw=draw)
    out = Outputs({"0": torch.tensor([5.0, 1.0]), "1": torch.tensor([9.0, 9.0])})
    told = loss_of_heads(
        Cautious("ensemble", 2), out, batch, lambda table, *_: table[:, 0] - table[:, 1]
    )
    assert told.tolist() == [(2 * 4 + 0) / 2]
    draws = bootstrap(8, 4, 0)
    assert draws.mean() == pytest.approx(1, abs=0.5) and not torch.allclose(
        draws[:, 0], draws[:, 1]
    )
    assert torch.equal(draws, bootstrap(8, 4, 0))


def test_a_reward_model_that_stays_a_language_model(begun: Path):
    """One pass gives the model's own scores and log-probs; the loss is that of the comparisons plus the coefficient
    times −log p of a token of the best responses; its gradient reaches the embeddings where they are tied, and an
    output layer of its own stays as it is. Mutations caught: worse responses, sums for means, other weights."""
    tok = AutoTokenizer.from_pretrained(begun / "model")
    policy = AutoModelForCausalLM.from_pretrained(begun / "model")
    model = new_reward_model(str(begun / "model"), seed=0)
    rows = [
        replace(s, group=g) for g in (0, 1) for s in encode_group(tok, f"p{g}", ["good one", "bad"])
    ]
    plain = collate(rows)
    given = {f.name: getattr(plain, f.name) for f in fields(plain)}
    ones = torch.ones(4)
    batch = Ranked(**given, rank=torch.tensor([1, 2, 2, 1]), strength=0 * ones, weight=ones)
    out = language_forward(str(begun / "model"), model)(model, batch)
    torch.testing.assert_close(out.score, sequence_scores(model, batch.tokens, batch.lengths))
    logp = policy_outputs(policy, batch.tokens, batch.mask, Sampling()).logp
    best = batch.mask & torch.tensor([True, False, False, True])[:, None]
    torch.testing.assert_close(out["logp"], logp * best)
    wanted = torch.stack([-logp[k][batch.mask[k]].mean() for k in (0, 3)])
    loss = language_loss(out, batch)
    torch.testing.assert_close(loss, wanted)
    (slope,) = torch.autograd.grad(loss.sum(), [model.get_input_embeddings().weight])
    absent = max(set(range(len(slope))) - set(batch.tokens.flatten().tolist()))
    tied = policy.config.tie_word_embeddings
    assert slope[absent].abs().max() > 0 if tied else not slope[absent].any()
    assert train(begun, "pm", "--lm-coef", "0.5") == 0
    (_, first), *_ = read_rows(begun / "pm" / "metrics.jsonl")
    assert first["lm_loss"] > 1
    assert train(begun, "bt") == 0
    (_, alone), *_ = read_rows(begun / "bt" / "metrics.jsonl")
    assert first["loss"] == pytest.approx(alone["loss"] + 0.5 * first["lm_loss"], rel=1e-5)
    assert train(begun, "no", "--lm-coef", "1", "--heads", "2") == 2
