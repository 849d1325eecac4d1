"""Alarms: silent in a sound run, plain advice in the same run with the learning rate × 20."""

import json
import math
import random
from pathlib import Path

import pytest

import tiny
from heedful.cli import main
from heedful.data.sources import write_rows
from heedful.evals.alarms import ALARMS, IN_A_ROW, Alarms

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
    "nothing_scored": ({}, {"reward/unscored": 1.0}, "abstained from 100 %"),
    "both_fall": ({}, {"logps/chosen": -90.0, "logps/chosen_change": -60.0}, "from -30 to -90"),
    "beyond_the_fit": ({}, {"kl/seq": 9.0, "kl/seq_se": 0.5, "kl/fit": 7.6}, "1,998 responses"),
    "models_disagree": ({"reward/e/disagreement": 0.2, "reward": 0.0}, {"reward/e/disagreement": 0.8, "reward": 2.0},
                        "disagree by 0.8, where it was 0.2"),
    "repetitive": ({"completions/repetition": 0.01}, {"completions/repetition": 0.6}, "60 % of four tokens"),
}  # fmt: skip


@pytest.mark.parametrize("alarm", ALARMS, ids=lambda a: a.__name__)
def test_each_alarm_says_its_number_once(alarm):
    first, bad, words = TRIGGERS[alarm.__name__]
    alarms = Alarms(pause=10)
    assert alarms.look(1, first) == []
    for before in range(IN_A_ROW.get(alarm.__name__, 1) - 1, 0, -1):
        assert alarms.look(20 - before, bad) == []
    (sentence,) = alarms.look(20, bad)
    assert words in sentence and ": " in sentence
    assert alarms.look(21, bad) == []
    assert len(alarms.look(30, bad)) == 1


def test_one_round_of_easy_prompts_is_no_trouble():
    """Mutation caught: a round that counts on though another was between, a count that an interruption forgets."""
    first, easy, other = (
        {"policy/entropy": e, "groups/equal": g} for e, g in ((0.4, 0), (0.02, 1), (0.3, 0.5))
    )
    alarms = Alarms()
    assert not any(
        alarms.look(i, row) for i, row in enumerate([first, easy, easy, other, easy, easy])
    )
    again = Alarms()
    again.load_state_dict(json.loads(json.dumps(alarms.state_dict())))
    assert len(again.look(6, easy)) == 2


def test_of_episodes_more_than_their_tokens_may_cut_them():
    (sentence,) = Alarms().look(1, {"eos_rate": 0.2, "episodes/truncated": 0.9})
    assert sentence.startswith("90 % of episodes were truncated: raise --max-turns")


def test_metrics_that_a_recipe_does_not_have_raise_no_alarm():
    alarms = Alarms()
    assert all(alarms.look(step, {"loss": 1.0}) == [] for step in range(1, 30))


SILENT = {
    "another batch": ({"logps/chosen": -30.0}, {"logps/chosen": -90.0, "logps/chosen_change": 2.0}),
    "held out, no worse": ({"eval/logps/chosen": -90.0, "logps/chosen": -10.0}, {"eval/logps/chosen": -95.0}),
    "k1 of a few": ({}, {"kl/seq": -4.5, "kl/seq_se": 2.0}),
    "one response": ({}, {"kl/seq": -9.0, "kl/seq_se": math.inf, "policy/kl_update": 3.0,
                          "policy/kl_update_se": math.inf}),
    "some scored": ({}, {"reward/unscored": 0.9, "reward": 0.3}),
    "near the fit": ({}, {"kl/seq": 8.0, "kl/seq_se": 0.5, "kl/fit": 7.6}),
}  # fmt: skip


@pytest.mark.parametrize("case", SILENT)
def test_noise_and_other_batches_raise_no_alarm(case):
    """Mutation caught: log π of this batch against that of the first; an estimate taken for the thing itself."""
    alarms = Alarms()
    first, now = SILENT[case]
    assert alarms.look(1, first) == [] == alarms.look(40, now)


