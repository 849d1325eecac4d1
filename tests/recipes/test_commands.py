"""Every command end to end on tiny models, as a user types it; what it saves loads in plain transformers."""

import hashlib
import io
import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import tiny
from changed import changed
from heedful.cli import main
from heedful.data.sources import read_comparisons, split_by_prompt
from heedful.data.tokens import encode_example, encode_group
from heedful.losses import reward as losses
from heedful.models.new import train_tokenizer
from heedful.recipes import reward_model
from heedful.rewards.model import SCALE, SHIFT, ModelReward
from heedful.worlds import capitals

QUIET = ("--quiet", "--report-to", "none")
SMALL = ("--hidden-size", "32", "--layers", "2", "--heads", "2", "--vocab-size", "400")


def run(*args) -> None:
    assert main([str(a) for a in args]) == 0


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def loop(tmp_path_factory) -> Path:
    """The whole loop once, with the gold function switched off while anything is trained.

    Mutation caught: a recipe that looks at the gold score instead of at the comparisons.
    """
    at = tmp_path_factory.mktemp("loop")
    world = at / "world"
    run("world", "capitals", "--out", world, "--documents", 400, "--demonstrations", 60)
    gold, voice = capitals.gold, capitals.voice

    def forbidden(prompt, response):
        raise AssertionError("a training recipe looked at the gold score")

    def train(job, *args):
        capitals.gold = capitals.voice = forbidden
        try:
            run("train", job, *args, *QUIET)
        finally:
            capitals.gold, capitals.voice = gold, voice

    train("pretrain", "--data", world / "text.jsonl", "--out", at / "base", "--steps", 6, *SMALL)
    train("sft", "--model", at / "base", "--data", world / "demonstrations.jsonl",
          "--out", at / "sft", "--lr", 1e-3)  # fmt: skip
    run("sample", "--model", at / "sft", "--data", world / "prompts.jsonl", "--limit", 20, "--n", 3,
        "--max-tokens", 12, "--out", at / "samples.jsonl", "--quiet")  # fmt: skip
    run("judge", "--data", at / "samples.jsonl", "--judge", "capitals", "--out", at / "pairs.jsonl")
    for loss in ("bradley_terry", "plackett_luce"):
        train("reward", "--model", at / "sft", "--data", at / "pairs.jsonl", "--loss", loss,
              "--out", at / loss, "--lr", 1e-3)  # fmt: skip
    train("dpo", "--model", at / "sft", "--data", at / "pairs.jsonl", "--out", at / "dpo",
          "--lr", 1e-3, "--save-every", 1)  # fmt: skip
    train("ppo", *ppo(at), "--out", at / "ppo", "--save-every", 1)
    run("evaluate", "--model", at / "sft", *evaluation(at), "--out", at / "eval" / "sft")
    run("evaluate", "--model", at / "ppo", *evaluation(at), "--out", at / "eval" / "ppo",
        "--baseline", at / "eval" / "sft" / "samples.jsonl")  # fmt: skip
    return at


def ppo(at: Path) -> list:
    return ["--model", at / "sft", "--reward", at / "bradley_terry", "--lr", 1e-3,
            "--data", at / "world" / "prompts.jsonl", "--steps", 2, "--batch-size", 8,
            "--minibatch-size", 4, "--inner-epochs", 2, "--max-tokens", 8, "--critic-warmup", 0]  # fmt: skip


def evaluation(at: Path) -> list:
    return ["--data", at / "world" / "held_out.jsonl", "--limit", 12, "--max-tokens", 8,
            "--scorer", "capitals", "--reference", at / "sft", "--quiet"]  # fmt: skip


def test_gold_is_what_the_fixture_forbids():
    """The guard works: judging and evaluating do call the gold function that training may not."""
    from heedful.worlds import scorer

    assert scorer("capitals") is capitals.gold


@pytest.mark.parametrize("name", ["base", "sft", "dpo", "ppo", "dpo/checkpoints/000001"])
def test_policies_load_in_plain_transformers(loop, name):
    model = AutoModelForCausalLM.from_pretrained(loop / name)
    tok = AutoTokenizer.from_pretrained(loop / name)
    ids = tok.apply_chat_template(
        [{"role": "user", "content": "What is 1 + 1?"}],
        add_generation_prompt=True, return_tensors="pt", return_dict=True,
    )  # fmt: skip
    out = model.generate(**ids, max_new_tokens=4, do_sample=False)
    assert out.shape[1] > ids["input_ids"].shape[1]
    assert model.generation_config.eos_token_id == tok.eos_token_id


