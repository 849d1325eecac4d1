"""Adapters that others made, on tied embeddings and with added tokens: loaded, merged and saved as the same model."""

import json
import shutil
import warnings
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny
from heedful.errors import UserError
from heedful.models import merging
from heedful.models.load import load_policy, load_tokenizer
from heedful.models.merging import merge, merged_copy
from heedful.models.save import save_model
from heedful.run.files import fingerprint

KINDS = {
    "on the output layer": dict(target_modules=["q_proj", "lm_head"]),
    "on the embedding": dict(target_modules=["q_proj", "embed_tokens"]),
    "both trained whole": dict(target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"]),
    "trained whole, tied": dict(
        target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"], ensure_weight_tying=True
    ),
    "some tokens": dict(target_modules=["q_proj"], trainable_token_indices=[3, 4]),
    "added tokens": dict(target_modules=["q_proj"], added=2),
    "added tokens, trained whole": dict(
        target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"], added=2
    ),
    "added tokens alone trained": dict(target_modules=["q_proj"], added=2, alone=True),
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A model that ties its embeddings."""
    folder = tmp_path_factory.mktemp("bases") / "tied"
    folder.mkdir()
    tok = tiny.tokenizer()
    model = tiny.policy(tok)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(4.0) if p.ndim > 1 else None
    save_model(model, tok, folder)
    return folder


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(5, 25)[None]).logits


def made_by_peft(
    base: Path, folder: Path, added: int = 0, alone: bool = False, **options
) -> torch.Tensor:
    """An adapter of another program's, its tokenizer beside it; returns the logits that it had there.

    `alone`: of the embedding only the rows of the `added` tokens are trained.
    """
    model, tok = AutoModelForCausalLM.from_pretrained(base), load_tokenizer(base)
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's advice on tied layers
        if added:
            tok.add_special_tokens({"additional_special_tokens": [f"<{i}>" for i in range(added)]})
            model.resize_token_embeddings(len(tok))
        if alone:
            options["trainable_token_indices"] = list(range(len(tok) - added, len(tok)))
        model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", r=4, **options))
        with torch.no_grad():
            for p in model.parameters():
                if p.requires_grad:
                    p.add_(torch.randn_like(p) * 0.3)
        model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return logits(model)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_the_merged_model_is_the_same(base, tmp_path, kind):
    """Loaded here, merged, merged and loaded by plain transformers, and saved again as an adapter.

    Mutation caught: a delta added to the tensor that embedding and output layer share (20 to 90 nats off); rows of
    added tokens that do not fit, or that are left behind when the adapter is saved again.
    """
    expected = made_by_peft(base, tmp_path / "theirs", **KINDS[kind])
    scale = float(expected.abs().max())
    model, tok = load_policy(tmp_path / "theirs"), load_tokenizer(tmp_path / "theirs")
    assert torch.allclose(logits(model), expected, atol=1e-5 * scale)
    for name, saved in (("merged", merged_copy(model)), ("again", model)):
        (tmp_path / name).mkdir()
        save_model(saved, tok, tmp_path / name)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.allclose(logits(plain), expected, atol=1e-4 * scale)
    assert torch.allclose(logits(load_policy(tmp_path / "again")), expected, atol=1e-5 * scale)


@pytest.mark.parametrize(
    "damage, sentence",
    [
        ({"base_model_name_or_path": "no_such_base"}, "the base of the adapter .* no_such_base: there is no"),
        ("version https://git-lfs.github.com/spec/v1\n", "adapter_model.safetensors is a pointer of git-lfs"),
        ("<html>", "adapter_model.safetensors is damaged"),
        (None, "adapter_model.bin only, a pickle"),
    ],
)  # fmt: skip
def test_adapters_that_are_not_whole(base, tmp_path, damage, sentence):
    """Mutation caught: a base that is looked for under the adapter's name; the errors of other libraries."""
    made_by_peft(base, tmp_path / "theirs", **KINDS["on the output layer"])
    weights, config = (
        tmp_path / "theirs" / f"adapter_{x}" for x in ("model.safetensors", "config.json")
    )
    if isinstance(damage, dict):
        config.write_text(json.dumps(json.loads(config.read_text()) | damage))
    elif damage:
        weights.write_text(damage)
    else:
        weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(UserError, match=sentence):
        load_policy(tmp_path / "theirs")


def test_an_adapter_with_files_of_a_whole_model_beside_it(base, tmp_path):
    """A copied config.json changes nothing; with weights too nobody knows which is meant.

    Mutation caught: transformers' own way, which puts the adapter on its base under a name that we train on.
    """
    expected = made_by_peft(base, tmp_path / "theirs", **KINDS["on the output layer"])
    shutil.copy(base / "config.json", tmp_path / "theirs")
    model = load_policy(tmp_path / "theirs")
    assert torch.allclose(logits(model), expected, atol=1e-5 * float(expected.abs().max()))
    shutil.copy(base / "model.safetensors", tmp_path / "theirs")
    with pytest.raises(UserError, match="holds a whole model and an adapter beside it"):
        load_policy(tmp_path / "theirs")
    with pytest.raises(UserError, match=r"holds no model; did you mean .*theirs"):
        load_policy(tmp_path)
    with pytest.raises(UserError, match="that is a file"):
        load_policy(base / "model.safetensors")


def test_a_base_that_is_named_as_it_was_seen_elsewhere(base, tmp_path, monkeypatch):
    """PEFT writes a base's name as it was typed, and looks for it from wherever one is. Mutation caught: that; the
    first of two that it may be, in silence."""
    project = tmp_path / "project"
    shutil.copytree(base, project / "tied")
    expected = made_by_peft(base, project / "theirs", **KINDS["on the output layer"])
    file = project / "theirs" / "adapter_config.json"
    for name in ("tied", "../tied"):
        file.write_text(
            json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": name})
        )
        for place in (project, tmp_path):
            monkeypatch.chdir(place)
            same = logits(load_policy(project / "theirs"))
            assert torch.allclose(same, expected, atol=1e-5 * float(expected.abs().max()))
    outside = fingerprint(project / "theirs")
    monkeypatch.chdir(project)
    assert fingerprint(project / "theirs") == outside
    shutil.copytree(base, tmp_path / "tied")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"base model of the adapter .* may be .*tied or .*tied; wr"
    ):
        load_policy(project / "theirs")


def test_another_model_is_refused(base, tmp_path, monkeypatch):
    """Mutation caught: no comparison. As it was before the output layer got weights of its own."""
    made_by_peft(base, tmp_path / "theirs", **KINDS["on the output layer"])
    monkeypatch.setattr(merging, "_untie", lambda model: True)
    with pytest.raises(UserError, match="the merged model would be another one, whose log-probs"):
        merge(load_policy(tmp_path / "theirs"))
