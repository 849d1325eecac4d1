"""Online DPO: rejection sampling follows π*, rounds raise the reward, the reference stays or follows."""

import json
import random
import sys
from pathlib import Path

import pytest
import torch

import tiny
from changed import changed
from heedful.cli import main
from heedful.engine.local import LocalEngine
from heedful.recipes import online
from heedful.training.objective import find_objective
from heedful.types import Sample


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_rejection_sampling_follows_the_optimum(beta):
    """Candidates from π, kept with chance e^{(r − r_max)/β}: π·e^{r/β}/Z, within 4 standard errors.

    Mutation caught: β multiplied, the best reward left out, always the best.
    """
    p, r = torch.tensor([0.4, 0.3, 0.2, 0.1]), torch.tensor([0.0, 0.3, 1.0, 0.7])
    g, rng, n = torch.Generator().manual_seed(0), random.Random(0), 20000
    drawn = torch.multinomial(p, n, replacement=True, generator=g)
    chance = (p * ((r - r.max()) / beta).exp()).sum()
    keep = int(0.9 * float(chance) * n)  # what one pass gives: no candidate is asked twice
    kept = drawn[online.rejection_sample(r[drawn].tolist(), keep, beta, rng)]
    best = torch.softmax(p.log() + r / beta, 0)
    found = torch.bincount(kept, minlength=4) / len(kept)
    assert len(kept) == keep
    assert ((found - best).abs() < 4 * (best * (1 - best) / keep).sqrt()).all()
    assert (best - p).abs().max() > 0.05


def test_rejection_sampling_at_the_ends():
    """β → 0 keeps the best in their order, β → ∞ the first; all of them when all are asked for."""
    rewards, rng = [0.1, 0.9, 0.5, 0.7], random.Random(0)
    assert online.rejection_sample(rewards, 2, 1e-6, rng) == [1, 3]
    assert online.rejection_sample(rewards, 2, 1e9, rng) == [0, 1]
    assert sorted(online.rejection_sample(rewards, 9, 0.1, rng)) == [0, 1, 2, 3]


def config(**changes) -> online.Config:
    return online.Config(model="m", data="d", out=Path("o"), reward="r", **changes)


def samples(*groups: int) -> list[Sample]:
    return [
        Sample((1, i), (False, True), (0.0, 0.0), group=g) for i, g in enumerate(groups, start=2)
    ]


