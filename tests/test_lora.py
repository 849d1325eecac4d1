"""LoRA, frozen layers, gradient checkpointing and bfloat16 as a user types them, from command to folder to command."""

import io
import json
import math
import sys
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import tiny
from heedful.cli import main
from heedful.models.save import save_model
from heedful.rewards.model import SCALE, SHIFT, ModelReward
from heedful.run import fingerprint
from test_bad_input import refused, write

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing")  # PEFT's own call
QUIET = ("--quiet", "--report-to", "none", "--lr", "1e-2")
LORA = ("--lora.rank", "4")


def chat(question):
    return [{"role": "user", "content": question}]


QUESTIONS = ["What is 2 + 2?", "Capital of Peru?", "Legs of a spider?", "Who are you?", "Why?"]
DEMONSTRATIONS = [{"prompt": chat(q), "completion": "Four, of course."} for q in QUESTIONS]
PAIRS = [{"prompt": chat(q), "chosen": "Four.", "rejected": "I do not know!"} for q in QUESTIONS]


def run(*args) -> None:
    assert main([str(a) for a in args]) == 0


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def loop(tmp_path_factory) -> Path:
    """base → sft (adapter) → dpo and reward (adapters that go on from it)."""
    at = tmp_path_factory.mktemp("lora")
    (at / "base").mkdir()
    tok = tiny.tokenizer()
    save_model(tiny.policy(tok), tok, at / "base")
    write(at / "sft.jsonl", *DEMONSTRATIONS)
    write(at / "pairs.jsonl", *PAIRS)
    write(at / "text.jsonl", *({"text": t} for t in tiny.TEXT * 4))
    run("train", "sft", "--model", at / "base", "--data", at / "sft.jsonl", "--out", at / "sft",
        "--epochs", 6, *LORA, *QUIET)  # fmt: skip
    for job in ("dpo", "reward"):
        run("train", job, "--model", at / "sft", "--data", at / "pairs.jsonl", "--out", at / job,
            "--epochs", 3, "--save-every", 1, "--batch-size", 5, *LORA, *QUIET)  # fmt: skip
    return at


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(5, 17)[None]).logits


def plain(base: Path, adapter: Path) -> torch.Tensor:
    """By PEFT alone."""
    return logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter))


@pytest.mark.parametrize("name", ["sft", "dpo", "dpo/checkpoints/000001"])
def test_runs_leave_adapters(loop, name):
    """Equal logits by plain PEFT and by transformers, tokenizer and card beside them.

    Mutation caught: weights of the base saved along, a card that promises a whole model.
    """
    folder = loop / name
    assert not (folder / "config.json").exists() and not (folder / "model.safetensors").exists()
    assert all("lora_" in key for key in load_file(folder / "adapter_model.safetensors"))
    assert torch.allclose(
        plain(loop / "base", folder), logits(AutoModelForCausalLM.from_pretrained(folder))
    )
    assert AutoTokenizer.from_pretrained(folder).chat_template
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: peft\ntags: ")  # a folder is no base to the hub
    assert f"A LORA adapter of rank 4 on `{loop / 'base'}`" in card


