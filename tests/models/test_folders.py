"""Folders that people bring: whole, or refused in one sentence before anything is spent."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import tiny
from heedful.errors import UserError
from heedful.models.forward import scalar_head, token_logps
from heedful.models.load import load_policy, load_reward_model, load_tokenizer, new_reward_model
from heedful.models.save import save_model

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 172416\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "m"
    folder.mkdir()
    tok = tiny.tokenizer()
    save_model(tiny.policy(tok), tok, folder)
    return folder


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "m"))


def pointer(name):
    return lambda folder: (folder / name).write_text(POINTER)


def half(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def no_header(folder):
    (folder / "model.safetensors").write_bytes(b"<html>404</html>")


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def without(name):
    return lambda folder: (folder / name).unlink()


def one_shard_less(folder):
    load_policy(folder).save_pretrained(folder, max_shard_size="60KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    sorted(folder.glob("model-0*"))[1].unlink()


def config(**changes):
    def change(folder):
        told = json.loads((folder / "config.json").read_text()) | changes
        told = {k: v for k, v in told.items() if v is not None}
        (folder / "config.json").write_text(json.dumps(told))

    return change


@pytest.mark.parametrize(
    "damage, sentence",
    [
        (pointer("model.safetensors"), "model.safetensors is a pointer of git-lfs"),
        (pointer("tokenizer.json"), "tokenizer.json is a pointer of git-lfs"),
        (half, r"model.safetensors is damaged: it has .* bytes, not "),
        (no_header, "model.safetensors is damaged"),
        (pickled, "pytorch_model.bin only, a pickle"),
        (without("model.safetensors"), "no file named model.safetensors"),
        (without("tokenizer.json"), "the folder has no tokenizer"),
        (one_shard_less, r"1 of \d files of weights are missing, such as model-00002"),
        (config(model_type="llama9"), "llama9"),
        (config(model_type=None), "model_type"),
        (
            config(intermediate_size=17),
            r"is \[32, 96\] in its weights and \[32, 17\] by its config",
        ),
        (config(num_hidden_layers=3), "no weights for model.layers.2.* and 6 more"),
        (
            config(quantization_config={"quant_method": "awq", "bits": 4}),
            "cannot load a causal language model from it: .*pip install",
        ),
    ],
)
def test_what_is_not_whole_is_refused(copy, damage, sentence):
    """Mutation caught: SafetensorError and RuntimeError of others; a pickle that is run; random weights."""
    damage(copy)
    with pytest.raises(UserError, match=sentence) as refused:
        load_tokenizer(copy)
        load_policy(copy)
    assert "\n" not in str(refused.value)


def test_layers_that_are_left_out_are_said(copy, caplog):
    """Mutation caught: half of a model trained in silence, because transformers warns and we are quiet."""
    config(num_hidden_layers=1)(copy)
    load_policy(copy)
    assert "holds 9 weights that have no place" in caplog.text


def test_a_trained_head_is_kept(whole, tmp_path, caplog):
    """`train reward` on a reward model goes on from it, whatever the seed; a head is drawn only where there is none.

    Mutation caught: the head drawn anew whatever was loaded; a body with random weights under a new head.
    """
    first, tok = new_reward_model(str(whole), seed=0), load_tokenizer(whole)
    assert "trained head" not in caplog.text
    (tmp_path / "rm").mkdir()
    save_model(first, tok, tmp_path / "rm")
    again = new_reward_model(str(tmp_path / "rm"), seed=5)
    assert torch.equal(scalar_head(again).weight, scalar_head(first).weight)
    assert "its trained head is kept" in caplog.text
    assert not torch.equal(
        scalar_head(new_reward_model(str(whole), seed=5)).weight, scalar_head(first).weight
    )
    five = AutoModelForSequenceClassification.from_pretrained(whole, num_labels=5)
    (tmp_path / "five").mkdir()
    save_model(five, tok, tmp_path / "five")
    with pytest.raises(UserError, match=r"a head of 5 labels .* exactly one"):
        new_reward_model(str(tmp_path / "five"), seed=0)
    with pytest.raises(UserError, match="5 labels"):
        load_reward_model(str(tmp_path / "five"))
    config(num_hidden_layers=3)(Path(shutil.copytree(whole, tmp_path / "deep")))
    with pytest.raises(UserError, match="they would be random"):
        new_reward_model(str(tmp_path / "deep"), seed=0)


def test_pad_is_eos_and_the_end_still_learns(whole, tmp_path):
    """Loaded from a config that says pad_token_id = eos, and from what we save of it.

    Mutation caught: nn.Embedding's padding_idx, which gives the row of the end token no gradient, from the second
    stage on; a reward model that plain transformers scores one token too early.
    """
    tok = load_tokenizer(whole)
    tok.pad_token = tok.eos_token
    model, seen = tiny.policy(tok), tmp_path / "seen"
    for folder in (seen, tmp_path / "ours", tmp_path / "reward"):
        folder.mkdir()
    model.config.pad_token_id = tok.eos_token_id
    model.save_pretrained(seen)
    save_model(model, tok, tmp_path / "ours")
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["pad_token_id"] is None
    ids = torch.tensor([[9, 8, tok.eos_token_id, 7, 6]])
    for folder in (seen, tmp_path / "ours"):
        policy = load_policy(folder)
        token_logps(policy, ids, torch.ones(1, 4, dtype=torch.bool)).sum().backward()
        assert policy.get_input_embeddings().weight.grad[tok.eos_token_id].norm() > 0
    save_model(new_reward_model(str(seen), seed=0), tok, tmp_path / "reward")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward")
    plain = load_tokenizer(tmp_path / "reward")
    assert plain.pad_token_id == theirs.config.pad_token_id != plain.eos_token_id
    rows = torch.tensor([[9, 8, plain.eos_token_id], [9, plain.eos_token_id, plain.pad_token_id]])
    with torch.no_grad():
        alone = theirs(input_ids=rows[1:, :2]).logits
        assert torch.allclose(theirs(input_ids=rows).logits[1:], alone, atol=1e-5)
        head = scalar_head(theirs)(theirs.model(input_ids=rows[1:, :2]).last_hidden_state[:, -1])
    assert torch.allclose(head, alone, atol=1e-5)


def test_a_folder_that_was_made_of_a_gguf_is_plain(copy):
    """Its weights are numbers, though its config, as transformers leaves it, says otherwise. Mutation caught: such a
    model is taken for a quantised one, of which only adapters can be trained."""
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    said = {"quant_method": "gguf", "gguf_file": "m.Q4_1.gguf", "dequantize": False}
    (copy / "config.json").write_text(json.dumps(config | {"quantization_config": said}))
    model = load_policy(copy)
    assert not model.is_quantized
    model.save_pretrained(copy / "again")
    assert "quantization_config" not in json.loads((copy / "again" / "config.json").read_text())


def test_a_gguf_is_told(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"GGUF files are for llama\.cpp: name the folder"):
        load_policy(tmp_path)
    with pytest.raises(UserError, match=r"that is a file; .* that a GGUF was made from"):
        load_policy(tmp_path / "m.gguf")