@pytest.mark.parametrize("name", ["bradley_terry", "plackett_luce"])
def test_reward_models_load_in_plain_transformers(loop, name):
    """One label, and with padding the same scores as ours up to the stored shift and scale; the loss and accuracy that
    the log ends with are those of the weights that were saved.

    Mutation caught: scores read at the padding; another text format at scoring than at training; weights that are
    scaled after they were measured.
    """
    theirs = AutoModelForSequenceClassification.from_pretrained(loop / name).eval()
    assert theirs.config.num_labels == 1
    ours = ModelReward.load(str(loop / name))
    samples = [
        encode_example(ours.tokenizer, c.prompt, r)
        for c in read_comparisons(loop / "pairs.jsonl")
        for r in c.responses
    ]
    scores = torch.tensor(ours.score(samples))
    longest = max(len(s.tokens) for s in samples)
    pad = theirs.config.pad_token_id
    ids = torch.tensor([[*s.tokens, *[pad] * (longest - len(s.tokens))] for s in samples])
    with torch.no_grad():
        plain = theirs(ids, attention_mask=(ids != pad).long()).logits.squeeze(1)
    shift, scale = (getattr(theirs.config, key) for key in (SHIFT, SCALE))
    assert torch.allclose(scores, (plain - shift) / scale, atol=1e-4)
    # The held-out part counts too little to matter: mean 0 and std 1 on what was compared.
    assert abs(scores.mean()) < 0.2 and 0.7 < scores.std() < 1.3
    said = dict(zip([s.tokens for s in samples], plain, strict=True))
    held = split_by_prompt(read_comparisons(loop / "pairs.jsonl"), lambda c: c.prompt, 0.05)[1]
    judged = [
        one
        for c in held
        for one in reward_model.ranked(c, encode_group(ours.tokenizer, c.prompt, c.responses))
    ]
    batch = reward_model.rank_batch(judged)
    of_held = torch.stack([said[s.tokens] for one in judged for s in one.samples])
    table, rank, strength = reward_model.as_table(of_held, batch)
    expected = getattr(losses, name)(table, rank, strength).mean()
    written = json.loads((loop / name / "evaluation.json").read_text())
    logged = metrics(loop / name)[-1]
    assert logged["eval/loss"] == written["loss"] == pytest.approx(float(expected), abs=1e-4)
    assert logged["eval/accuracy"] == written["accuracy"]


def test_runs_tell_what_they_did(loop):
    expected = {
        "base": {"loss", "eval/loss", "learning_rate", "grad_norm", "tokens_per_second"},
        "sft": {"loss", "eval/loss"},
        "bradley_terry": {"loss", "accuracy", "eval/accuracy"},
        "dpo": {"rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies",
                "logps/chosen", "logps/rejected"},
        "ppo": {"reward", "kl/seq", "kl/token", "kl/coef", "policy/clipfrac", "policy/approx_kl",
                "policy/entropy", "policy/ess", "policy/kl_update", "value/loss", "eos_rate",
                "value/explained_variance", "completions/mean_length"},
    }  # fmt: skip
    for name, names in expected.items():
        rows = metrics(loop / name)
        assert names <= set().union(*rows), name
        assert [r["step"] for r in rows] == list(range(1, len(rows) + 1))
        assert (loop / name / "config.yaml").exists()
        assert (loop / name / "README.md").read_text().startswith("---\nlibrary_name: transformers")
    rows = [json.loads(line) for line in (loop / "ppo" / "samples.jsonl").read_text().splitlines()]
    assert {r["step"] for r in rows} == {r["step"] for r in metrics(loop / "ppo")}
    assert all(r["prompt"] and isinstance(r["completion"], str) and "reward" in r for r in rows)


def test_dpo_starts_at_ln_2(loop):
    """Mutation caught: a reference that is not the policy as it starts, or dropout left on."""
    assert metrics(loop / "dpo")[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)


def test_ppo_starts_at_the_reference(loop):
    """Mutation caught: sampling and updating under two different distributions."""
    first = metrics(loop / "ppo")[0]
    assert abs(first["kl/seq"]) < 1e-3
    assert first["kl/coef"] == 0.05


def test_evaluation(loop):
    result = json.loads((loop / "eval" / "ppo" / "evaluation.json").read_text())
    assert {"gold", "gold_ci", "kl", "kl_ci", "voices", "win_rate", "win_rate_ci", "length"} <= set(
        result
    )
    assert 0 <= result["win_rate_ci"][0] <= result["win_rate"] <= result["win_rate_ci"][1] <= 1
    sft = json.loads((loop / "eval" / "sft" / "evaluation.json").read_text())
    assert abs(sft["kl"]) < 1e-3


@pytest.mark.long
@pytest.mark.parametrize("job", ["sft", "ppo"])
def test_the_same_seed_gives_the_same_weights(loop, job, tmp_path):
    """Bit for bit, from the saved config alone; another seed gives others."""
    config = (loop / job / "config.yaml").read_text().replace("save_every: 1", "save_every: 0")
    (tmp_path / "c.yaml").write_text(config)
    run("train", job, "--config", tmp_path / "c.yaml", "--out", tmp_path / "again")
    run("train", job, "--config", tmp_path / "c.yaml", "--out", tmp_path / "other", "--seed", 1)
    assert weights(tmp_path / "again") == weights(loop / job)
    assert weights(tmp_path / "other") != weights(loop / job)