def test_14_dpo_on_an_sft_adapter_starts_at_ln_2(loop):
    """Trap 14, by the command. Mutation caught: log-probs of the reference from the bare base.

    The base is far from the SFT policy, so that the loss would start elsewhere.
    """
    assert metrics(loop / "dpo")[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert metrics(loop / "dpo")[-1]["loss"] < 0.69
    base = logits(AutoModelForCausalLM.from_pretrained(loop / "base"))
    assert (plain(loop / "base", loop / "sft") - base).abs().max() > 0.05


def test_reward_adapters(loop):
    """Head, shift and adapter in one folder; scores have mean 0 and std 1 as those of whole models do."""
    folder = loop / "reward"
    assert (
        "base_model.model.score.weight" in load_file(folder / "adapter_model.safetensors").keys()  # noqa: SIM118
    )
    reward = ModelReward.load(str(folder))
    notes = json.loads((folder / "heedful.json").read_text())
    assert reward.shift == notes[SHIFT] / notes[SCALE]
    base = AutoModelForSequenceClassification.from_pretrained(loop / "base", num_labels=1)
    theirs = logits(PeftModel.from_pretrained(base, folder)).squeeze()
    ours = logits(reward.model).squeeze()
    assert torch.allclose(theirs / notes[SCALE], ours, atol=1e-5 / notes[SCALE])


def test_adapters_are_models_to_every_command(loop, tmp_path, monkeypatch):
    for args in (
        ["sample", "--model", loop / "dpo", "--data", loop / "sft.jsonl", "--n", 2, "--max-tokens",
         4, "--out", tmp_path / "s.jsonl", "--reward", loop / "reward", "--quiet"],
        ["score", "--data", tmp_path / "s.jsonl", "--reward", loop / "reward", "--out",
         tmp_path / "scored.jsonl"],
        ["evaluate", "--model", loop / "dpo", "--reference", loop / "sft", "--data",
         loop / "sft.jsonl", "--max-tokens", 4, "--out", tmp_path / "eval", "--quiet"],
    ):  # fmt: skip
        run(*args)
    monkeypatch.setattr("sys.stdin", io.StringIO("Why?\n\n"))
    run("chat", "--model", loop / "dpo", "--max-tokens", 4)
    assert json.loads((tmp_path / "eval" / "evaluation.json").read_text())["kl"] != 0


def test_merge(loop, tmp_path):
    """Mutation caught: α/r counted twice, the head lost, a dtype that is not asked for."""
    run("merge", loop / "dpo", "--out", tmp_path / "whole")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    assert torch.allclose(logits(whole), plain(loop / "base", loop / "dpo"), atol=1e-5)
    run("merge", loop / "reward", "--out", tmp_path / "reward")
    ours, theirs = (ModelReward.load(str(f)) for f in (tmp_path / "reward", loop / "reward"))
    assert torch.allclose(logits(ours.model), logits(theirs.model), atol=1e-5)
    assert ours.shift == theirs.shift
    run("merge", loop / "dpo", "--out", tmp_path / "half", "--dtype", "bfloat16")
    assert {t.dtype for t in load_file(tmp_path / "half" / "model.safetensors").values()} == {
        torch.bfloat16
    }


def test_lora_merge_saves_whole_models_that_say_the_same(loop, tmp_path):
    """The same run with and without --lora.merge. Mutation caught: the adapter merged while it is trained."""
    args = ["--model", loop / "sft", "--data", loop / "pairs.jsonl", "--epochs", 3,
            "--batch-size", 5, "--save-every", 1, *LORA, *QUIET]  # fmt: skip
    run("train", "dpo", *args, "--lora.merge", "--out", tmp_path / "whole")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    assert torch.allclose(logits(whole), plain(loop / "base", loop / "dpo"), atol=1e-5)
    assert (tmp_path / "whole" / "checkpoints" / "000001" / "config.json").exists()


def test_without_rank_an_adapter_is_merged_and_all_of_it_trained(loop, tmp_path):
    run("train", "dpo", "--model", loop / "sft", "--data", loop / "pairs.jsonl", "--out",
        tmp_path / "dpo", *QUIET)  # fmt: skip
    rows = metrics(tmp_path / "dpo")
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "dpo").state_dict()
    before = AutoModelForCausalLM.from_pretrained(loop / "base").state_dict()
    assert not any(torch.equal(after[k], before[k]) for k in before if "layernorm" in k)


def test_the_same_seed_gives_the_same_bytes(loop, tmp_path):
    """From the saved config, nested options included. Mutation caught: sets in an order of the moment."""
    config = yaml.safe_load((loop / "sft" / "config.yaml").read_text())
    assert config["lora"]["rank"] == 4 and config["lora"]["targets"] == ["all-linear"]
    run("train", "sft", "--config", loop / "sft" / "config.yaml", "--out", tmp_path / "again")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (loop / "sft" / name).read_bytes()
    assert fingerprint(tmp_path / "again") == fingerprint(loop / "sft")


def test_an_adapter_is_what_it_is_on_its_base(loop, tmp_path):
    """Mutation caught: a fingerprint that does not see the base change under the adapter."""
    before = fingerprint(loop / "sft")
    config = loop / "base" / "generation_config.json"
    text = config.read_text()
    try:
        config.write_text(text + "\n")
        assert fingerprint(loop / "sft") != before
    finally:
        config.write_text(text)


