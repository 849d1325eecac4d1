"""Alarms: silent in a sound run, plain advice in the same run with the learning rate × 20."""

import json
from pathlib import Path

import pytest

import tiny
from heedful.cli import main
from heedful.data.sources import write_rows
from heedful.evals.alarms import ALARMS, Alarms

# One bad metric for each alarm; `first` is what the run began with.
TRIGGERS = {
    "clipped": ({}, {"policy/clipfrac": 0.62}, "62 % of ratios clipped"),
    "moved_too_far": ({}, {"policy/kl_update": 4.0, "policy/ess": 0.9}, "4 nats a response"),
    "entropy_gone": ({"policy/entropy": 1.0}, {"policy/entropy": 0.05}, "repeats itself"),
    "entropy_exploded": ({"policy/entropy": 0.5}, {"policy/entropy": 2.0}, "noise"),
    "far_from_reference": ({}, {"kl/seq": 20.0, "kl/target": 6.0}, "three times its target of 6"),
    "critic_blind": ({}, {"value/explained_variance": -2.0}, "less than a constant"),
    "cut_off": ({}, {"eos_rate": 0.2}, "80 % of responses were truncated"),
    "longer": ({"completions/mean_length": 10.0}, {"completions/mean_length": 30.0}, "from 10 to 30"),
    "nothing_to_compare": ({}, {"groups/equal": 0.9}, "90 % of groups"),
    "both_fall": ({"logps/chosen": -30.0}, {"logps/chosen": -90.0}, "from -30 to -90"),
}  # fmt: skip


@pytest.mark.parametrize("alarm", ALARMS, ids=lambda a: a.__name__)
def test_each_alarm_says_its_number_once(alarm):
    first, bad, words = TRIGGERS[alarm.__name__]
    alarms = Alarms(pause=10)
    assert alarms.look(1, first) == []
    (sentence,) = alarms.look(20, bad)
    assert words in sentence and ": " in sentence
    assert alarms.look(21, bad) == []
    assert len(alarms.look(30, bad)) == 1


def test_metrics_that_a_recipe_does_not_have_raise_no_alarm():
    alarms = Alarms()
    assert all(alarms.look(step, {"loss": 1.0}) == [] for step in range(1, 30))


@pytest.fixture(scope="module")
def at(tmp_path_factory) -> Path:
    at = tmp_path_factory.mktemp("alarms")
    tok = tiny.tokenizer()
    tiny.policy(tok).save_pretrained(at / "lm")
    tok.save_pretrained(at / "lm")
    write_rows(
        at / "prompts.jsonl", [{"prompt": w} for w in ("Who", "The capital", "Eight", "Sums")]
    )
    return at


OWN_CRITIC = {"ppo": ("--critic-warmup", 0, "--critic-learning-rate", 1e-3)}


@pytest.mark.parametrize("name", ["ppo", "rloo", "grpo"])
def test_twenty_times_the_learning_rate_is_noticed(at, tmp_path, capsys, name):
    """Mutation caught: thresholds that nothing reaches, and such that everything does."""
    found = {}
    for rate in (2.5e-3, 5e-2):
        out = tmp_path / str(rate)
        words = ["train", name, "--model", at / "lm", "--reward", "tiny:likes_short", "--data", at / "prompts.jsonl",
                 "--out", out, "--steps", 12, "--batch-size", 32, "--max-tokens", 24, "--lr", rate, "--beta", 0.01,
                 *OWN_CRITIC.get(name, ()),
                     "--missing-eos-penalty", 0, "--quiet", "--report-to", "none"]  # fmt: skip
        assert main([str(w) for w in words]) == 0
        log = out / "alarms.jsonl"
        rows = (
            [json.loads(x)["alarm"] for x in log.read_text().splitlines()] if log.exists() else []
        )
        # Random weights never end a response; that alarm is right in both runs.
        found[rate] = [r for r in rows if "were truncated at max_tokens" not in r]
        said = capsys.readouterr().err
        assert all(r in said for r in rows)
    assert found[2.5e-3] == [] and found[5e-2] != []