@pytest.mark.long
def test_adaptive_beta_moves(loop, tmp_path):
    run("train", "ppo", *ppo(loop), "--out", tmp_path / "ppo", "--kl-target", 3.0,
        "--kl-horizon", 40, *QUIET)  # fmt: skip
    coefs = [row["kl/coef"] for row in metrics(tmp_path / "ppo")]
    assert coefs[0] == 0.05
    assert coefs[1] == pytest.approx(0.05 * (1 - 0.2 * 8 / 40))  # KL 0 is far below the target


@pytest.mark.long
def test_reward_model_with_a_tokenizer_of_its_own(loop, tmp_path):
    """The reward reads text: its ids are not the policy's. The critic then starts from the policy."""
    other = train_tokenizer(
        [r for c in read_comparisons(loop / "pairs.jsonl") for r in c.responses], 300
    )
    model = tiny.policy(other, arch="qwen2")
    model.save_pretrained(tmp_path / "lm")
    other.save_pretrained(tmp_path / "lm")
    run("train", "reward", "--model", tmp_path / "lm", "--data", loop / "pairs.jsonl",
        "--out", tmp_path / "rm", *QUIET)  # fmt: skip
    words = changed(ppo(loop), "--reward", tmp_path / "rm", "--out", tmp_path / "ppo")
    run("train", "ppo", *words, *QUIET)
    assert len(metrics(tmp_path / "ppo")) == 2


@pytest.mark.long
@pytest.mark.parametrize("arch", ["gpt2", "qwen2"])
def test_any_causal_model_folder_works(arch, loop, tmp_path):
    """A stranger's architecture through SFT, DPO and PPO with a Python function as reward."""
    tok = AutoTokenizer.from_pretrained(loop / "base")
    model = tiny.causal_lm(arch, vocab=len(tok))
    model.save_pretrained(tmp_path / "lm")
    tok.save_pretrained(tmp_path / "lm")
    world = loop / "world"
    run("train", "sft", "--model", tmp_path / "lm", "--data", world / "demonstrations.jsonl",
        "--out", tmp_path / "sft", *QUIET)  # fmt: skip
    run("train", "dpo", "--model", tmp_path / "sft", "--data", loop / "pairs.jsonl",
        "--out", tmp_path / "dpo", *QUIET)  # fmt: skip
    other = ("--model", tmp_path / "sft", "--reward", "tiny:likes_short")
    run("train", "ppo", *changed(ppo(loop), *other), "--out", tmp_path / "ppo", *QUIET)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "ppo").config.model_type == arch


def test_sampling_and_scoring_commands(loop, tmp_path):
    prompts, out = loop / "world" / "held_out.jsonl", tmp_path / "s.jsonl"
    run("sample", "--model", loop / "sft", "--data", prompts, "--limit", 5, "--out", out,
        "--best-of", 4, "--reward", loop / "bradley_terry", "--max-tokens", 6, "--quiet")  # fmt: skip
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 5 and all(0 <= r["index"] < 4 for r in rows)
    run(
        "score",
        "--data",
        out,
        "--reward",
        loop / "bradley_terry",
        "--out",
        tmp_path / "scored.jsonl",
    )
    again = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    for row, scored in zip(rows, again, strict=True):
        assert row["reward"] == pytest.approx(scored["reward"], abs=1e-4)
    run("sample", "--model", loop / "sft", "--data", prompts, "--limit", 5, "--out",
        tmp_path / "all.jsonl", "--n", 4, "--reward", loop / "bradley_terry", "--max-tokens", 6,
        "--quiet")  # fmt: skip
    every = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    for i, row in enumerate(rows):
        assert row["reward"] == max(r["reward"] for r in every[4 * i : 4 * i + 4])


def test_chat(loop, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("What is the capital of Peru?\nWhy?\n\n"))
    run("chat", "--model", loop / "sft", "--max-tokens", 6)
    assert len(capsys.readouterr().out.splitlines()) >= 2


def test_commands_that_measure(loop, capsys):
    run("baselines", "--data", loop / "pairs.jsonl", "--held-out", 0.3)
    result = json.loads(capsys.readouterr().out)
    assert result["shorter wins"]["accuracy"] + result["longer wins"]["accuracy"] == pytest.approx(
        1
    )


def test_prompts_that_are_too_long_can_be_left_out(loop, tmp_path, caplog):
    rows = (loop / "pairs.jsonl").read_text().splitlines()[:4]
    rows.append(json.dumps({"prompt": "why? " * 300, "chosen": "a", "rejected": "b"}))
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows) + "\n")
    for job in ("reward", "dpo"):
        run("train", job, "--model", loop / "sft", "--data", tmp_path / "pairs.jsonl", "--on-bad-row", "drop",
            "--max-length", 100, "--out", tmp_path / job, *QUIET)  # fmt: skip
    assert caplog.text.count("of 5 rows 1 were dropped and 0 cut (--on-bad-row drop)") == 2
