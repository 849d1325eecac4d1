"""`heedful train ppo|rloo|grpo|…` on a tiny model with a rule for a reward: every row of the table, every option."""

import asyncio
import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

import tiny
from changed import changed
from heedful import tagged
from heedful.cli import main
from heedful.configs.algorithm import METHODS, Algorithm, algorithm
from heedful.configs.common import Lora
from heedful.data.collate import collate
from heedful.data.sources import write_rows
from heedful.data.tokens import encode_example
from heedful.engine.local import LocalEngine
from heedful.errors import UserError
from heedful.models.forward import policy_outputs
from heedful.models.load import copy_model, load_tokenizer, new_reward_model
from heedful.models.new import new_model
from heedful.models.reference import Reference
from heedful.models.save import save_model
from heedful.models.scores import token_values
from heedful.recipes import policy
from heedful.rewards import Parts, load_rewards
from heedful.rewards.functions import as_reward
from heedful.rewards.model import SHIFT
from heedful.rollout import tasks
from heedful.tagged import compose, flat
from heedful.training.estimates import estimate, final_scores, rollout_metrics
from heedful.training.mixed import Mix, supervised
from heedful.training.policy_losses import KLController, critic_loss, joint_loss, policy_loss
from heedful.types import Message, Outputs, Sample, Sampling

WORDS = [
    "Who cares?",
    "How many legs has a spider?",
    "What is 2 + 2?",
    "Why?",
    "Name a capital.",
    "Go on.",
]
SETS = {name: method.sets for name, method in METHODS.items()}
PROMPTS = [{"prompt": [{"role": "user", "content": w}]} for w in WORDS]


@pytest.fixture(scope="module")
def at(tmp_path_factory) -> Path:
    at = tmp_path_factory.mktemp("policy")
    tok = tiny.tokenizer()
    tiny.policy(tok).save_pretrained(at / "lm")
    tok.save_pretrained(at / "lm")
    write_rows(at / "prompts.jsonl", PROMPTS)
    write_rows(at / "text.jsonl", ({"text": t} for t in tiny.TEXT))
    return at


def command(at: Path, name: str, out: Path, *more) -> list[str]:
    words = ["train", name, "--model", at / "lm", "--reward", "tiny:likes_short", "--data", at / "prompts.jsonl",
             "--out", out, "--steps", 3, "--batch-size", 8, "--max-tokens", 8, "--lr", 1e-3,
             "--quiet", "--report-to", "none"]  # fmt: skip
    if (
        SETS.get(name, {}).get("advantage", "gae") in ("gae", "n_step")
        and "--value-head" not in more
    ):
        words += ["--critic-warmup", 0]
    if SETS.get(name, {}).get("group_size", 1) > 1:
        words += ["--group-size", 4]
    return changed(words, *more)


def save_reward_model(start: Path, folder: Path, shift: float) -> None:
    """An untrained reward model with a shift, as `train reward` leaves one."""
    model, tok = new_reward_model(str(start), seed=0), load_tokenizer(str(start))
    setattr(model.config, SHIFT, shift)
    folder.mkdir()
    save_model(model, tok, folder)


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", METHODS)
def test_every_preset_trains_and_says_what_it_sets(at, tmp_path, capsys, name):
    """The saved model differs from the start and loads in plain transformers; the config tells all."""
    assert main(command(at, name, tmp_path / "out")) == 0
    said = capsys.readouterr().err
    overridden = {"group_size": 4, "batch_size": 8}
    for key, value in SETS[name].items():
        flag = key.replace("_", "-")
        told = (
            {True: f"--{flag}", False: f"--no-{flag}"}[value]
            if isinstance(value, bool)
            else f"--{flag} {value}"
        )
        assert (f"{told} " in f"{said.replace(chr(10), ' ')} ") == (
            overridden.get(key, value) == value
        )
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    start = AutoModelForCausalLM.from_pretrained(at / "lm").state_dict()
    assert saved.keys() == start.keys()
    assert any(not torch.equal(saved[k], start[k]) for k in start)
    rows = metrics(tmp_path / "out")
    assert [r["step"] for r in rows] == [1, 2, 3]
    has_critic = SETS[name].get("advantage", "gae") in ("gae", "n_step")
    assert ("value/explained_variance" in rows[0]) == has_critic
    assert ("kl/seq" in rows[0]) == (SETS[name].get("kl") != "none")


