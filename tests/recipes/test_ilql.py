"""`train ilql` end to end: values that are exact where they can be known, and a policy that is steered by them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import tiny
from heedful import cli
from heedful.data.collate import collate
from heedful.envs.maze import made
from heedful.learner import load_learner
from heedful.learner.local import Optim
from heedful.losses.values import TokenValues, ilql
from heedful.models.new import train_tokenizer
from heedful.models.save import VALUES_FILE, save_model
from heedful.models.values import add_value_heads, value_outputs
from heedful.worlds import enumerable, two_turns


@pytest.mark.long
def test_a_model_learns_the_exact_values():
    """A tiny Llama with heads on all 512 episodes of the world of two turns, as likely as each other: Q and V of every
    token near the exact sums. Mutation caught: targets that do not follow, a gradient into a target, heads that are
    read a column too far."""
    torch.manual_seed(0)
    world, tau, gamma = two_turns.world(2, uniform=True), 0.8, 0.9
    model = enumerable.tiny_model(0)
    heads = add_value_heads(model, seed=0, beta=1.0)
    batch = collate(world.samples())
    learner = load_learner(
        model, lambda model, b: value_outputs(model, b.tokens, b.mask), Optim(5e-3, 200, "cosine")
    )

    def loss(out, b):
        values = TokenValues(*(out[name] for name in TokenValues.__slots__))
        of = ilql(values, b.step_rewards, b.mask, b.truncated, gamma=gamma, tau=tau)
        return of.q + of.v

    for _ in range(200):
        learner.step(loss, batch)
        heads.follow(0.2)
    out = learner.outputs(batch)
    q, v = world.exact(gamma, tau)
    columns = list(two_turns.COLUMNS)
    for name, exact in (("q1", q), ("q2", q), ("v", v)):
        off = (out[name][:, columns].double() - exact).square().mean().sqrt()
        assert off < 0.25 * exact.std(), name


@pytest.fixture(scope="module")
def walks(tmp_path_factory) -> Path:
    """A small maze's walks, and a model that knows its words."""
    folder = tmp_path_factory.mktemp("walks")
    play = [
        "play",
        "--env",
        "maze",
        "--env-options",
        "size=3",
        "--player",
        "mixed",
        "--limit",
        "80",
    ]
    assert cli.main([*play, "--max-turns", "12", "--out", str(folder / "walks.jsonl")]) == 0
    maze = made(3, 0)
    texts = [maze.told(cell) for cell in maze.cells] + ["north south west east"] * 20
    tok = train_tokenizer(texts * 3, 330)
    save_model(tiny.policy(tok), tok, folder / "model")
    return folder


def test_a_run_writes_a_policy_and_its_values(walks, tmp_path):
    """Losses fall, V lies between what moves cost, and `sample` and `evaluate` are steered unless told otherwise.
    Mutation caught: heads that are not saved, a β that decoding does not read."""
    out = tmp_path / "ilql"
    words = [
        "train",
        "ilql",
        "--model",
        walks / "model",
        "--data",
        walks / "walks.jsonl",
        "--out",
        out,
        "--beta",
        50,
    ]
    words += [
        "--epochs",
        2,
        "--lr",
        "3e-3",
        "--gamma",
        0.9,
        "--quiet",
        "--report-to",
        "none",
        "--polyak",
        0.2,
    ]
    words += ["--max-length", 128, "--on-bad-row", "cut", "--held-out", 0.2]
    assert cli.main(list(map(str, words))) == 0
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss/bc"] < rows[0]["loss/bc"] and rows[-1]["loss/q"] < rows[0]["loss/q"]
    assert -10 < rows[-1]["values/v"] < 0 and {"eval/loss", "eval/loss/q"} <= rows[-1].keys()
    assert (out / VALUES_FILE).exists()

    def sampled(*more: object) -> list[dict]:
        path = tmp_path / "sampled.jsonl"
        how = [
            "--env",
            "maze",
            "--env-options",
            "size=3",
            "--max-tokens",
            4,
            "--limit",
            2,
            "--quiet",
            "--n",
            2,
        ]
        assert cli.main(list(map(str, ["sample", "--model", out, *how, "--out", path, *more]))) == 0
        return [json.loads(line) for line in path.read_text().splitlines()]

    usual = sampled()
    assert usual == sampled("--value-weight", 50) != sampled("--value-weight", 0)
    answer = [
        "evaluate",
        "--model",
        out,
        "--env",
        "maze",
        "--env-options",
        "size=3",
        "--max-tokens",
        4,
        "--limit",
        1,
    ]
    assert cli.main(list(map(str, [*answer, "--out", tmp_path / "e", "--quiet"]))) == 0
    assert "return" in json.loads((tmp_path / "e" / "evaluation.json").read_text())


def test_a_beta_without_values_is_told(walks, tmp_path, capsys):
    words = [
        "sample",
        "--model",
        walks / "model",
        "--env",
        "maze",
        "--out",
        tmp_path / "s.jsonl",
        "--value-weight",
        1,
    ]
    assert cli.main(list(map(str, words))) == 2
    assert "has no values; `heedful train ilql` learns them" in capsys.readouterr().err