@pytest.mark.parametrize("job", ["sft", "dpo", "reward", "pretrain"])
def test_every_switch_at_once(loop, job, tmp_path, capsys):
    """bfloat16, frozen layers, recomputed layers and LoRA together; the same loss as without recomputing.

    Mutation caught: a new pre-trained model that stays in float32; bottom layers that learn.
    """
    data = {"sft": "sft.jsonl", "pretrain": "text.jsonl"}.get(job, "pairs.jsonl")
    common = ["train", job, "--model", loop / "base", "--data", loop / data, "--freeze", 1,
              "--dtype", "bfloat16", *QUIET]  # fmt: skip
    common += ["--steps", 3, "--pack-length", 32] if job == "pretrain" else []
    run(*common, *LORA, "--out", tmp_path / "plain")
    run(*common, *LORA, "--gradient-checkpointing", "--out", tmp_path / "recomputed")
    assert "parameters are trained (" in capsys.readouterr().err
    for a, b in zip(metrics(tmp_path / "plain"), metrics(tmp_path / "recomputed"), strict=True):
        assert a["loss"] == b["loss"]
    weights = load_file(tmp_path / "plain" / "adapter_model.safetensors")
    for key, tensor in weights.items():
        if "lora_B" in key:
            assert bool(tensor.any()) == ("layers.1" in key), key
            assert tensor.dtype == torch.float32
    run(*common, "--out", tmp_path / "whole")
    after = load_file(tmp_path / "whole" / "model.safetensors")
    before = load_file(loop / "base" / "model.safetensors")
    still = {k for k in before if torch.equal(after[k], before[k].bfloat16())}
    assert still == {k for k in before if "layers.0" in k or "embed" in k}


def test_pretraining_from_nothing_in_bfloat16(loop, tmp_path):
    run("train", "pretrain", "--data", loop / "text.jsonl", "--out", tmp_path / "new", "--steps", 2,
        "--hidden-size", 32, "--layers", 1, "--heads", 2, "--vocab-size", 300, "--dtype",
        "bfloat16", *QUIET)  # fmt: skip
    tensors = load_file(tmp_path / "new" / "model.safetensors").values()
    assert {t.dtype for t in tensors} == {torch.bfloat16}


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--lora.rank", "-1"], "--lora.rank -1: must be at least 0"),
        (["--lora-r", "4", "--lora-alpha", "0"], ": must be above 0"),
        (["--lora.alpha", "16"], "options of --lora have no effect without --lora.rank"),
        (["--lora.merge"], "options of --lora have no effect without --lora.rank"),
        ([*LORA, "--lora.dropout", "0.05"], "--lora.dropout 0.05: dropout is always off"),
        ([*LORA, "--lora.targets", "q_prj"], "(did you mean 'q_proj'?)"),
        ([*LORA, "--lora.rnak", "3"], "has no option --lora.rnak (did you mean '--lora.rank'?)"),
        (["--freeze", "9"], "--freeze 9 does not fit a model of 2 layers"),
        (["--freeze", "-1"], "--freeze -1: must be at least 0"),
        (["--gradient-accumulation-steps", "8"], "--micro-batch-tokens how much of it is in memory"),
    ],
)  # fmt: skip
def test_wrong_flags_leave_nothing(loop, tmp_path, capsys, flags, sentence):
    args = ["train", "sft", "--model", loop / "base", "--data", loop / "sft.jsonl", *QUIET]
    assert sentence in refused(capsys, *args, "--out", tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


def test_lora_without_peft(loop, tmp_path, capsys, monkeypatch):
    """Mutation caught: a traceback, or adapters silently left off where PEFT is missing."""
    monkeypatch.setitem(sys.modules, "peft", None)
    wanted = "adapters need the package peft: pip install 'heedful[lora]'"
    args = ["train", "sft", "--data", loop / "sft.jsonl", "--out", tmp_path / "out", *QUIET]
    assert wanted in refused(capsys, *args, "--model", loop / "base", *LORA)
    assert wanted in refused(capsys, *args, "--model", loop / "sft")
    run(*args, "--model", loop / "base")


def test_what_merging_refuses(loop, tmp_path, capsys):
    assert "is no adapter" in refused(capsys, "merge", loop / "base", "--out", tmp_path / "out")
    assert "already holds a finished model" in refused(
        capsys, "merge", loop / "sft", "--out", loop / "dpo"
    )
    assert "no such folder" in refused(
        capsys, "merge", tmp_path / "gone", "--out", tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()


def test_a_finished_adapter_is_not_overwritten(loop, capsys):
    """Mutation caught: config.json as the only sign that a run has finished."""
    args = ["train", "sft", "--model", loop / "base", "--data", loop / "sft.jsonl", *QUIET, *LORA]
    assert "already holds a finished model" in refused(capsys, *args, "--out", loop / "sft")


def test_lora_needs_a_model_to_stand_on(loop, tmp_path, capsys):
    args = ["train", "pretrain", "--data", loop / "text.jsonl", "--out", tmp_path / "out",
            "--hidden-size", 32, "--layers", 1, "--heads", 2, "--vocab-size", 300]  # fmt: skip
    assert "LoRA needs a saved model" in refused(capsys, *args, *LORA, *QUIET)
    assert not (tmp_path / "out").exists()
