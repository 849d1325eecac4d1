"""`--lora.nf4`: adapters on a base in four bits, from command to folder to command."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny
from changed import changed
from heedful.cli import main
from heedful.data.sources import write_rows
from heedful.models.load import load_policy, load_reward_model
from heedful.models.quantised import BYTES
from heedful.models.save import save_model
from test_bad_input import refused

bnb = pytest.importorskip("bitsandbytes")
QUIET = ("--quiet", "--report-to", "none", "--lr", "1e-2", "--warmup", "0")
NF4 = ("--lora.rank", "2", "--load-in-4bit")  # TRL's name for it
PAIRS = [{"prompt": q, "chosen": "Four.", "rejected": "I do not know!"} for q in "abcde"]


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    """base → sft and reward, adapters on it in four bits; ppo goes on from both, its critic from the reward."""
    at = tmp_path_factory.mktemp("nf4")
    tok = tiny.tokenizer()
    (at / "base").mkdir()
    save_model(tiny.policy(tok), tok, at / "base")
    write_rows(at / "pairs.jsonl", PAIRS)
    write_rows(at / "sft.jsonl", [{"prompt": p["prompt"], "completion": "Four."} for p in PAIRS])
    run(at, "sft", "sft", "--model", at / "base", "--data", at / "sft.jsonl", "--epochs", "2")
    run(at, "reward", "reward", "--model", at / "base", "--data", at / "pairs.jsonl")
    run(at, "ppo", "ppo", "--model", at / "sft", "--data", at / "sft.jsonl", "--reward",
        at / "reward", "--steps", "1", "--batch-size", "8", "--max-tokens", "4", "--inner-epochs", "1",
        "--minibatch-size", "0", "--critic-warmup", "0")  # fmt: skip
    return at


def run(at, job, out, *more) -> None:
    assert main(changed(("train", job, "--out", at / out, *NF4, *QUIET), *more)) == 0


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(5, 17)[None]).logits


def test_the_base_is_in_four_bits_and_only_adapters_are_saved(at):
    """Mutation caught: a base in full beside the flag; weights of the base in the folder; a flag that reward models
    or policy gradients do not read."""
    linear = bnb.nn.Linear4bit
    for model in (
        load_policy(at / "sft"),
        load_policy(at / "ppo"),
        load_reward_model(at / "reward"),
    ):
        layers = [m for m in model.modules() if isinstance(m, linear)]
        assert len(layers) == 14 and all(m.weight.dtype == torch.uint8 for m in layers)
    first = layers[0].weight
    held = first.numel() + first.quant_state.absmax.numel()
    assert held == pytest.approx(BYTES * 32 * 32, rel=0.01)
    for name in ("sft", "reward", "ppo"):
        assert not (at / name / "config.json").exists()
        assert json.loads((at / name / "heedful.json").read_text())["heedful_nf4"] is True


def test_learner_and_engine_are_one_policy(at):
    """Sampling takes no gradients and learning does: on a CPU bitsandbytes would take another kernel for each.

    Mutation caught: `settle` left out.
    """
    line = json.loads((at / "ppo" / "metrics.jsonl").read_text().splitlines()[0])
    assert abs(line["policy/approx_kl"]) < 1e-9 and abs(line["kl/seq"]) < 1e-4


def test_merged_it_is_the_same_policy(at, tmp_path):
    """The numbers of NF4 in plain layers, plus the adapter; on the base in full the adapter is another policy.

    Mutation caught: merging into the base in full, or into four bits again; a whole model that says it is quantised.
    """
    assert main(["merge", str(at / "ppo"), "--out", str(tmp_path / "whole")]) == 0
    whole, own = (
        AutoModelForCausalLM.from_pretrained(tmp_path / "whole"),
        logits(load_policy(at / "ppo")),
    )
    torch.testing.assert_close(logits(whole), own, atol=1e-4, rtol=1e-4)
    assert "quantization_config" not in (tmp_path / "whole" / "config.json").read_text()
    assert "nf4" not in (tmp_path / "whole" / "config.json").read_text()
    (at / "ppo" / "heedful.json").rename(at / "notes")
    assert (logits(load_policy(at / "ppo")) - own).abs().max() > 1e-3
    (at / "notes").rename(at / "ppo" / "heedful.json")


def test_a_base_has_its_numbers_of_four_bits_as_a_whole_model(at, tmp_path, capsys):
    """What servers serve beneath the adapter. Mutation caught: the base in full; an adapter merged with it."""
    assert main(["merge", str(at / "base"), "--nf4", "--out", str(tmp_path / "whole")]) == 0
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    full, own = load_policy(at / "base"), load_policy(at / "base", nf4=True)
    assert torch.allclose(logits(whole), logits(own), atol=1e-5)
    assert (logits(full) - logits(own)).abs().max() > 1e-3
    said = refused(capsys, "merge", str(at / "sft"), "--nf4", "--out", str(tmp_path / "no"))
    assert f"--nf4 is for a base, and {at / 'sft'} is an adapter: name {at / 'base'}" in said


def test_what_four_bits_cannot_is_refused(at, capsys):
    """Mutation caught: norms alone trained; a merge that rounds to four bits."""
    words = ["train", "dpo", "--data", at / "pairs.jsonl", "--out", at / "no", *QUIET]
    for more, sentence in (
        (["--model", at / "sft"], "is quantised, and only adapters can be trained on it"),
        (["--model", at / "base", "--lora.nf4"], "no effect without --lora.rank"),
        (["--model", at / "base", *NF4, "--lora.merge"], "heedful merge writes a whole model"),
        (["--model", at / "base", *NF4, "--shard"], "--shard does not go with --load-in-4bit"),
    ):
        assert sentence in refused(capsys, *[str(w) for w in (*words, *more)])