def watched(seed: int, turn: int | None) -> tuple[list[int], Alarms]:
    """60 rounds in which the reward rises, and what is watched rises until `turn` and then falls; all with noise."""
    draw, alarms, heard = random.Random(seed), Alarms(), []
    for step in range(1, 61):
        truth = step if turn is None or step < turn else 2 * turn - step
        row = {
            "reward": 0.05 * step + draw.gauss(0, 0.1),
            "watch/rm": 0.02 * truth + draw.gauss(0, 0.1),
            "watch/rm_se": 0.1,
        }
        heard += [step for s in alarms.look(step, row) if "over-optimised" in s]
        if alarms.watch.at_best():
            assert not heard
        again = Alarms()
        again.load_state_dict(json.loads(json.dumps(alarms.state_dict())))
        alarms = again
    return heard, alarms


@pytest.mark.parametrize("seed", range(20))
def test_a_reward_that_only_watches_tells_over_optimisation(seed):
    """It falls while the reward rises: told, soon after. It rises or stands still with as much noise: silence.

    Mutation caught: the best round of many taken for the level it had, an alarm on any fall, one that an interruption
    forgets.
    """
    heard, alarms = watched(seed, turn=30)
    assert heard and 35 <= heard[0] <= 60 and not alarms.watch.at_best()
    assert watched(seed, turn=None)[0] == []
    draw, flat = random.Random(seed), Alarms()
    for step in range(1, 120):
        assert (
            flat.look(
                step, {"reward": step / 100, "watch/rm": draw.gauss(0, 0.1), "watch/rm_se": 0.1}
            )
            == []
        )


@pytest.mark.parametrize("parts, told", [((-1.1, -1.0, -0.9), True), ((-4.0, 2.0, -1.0), False)])
def test_an_ensemble_that_watches_must_agree_on_a_fall(parts: tuple[float, ...], told: bool):
    """The same mean falls by as much; where one member rises, nobody knows. Mutation caught: the error of the prompts
    alone, members that an interruption forgets."""
    alarms, heard = Alarms(), []
    for step in range(1, 31):
        fall = max(0, step - 10)
        row = {f"watch/rm/{k}": of * fall for k, of in enumerate(parts, start=1)}
        row |= {"reward": step / 10, "watch/rm": -float(fall), "watch/rm_se": 0.01}
        heard += [s for s in alarms.look(step, row) if "over-optimised" in s]
        state = json.loads(json.dumps(alarms.state_dict()))
        alarms = Alarms()
        alarms.load_state_dict(state)
    assert bool(heard) == told


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


def test_what_watches_is_no_part_of_the_reward(at, tmp_path, monkeypatch):
    """One that watches and likes the opposite falls while the reward rises: told, with the model of before beside the
    run; one that likes the same says nothing.

    Mutation caught: what watches in the sum, an alarm from a mean over other responses, no model to go back to.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "def els(prompt, response): return float(response.count('e'))\n"
        "def no_els(prompt, response): return -float(response.count('e'))\n"
    )
    words = ["train", "rloo", "--model", at / "lm", "--reward", "./mine.py:els", "--watch-reward", "./mine.py:no_els",
             "same=./mine.py:els", "--data", at / "prompts.jsonl", "--out", tmp_path / "run", "--steps", 14,
             "--batch-size", 32, "--max-tokens", 16, "--lr", 2e-2, "--beta", 0, "--missing-eos-penalty", 0,
             "--quiet", "--report-to", "none"]  # fmt: skip
    assert main([str(w) for w in words]) == 0
    rows = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(r["watch/same"] == pytest.approx(r["reward"]) for r in rows)
    assert rows[-1]["reward"] > rows[0]["reward"] and rows[-1]["watch/no_els"] == pytest.approx(
        -rows[-1]["reward"]
    )
    told = [
        json.loads(x)["alarm"] for x in (tmp_path / "run" / "alarms.jsonl").read_text().splitlines()
    ]
    assert any("no_els, which nobody optimises, fell" in t for t in told) and not any(
        "same" in t for t in told
    )
    assert (tmp_path / "run" / "best_watched" / "model.safetensors").exists()


OWN_CRITIC = {"ppo": ("--critic-warmup", 0, "--critic-learning-rate", 1e-3)}


@pytest.mark.long
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