PARTS = """
def advantage(x, *, reward_scale: float = 1.0): return reward_scale * x.rewards
def surrogate(logp, b): return -logp * b.adv
def average(mask, max_tokens): return mask.float()
def kl_estimator(logp, ref_logp): return (logp - ref_logp) ** 2 / 2
"""


def test_parts_of_an_algorithm_may_be_functions_of_yours(at, tmp_path, monkeypatch):
    """Mutation caught: a user's part without what the loop asks of its kind (`needs_critic`, `clipped`)."""
    (tmp_path / "my_parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    slots = ("advantage", "surrogate", "average", "kl_estimator")
    flags = [w for s in slots for w in (f"--{s.replace('_', '-')}", f"my_parts:{s}")]
    flags += ["--kl", "loss", "--reward-scale", "0.5"]
    assert main(command(at, "rloo", tmp_path / "out", *flags)) == 0
    assert "advantage: my_parts:advantage" in (tmp_path / "out" / "config.yaml").read_text()
    with pytest.raises(UserError, match="--kl takes no function"):
        algorithm("rloo", kl="my_parts:average")


def test_methods_set_fields_of_the_config():
    """Mutation caught: a key that is misspelt, or of a part that the method does not have."""
    for method in METHODS.values():
        config = compose(
            policy.Config, dict(model="", reward="", data="", out=Path(), **method.sets)
        )
        policy.refuse_what_cannot_be(config)


@pytest.mark.parametrize(
    ("name", "flags", "words"),
    [
        ("rloo", ["--group-size", "1"], "compares responses to one prompt"),
        ("rloo", ["--group-size", "3"], "no multiple of --group-size 3"),
        ("grpo", ["--kl-estimator", "k1"], "no gradient in expectation"),
        ("ppo", ["--kl-estimator", "analytic"], "is for the loss only"),
        ("dapo", ["--kl-target", "6"], "because --kl none does not read it"),
        ("reinforce", ["--value-head"], "because --advantage return_baseline does not read it"),
        ("rloo", ["--critic", "x"], "because --advantage leave_one_out does not read it"),
        ("ppo", ["--critic", "x", "--value-head"], "because --value-head is set"),
        ("rloo", ["--truncated", "bootstrap"], "--truncated bootstrap: expected"),
        ("ppo", ["--cliprange", "0"], "--cliprange 0: must be above 0"),
        ("ppo", ["--gamma", "2"], "--gamma 2: must be from 0 to 1"),
        ("ppo", ["--batch-size", "0"], "must be at least 1"),
        ("ppo", ["--advantage", "tiny:likes_short"], "is called with (x)"),
        ("ppo", ["--advantage", "no_such.module:fn"], "no_such"),
        ("ppo", ["--advantage", "gea"], "did you mean 'gae'"),
        ("ppo", ["--overlong", "3"], "--overlong 3: must be at least 0 and below 1"),
        ("ppo", ["--temperature", "0"], "must be above 0"),
        ("rloo", ["--ptx.batch-size", "2"], "have no effect without --ptx.data"),
        ("ppo", ["--ptx.coef", "0", "--ptx.data", "x.jsonl"], "must be above 0"),
        ("grpo", ["--kl", "reward", "--kl-corrected", "--kl-estimator", "k3"], "does not read it; these do: loss"),
        ("ppo", ["--reference-share", "0", "--reference-every", "1"], "at most 1"),
        ("dr_grpo", ["--beta", "0.1"], "because --kl none does not read it; these do: reward, loss; leave it out"),
        ("ppo", ["--kl", "none", "--kl-estimator", "k2"], "--kl-estimator would have no effect"),
        ("rloo", ["--clip", "0.1"], "because --surrogate gradient does not read it"),
        ("ppo", ["--kl-horizon", "100"], "because there is no --kl-target"),
        ("grpo", ["--critic-learning-rate", "1e-3"], "because --advantage group_standardised does not read it"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(at, tmp_path, capsys, name, flags, words):
    assert main(command(at, name, tmp_path / "out", *flags)) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_the_learning_rate_falls_to_the_end_after_the_critics_warm_up(at, tmp_path):
    """Two rounds of warm-up and three of both: the policy's rates are those of a run of three, the critic's of five.

    Mutation caught: a schedule of the policy that counts the rounds in which the critic alone learns.
    """

    def rates(who: str, warmup: int, steps: int) -> list[float]:
        out = tmp_path / f"{warmup}-{steps}"
        if not out.exists():
            flags = ["--critic-warmup", warmup, "--steps", steps, "--warmup", 0.4]
            assert main(command(at, "ppo", out, *flags)) == 0
        name = f"{who}/learning_rate"
        return [row[name] for row in metrics(out) if name in row]

    assert rates("policy", 2, 5) == pytest.approx(rates("policy", 0, 3))
    assert rates("value", 2, 5) == pytest.approx(rates("value", 0, 5))


OTHER_VALUES = {"beta": 0.7, "clip": 0.01, "clip_high": 0.01, "truncate": 1.1, "lam": 0.5, "gamma": 0.5, "n_step": 1,
                "value_clip": 0.01, "value_coef": 3.0}  # fmt: skip


@pytest.mark.parametrize("name", [*METHODS, "ppo, a value head", "a2c, a value head"])
def test_every_knob_that_a_method_has_changes_something(name):
    """Rewards, advantages and losses of every method on made-up numbers, each knob set to another value in turn.

    Mutation caught: a knob that is ignored without a word; a part's field that another part reads.
    """
    method, _, head = name.partition(", ")
    changes = {"value_head": True} if head else {}
    usual = algorithm(method, **changes)
    g = torch.Generator().manual_seed(0)
    rows = [
        Sample(tuple(range(7)), (False, *[True] * 6), (0.0, *torch.randn(6, generator=g).tolist()), reward)
        for reward in torch.randn(16, generator=g).tolist()
    ]  # fmt: skip
    batch = collate([replace(row, group=i // 8) for i, row in enumerate(rows)])
    ref, values = torch.randn(16, 6, generator=g), torch.randn(16, 7, generator=g)
    logp, kl, value = torch.randn(16, 7, 3, generator=g).unbind(-1)
    out = Outputs(logp=logp[:, :-1], kl=kl[:, :-1], value=value)

    def numbers(a: Algorithm) -> Tensor:
        beta = KLController.of(a.kl).beta
        scored = estimate(a, batch, ref, values, beta, 8)
        loss = joint_loss(a, beta, a.value_head) if head else policy_loss(a, beta)
        found = [loss(out, scored).value, scored.adv]
        if a.advantage.needs_critic:
            found.append(critic_loss(a.advantage)(out, scored).value)
        return torch.stack([x.double() for x in found])

    knobs = flat(usual)
    others = OTHER_VALUES | {"kl_estimator": "k1" if knobs.get("kl_estimator") == "k2" else "k2"}
    unread = tagged.unread(usual)
    tried = 0
    for knob, value in others.items():
        if knob in knobs and knob not in unread:
            tried += 1
            changed = algorithm(method, **changes, **{knob: value})
            assert not torch.equal(numbers(usual), numbers(changed)), knob
        elif knob not in knobs:
            with pytest.raises(UserError, match="would have no effect"):
                algorithm(method, **{knob: value})
    assert tried or method == "raft"


def test_a_value_head_learns_and_stays_out_of_the_saved_model(at, tmp_path):
    """Mutation caught: a head that gets no gradient, or that other tools find in the weights."""
    assert (
        main(
            command(
                at,
                "ppo",
                tmp_path / "out",
                "--value-head",
                "--steps",
                12,
                "--lr",
                1e-2,
                "--truncated",
                "score",
            )
        )
        == 0
    )
    rows = metrics(tmp_path / "out")
    assert rows[-1]["value/loss"] < 0.5 * rows[0]["value/loss"]
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)[1]
    assert not saved["unexpected_keys"] and not saved["missing_keys"]


def test_mixed_in_likelihood_keeps_the_text(at, tmp_path):
    """PPO-ptx: with the mix the text's loss falls, without it the same run does not improve it.

    Mutation caught: a weight that is never used, or a mix without gradient.
    """
    mixed = ["--ptx.data", at / "text.jsonl", "--ptx.coef", 5, "--steps", 10, "--lr", 5e-3]
    assert main(command(at, "rloo", tmp_path / "mixed", *mixed)) == 0
    losses = [row["ptx/loss"] for row in metrics(tmp_path / "mixed")]
    assert losses[-1] < losses[0] - 0.5
    assert main(command(at, "rloo", tmp_path / "plain", "--steps", 10)) == 0
    assert "ptx/loss" not in metrics(tmp_path / "plain")[0]


def test_demonstrations_can_be_mixed_in(at, tmp_path):
    write_rows(tmp_path / "d.jsonl", [{**p, "completion": "Indeed."} for p in PROMPTS])
    assert main(command(at, "grpo", tmp_path / "out", "--ptx.data", tmp_path / "d.jsonl")) == 0
    assert all("ptx/loss" in row for row in metrics(tmp_path / "out"))


def test_the_reference_moves_when_asked(at, tmp_path):
    """After each round the reference is the policy, so the KL of every round's samples is 0.

    Mutation caught: a reference that is never refreshed, or that is refreshed before its KL is taken.
    """
    assert main(command(at, "rloo", tmp_path / "frozen", "--steps", 4, "--lr", 5e-2)) == 0
    moving = ["--reference-every", 1]
    assert main(command(at, "rloo", tmp_path / "moved", "--steps", 4, "--lr", 5e-2, *moving)) == 0
    assert abs(metrics(tmp_path / "frozen")[-1]["kl/seq"]) > 0.05
    assert all(abs(row["kl/seq"]) < 1e-4 for row in metrics(tmp_path / "moved"))


def test_an_averaged_reference_lies_between():
    """Mutation caught: lerp in the wrong direction."""
    tok = tiny.tokenizer()
    old, new = tiny.policy(tok, seed=0), tiny.policy(tok, seed=1)
    reference = Reference(copy_model(old))
    reference.refresh(new, 0.25)
    for name, p in reference.model.named_parameters():
        expected = 0.75 * old.get_parameter(name) + 0.25 * new.get_parameter(name)
        assert torch.allclose(p, expected, atol=1e-6)


def test_an_averaged_reference_does_not_stall_in_bfloat16():
    """A hundred times a hundredth of the way is 63 % of it, also across an interruption.

    Mutation caught: an average in bfloat16, whose steps round to nothing; one that a saved state leaves out.
    """
    tok = tiny.tokenizer()
    old = tiny.policy(tok, seed=0).bfloat16()
    new = copy_model(old)
    with torch.no_grad():
        for p in new.parameters():
            p.add_(0.05)
    reference = Reference(copy_model(old))
    for _ in range(50):
        reference.refresh(new, 0.01)
    again = Reference(copy_model(old))
    again.load_state_dict(reference.state_dict())
    for _ in range(50):
        again.refresh(new, 0.01)
    for name, p in again.model.named_parameters():
        start, end = old.get_parameter(name).float(), new.get_parameter(name).float()
        expected = start + (1 - 0.99**100) * (end - start)
        assert torch.allclose(p.float(), expected, atol=1e-6, rtol=2**-8), name


def test_groups_without_a_difference_make_way(at):
    """Half of the prompts always get the same reward; dynamic sampling draws until the round is full of others.

    Mutation caught: keeping silent groups although others were drawn, or mixing up the numbers of groups or episodes.
    """
    tok = tiny.tokenizer()
    todo = tasks(tok, [(Message("user", w),) for w in WORDS])
    silent = {todo[i].prompt for i in (0, 2, 4)}

    def reward(prompt, response):
        return 0.0 if prompt in silent else float(len(response))

    def round_of(draws: int):
        own = dict(
            batch_size=12, group_size=4, max_tokens=8, dynamic_sampling=draws, truncated="score"
        )
        common = dict(model="", reward="", data="", out=Path(), missing_eos_penalty=0.0)
        config = compose(policy.Config, {**common, **own})
        engine = LocalEngine(tiny.policy(tok))
        parts = Parts.of(as_reward(reward, "own"))
        samples, _ = asyncio.run(policy.collect(engine, parts, todo, tok, config, step=1))
        assert [s.group for s in samples] == [0] * 4 + [1] * 4 + [2] * 4
        assert len({s.episode for s in samples}) == 12  # advantages are those of episodes
        groups = [samples[i : i + 4] for i in (0, 4, 8)]
        assert all(len({s.tokens[: s.mask.index(True)] for s in g}) == 1 for g in groups)
        return sum(len({s.reward for s in g}) > 1 for g in groups)

    assert round_of(0) < 3
    assert round_of(6) == 3


def test_overlong_responses_lose_up_to_one(at, tmp_path):
    """DAPO's soft punishment; hand-worked: 8 tokens at most, the last half punished: 6 tokens lose ½.

    Mutation caught: a hard cut, or a share of the response in place of max_tokens.
    """
    rows = [
        Sample((1,) * (n + 1), (False, *[True] * n), (0.0,) * (n + 1), 1.0) for n in (3, 4, 6, 8)
    ]
    a = algorithm(overlong=0.5, truncated="score")
    assert final_scores(a, collate(rows), 8).tolist() == [1.0, 1.0, 0.5, 0.0]


def test_truncated_responses_can_stay_out_of_the_loss():
    rows = [
        Sample((1, 2, 3), (False, True, True), (0.0, -1.0, -1.0), reward, 0, stop_reason=reason)
        for reward, reason in ((1.0, "stop"), (5.0, "length"))
    ]
    batch = collate(rows)
    a = algorithm(
        advantage="group_centred", truncated="mask", whiten_advantages=False, group_size=2
    )
    scored = estimate(a, batch, batch.old_logp, torch.zeros(2, 3), 0.1, 8)
    assert scored.mask.tolist() == [[True, True], [False, False]]
    assert scored.adv[1].abs().sum() == 0 and scored.adv[0, 0] != 0


def test_school_sums_load_sample_score_and_step(at, shared_data, tmp_path):
    """GSM8K as it is published, with the verifier: a model of random weights solves nothing, but all of it runs.

    Mutation caught: a question column that is not read, an answer that does not reach the verifier.
    """
    source = shared_data / "gsm8k-test.jsonl.gz"
    if not source.exists():
        pytest.skip("gsm8k-test.jsonl.gz is not in the folder of real data")
    tok = tiny.tokenizer()
    new_model(
        "qwen2", tok, hidden_size=32, layers=2, heads=2, context=1024, seed=0
    ).save_pretrained(tmp_path / "lm")
    tok.save_pretrained(tmp_path / "lm")
    words = ["train", "grpo", "--model", tmp_path / "lm", "--data", source, "--reward", "numeric", "length(price=0.01)",
             "--out", tmp_path / "out", "--steps", 2, "--batch-size", 8, "--group-size", 4, "--max-tokens", 24,
             "--quiet", "--report-to", "none"]  # fmt: skip
    assert main([str(w) for w in words]) == 0
    rows = metrics(tmp_path / "out")
    assert len(rows) == 2 and all(0 <= row["reward/numeric"] <= 1 for row in rows)


@pytest.mark.parametrize("named", [False, True], ids=["the reward model", "--critic"])
@pytest.mark.parametrize("rank", [0, 2], ids=["whole", "LoRA"])
def test_a_critic_begins_with_the_scores_of_its_reward_model(at, tmp_path, named, rank):
    """Its value at the last token is the standardised score, shift included, and the bias that holds it is trained.

    Mutation caught: values of the raw head; a shift that is taken from the judge itself as well.
    """
    tok = load_tokenizer(at / "lm")
    save_reward_model(at / "lm", tmp_path / "reward", shift=0.75)
    reward = load_rewards([str(tmp_path / "reward")])
    judge = reward.reward_model
    samples = [encode_example(tok, row["prompt"][0]["content"], "Eight.") for row in PROMPTS]
    before = judge.score(samples)
    start = str(tmp_path / "reward") if named else None
    given = dict(model=str(at / "lm"), reward=("",), data="", out=tmp_path / "out", critic=start)
    config = compose(policy.Config, {**given, "lora": Lora(rank=rank)})
    critic = policy._critic(config, tok, reward)
    batch = collate(samples)
    values = token_values(critic, batch.tokens, batch.lengths)
    values = values[range(len(samples)), batch.lengths - 1]
    assert values.tolist() == pytest.approx(before, abs=1e-5)
    assert judge.score(samples) == before
    assert dict(critic.named_parameters())["score.bias"].requires_grad


@pytest.mark.parametrize("extra", [[], ["--value-head"]], ids=["critic", "value head"])
def test_lora_without_a_second_copy_of_the_policy(at, tmp_path, extra):
    """The reference is the adapter switched off: KL 0 in round 1, not later; what is saved is an adapter alone.

    Mutation caught: a reference that moves with the adapter; a value head among the adapter's weights.
    """
    from safetensors.torch import load_file

    lora = ["--lora.rank", 4, "--lr", 5e-2, "--steps", 4, *extra]
    assert main(command(at, "ppo", tmp_path / "out", *lora)) == 0
    rows = metrics(tmp_path / "out")
    assert abs(rows[0]["kl/seq"]) < 1e-4 < 1e-2 < max(abs(row["kl/seq"]) for row in rows[1:])
    saved = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert saved and all("lora_" in name for name in saved)
    assert not (tmp_path / "out" / "config.json").exists()
    words = ["sample", "--model", tmp_path / "out", "--data", at / "prompts.jsonl", "--out", tmp_path / "s.jsonl",
             "--n", 1, "--max-tokens", 4, "--quiet"]  # fmt: skip
    assert main([str(w) for w in words]) == 0


def test_a_shared_reference_cannot_move(at, tmp_path, capsys):
    assert (
        main(command(at, "rloo", tmp_path / "out", "--lora.rank", 4, "--reference-every", 2)) == 2
    )
    assert "name one with --reference" in capsys.readouterr().err


def test_kl_target_is_reached_on_a_slow_plant():
    """A policy whose KL follows 1/β with a lag of ten rounds: within 20 % of 6 nats from round 100 on.

    Mutation caught: the wrong sign of the error, a horizon in steps in place of responses.
    """
    for start in (0.005, 0.8):
        c, nats, seen = KLController(start, target=6.0, horizon=500), 0.0, []
        for _ in range(200):
            nats += 0.1 * (0.3 / c.beta - nats)
            c.update(nats, responses=128)
            seen.append(nats)
        assert all(4.8 < x < 7.2 for x in seen[100:]), (start, min(seen[100:]), max(seen[100:]))


@pytest.mark.parametrize("name", ["rloo", "online_dpo"])
def test_a_named_reference_moves_to_a_policy_with_an_adapter(at, tmp_path, name):
    """The reference has plain names, the policy PEFT's. Mutation caught: names looked up in the adapted model."""
    every = "--reference-every" if name == "rloo" else "--refresh-reference"
    words = command(
        at,
        "rloo",
        tmp_path / "out",
        "--reference",
        at / "lm",
        "--lora.rank",
        2,
        "--lr",
        5e-2,
        "--steps",
        4,
    )
    words[1] = name
    if name == "online_dpo":
        del words[words.index("--group-size") : words.index("--group-size") + 2]
    assert main([*words, every, "1"]) == 0
    assert all(abs(row["kl/seq"]) < 1e-4 for row in metrics(tmp_path / "out"))


def test_responses_left_out_of_the_loss_still_count_in_the_metrics():
    """4 responses of 5 tokens at 1 nat each, 3 of them cut: the KL that steers β is 1 nat, not a quarter of it.

    Mutation caught: metrics over the loss's mask.
    """
    rows = [
        Sample((1,) * 6, (False, *[True] * 5), (0.0, *[-1.0] * 5), 1.0, i, stop_reason=why)
        for i, why in enumerate(("stop", "length", "length", "length"))
    ]
    batch = collate(rows)
    a = algorithm(
        advantage="return", truncated="mask", missing_eos_penalty=0.0, whiten_advantages=False
    )
    ref = batch.old_logp - 0.2 * batch.mask
    scored = estimate(a, batch, ref, torch.zeros(4, 6), 0.1, 8)
    found = rollout_metrics(a, scored, 0.1, batch.mask, 8)
    assert found["kl/seq"] == pytest.approx(1.0) and found["completions/mean_length"] == 5


def test_groups_differ_by_what_they_are_charged_too():
    """Equal rewards, one response cut: the penalty makes a difference that teaches. Mutation caught: raw rewards."""
    rows = [
        Sample((1, 2), (False, True), (0.0, -1.0), 1.0, 0, stop_reason=why)
        for why in ("stop", "length")
    ]
    batch = collate(rows)
    for penalty, share in ((1.0, 0.0), (0.0, 1.0)):
        a = algorithm(
            advantage="leave_one_out", truncated="score", missing_eos_penalty=penalty, group_size=2
        )
        scored = estimate(a, batch, batch.old_logp, torch.zeros(2, 2), 0.0, 8)
        assert rollout_metrics(a, scored, 0.0, batch.mask, 8)["groups/equal"] == share


def test_a_demonstration_that_was_cut_is_mixed_in_without_an_end(at, tmp_path):
    """Mutation caught: a made-up end token after a cut sample."""
    row = {"prompt": "Who", "completion": " cares", "stop_reason": "length"}
    write_rows(tmp_path / "d.jsonl", [row, {"prompt": "Who", "completion": " cares"}])
    tok = tiny.tokenizer()
    ptx = Mix(data=str(tmp_path / "d.jsonl"), batch_size=2)
    config: Any = SimpleNamespace(ptx=ptx, seed=0, on_bad_row="stop", out=tmp_path / "run")
    (mix,) = supervised(config, tok, tiny.policy(tok))
    ends = sorted(
        int(tokens[length - 1]) == tok.eos_token_id
        for tokens, length in zip(mix(0).batch.tokens, mix(0).batch.lengths, strict=True)
    )
    assert ends == [False, True]


def test_the_analytic_kl_asks_the_references_own_head(at):
    """An adapter on the output layer: moved, it costs KL. Mutation caught: the policy's head for the reference."""
    tok = tiny.tokenizer()
    start = tiny.policy(tok)
    moved = copy_model(start)
    with torch.no_grad():
        moved.get_output_embeddings().weight.add_(
            torch.randn_like(moved.get_output_embeddings().weight)
        )
    tokens = torch.tensor([[1, 5, 9, 7]])
    mask = torch.ones(1, 3, dtype=torch.bool)

    @contextmanager
    def as_it_was(model):
        now = model.get_output_embeddings().weight.clone()
        model.get_output_embeddings().weight.copy_(start.get_output_embeddings().weight)
        yield
        model.get_output_embeddings().weight.copy_(now)

    with torch.no_grad():
        # Embeddings are tied, so the whole model is switched, as an adapter would switch it.
        out = policy_outputs(moved, tokens, mask, Sampling(), reference=Reference(moved, as_it_was))
        p, q = (m(input_ids=tokens[:, :-1]).logits.log_softmax(-1) for m in (moved, start))
    assert torch.allclose(out.kl, (p.exp() * (p - q)).sum(-1), atol=1e-4)
    assert out.kl.min() > 0.1