def test_judgments_of_a_round():
    """Within a prompt only; prompts without a difference give none. Mutation caught: ranks across prompts."""
    rows, worth = samples(0, 0, 0, 1, 1), [0.5, 2.0, 0.5, 3.0, 3.0]
    found = online.judge_groups(config(label_smoothing=0.1), find_objective("dpo"), rows, worth, 1)
    assert [j.samples for j in found] == [(rows[1], rows[0]), (rows[1], rows[2])]
    assert found[0].labels == (0.9, 0.9)
    (one,) = online.judge_groups(config(), find_objective("plackett_luce_dpo"), rows, worth, 1)
    assert one.labels == (1.0, 2.0, 2.0)
    c = config(keep=2, accept_beta=1e-6, n=3)
    (pair,) = online.judge_groups(c, find_objective("rso"), samples(0, 0, 0), [1.0, 3.0, 2.0], 1)
    assert [s.tokens[1] for s in pair.samples] == [3, 4]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder, tok = tmp_path_factory.mktemp("models") / "policy", tiny.tokenizer()
    tiny.policy(tok).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """Prompts, and a user's module with a taste for the letter e."""
    (tmp_path / "taste.py").write_text(
        "def vowels(prompt, response):\n    return float(sum(c in 'aeiou' for c in response))\n"
        "def same(prompt, response):\n    return 1.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "prompts.jsonl"
    rows = [{"prompt": [{"role": "user", "content": f"What is {n}?"}]} for n in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    yield path
    sys.modules.pop("taste", None)


def train(model, data, out, *args) -> list[dict]:
    line = ["train", "online_dpo", "--model", model, "--data", data, "--out", out, "--quiet",
            "--report-to", "none", "--batch-size", 6, "--max-tokens", 8,
            "--lr", 1e-2, "--minibatch-size", 12, "--warmup", 0, "--schedule", "constant"]  # fmt: skip
    if "--reward" in args:  # raters see the stump as it is
        line += ["--missing-eos-penalty", 0]
    assert main(changed(line, *args)) == 0
    return [json.loads(row) for row in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "args",
    [
        ("--n", 4, "--beta", 0.1),
        ("--n", 4, "--loss", "kto", "--beta", 0.3),
        ("--n", 8, "--keep", 4, "--loss", "rso", "--beta", 0.3),
    ],
)
def test_rounds_raise_the_reward(args, model, data, tmp_path):
    """Mutation caught: pairs the wrong way round, the reference moving along, a loss on other rows than sampled."""
    found = train(model, data, tmp_path / "out", "--steps", 12, "--reward", "taste:vowels", *args)
    early, late = (sum(r["reward"] for r in part) / 4 for part in (found[:4], found[-4:]))
    assert late > early + 0.5
    assert found[0]["kl/seq"] == pytest.approx(0, abs=1e-4) and found[-1]["kl/seq"] > 0.1
    assert found[0].keys() >= {
        "loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen",
        "logps/rejected", "judgments", "completions/mean_length", "eos_rate", "policy/entropy",
    }  # fmt: skip
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_a_refreshed_reference_is_the_policy_of_the_last_round(model, data, tmp_path):
    """KL at a round's beginning: 0 in the round after a refresh, above 0 in the next.

    Mutation caught: a reference that shares the policy's weights (always 0), one that is never renewed.
    """
    found = train(
        model,
        data,
        tmp_path / "out",
        "--steps",
        5,
        "--reward",
        "taste:vowels",
        "--refresh-reference",
        2,
    )
    kl = [row["kl/seq"] for row in found]
    assert max(abs(kl[0]), abs(kl[2]), abs(kl[4])) < 1e-4
    assert min(abs(kl[1]), abs(kl[3])) > 1e-3


def test_raters_judge_and_a_loss_without_reference(model, data, tmp_path):
    """A panel with this taste; nothing to compare the policy with, so no KL. Ties give nothing to learn."""
    found = train(
        model, data, tmp_path / "out", "--steps", 2, "--judge", "taste:vowels", "--loss", "simpo",
        "--beta", 2, "--n", 3, "--pairs", "best_worst",
    )  # fmt: skip
    assert found[0]["judgments"] == 6 and "kl/seq" not in found[0] and "reward" not in found[0]
    tied = train(model, data, tmp_path / "tied", "--steps", 1, "--reward", "taste:same")
    assert tied[0]["judgments"] == 0 and "loss" not in tied[0]
    assert (tmp_path / "tied" / "model.safetensors").exists()


def test_the_engine_gets_the_weights_of_each_round(model, data, tmp_path, monkeypatch):
    """The embedded engine shares them anyway, others do not. Mutation caught: no `load`, or of another version."""
    versions, load = [], LocalEngine.load

    async def recorded(self, weights, version):
        versions.append(version)
        await load(self, weights, version)

    monkeypatch.setattr(LocalEngine, "load", recorded)
    train(model, data, tmp_path / "out", "--steps", 3, "--reward", "taste:vowels")
    assert versions == [0, 1, 2]


def test_the_same_seed_gives_the_same_rounds(model, data, tmp_path):
    a, b = (
        train(model, data, tmp_path / name, "--steps", 2, "--reward", "taste:vowels")
        for name in "ab"
    )
    assert [{**r, "seconds": 0} for r in a] == [{**r, "seconds": 0} for r in b]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "either --reward or --judge"),
        (("--reward", "r", "--judge", "j"), "either --reward or --judge"),
        (("--reward", "r", "--n", "1"), "at least 2 responses"),
        (("--reward", "r", "--temperature", "0"), "--temperature must be above 0"),
        (("--reward", "r", "--keep", "3"), "from 2 to --n"),
        (("--judge", "j", "--keep", "2"), "--keep needs --reward"),
        (("--reward", "r", "--loss", "simpo", "--refresh-reference", "1"), "reads no reference"),
        (("--reward", "r", "--steps", "0"), "must be at least 1"),
        (("--reward", "r", "--loss", "kot"), "did you mean 'kto'?"),
        (("--reward", "r", "--accept-beta", "1"), "--accept-beta would have no effect"),
        (("--judge", "j", "--missing-eos-penalty", "2"), "because there is no --reward"),
    ],
)
def test_bad_input(args, words, model, data, tmp_path, capsys):
    out = tmp_path / "out"
    line = ["train", "online_dpo", "--model", str(model), "--data", str(data), "--out", str(out)]
    assert main([*line, *args]) == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1]
    assert not out.exists()
