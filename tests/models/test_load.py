"""What is saved is what is loaded."""

import json

import huggingface_hub
import pytest
import torch
from safetensors.numpy import save

import tiny
from heedful.data.tokens import all_stop_tokens, special_ids
from heedful.errors import UserError
from heedful.models import load
from heedful.models.load import load_policy, load_tokenizer, refuse_other_ids, settle
from heedful.models.save import save_model


@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_a_tokenizer_comes_back_as_it_was(arch, tmp_path):
    """Mutation caught: AutoTokenizer, which splits text by the rules of Qwen2 wherever the model is one."""
    tok = tiny.tokenizer()
    save_model(tiny.policy(tok, arch=arch), tok, tmp_path)
    again = load_tokenizer(str(tmp_path))
    text = "What is 2 + 2? Zwölf Boxkämpfer, 1234!"
    assert again.get_vocab() == tok.get_vocab()
    assert again(text)["input_ids"] == tok(text)["input_ids"]
    chat = [{"role": "user", "content": text}]
    said = [t.apply_chat_template(chat, add_generation_prompt=True) for t in (tok, again)]
    assert said[0] == said[1]
    assert (again.eos_token_id, again.pad_token_id) == (tok.eos_token_id, tok.pad_token_id)


def test_a_model_of_the_hub_stays_in_its_files_too(tmp_path, monkeypatch):
    """Until it is shared out, also where its weights are in several files. Mutation caught: the run's type given on
    loading of whatever is no folder, which takes memory for all of it in each rank."""
    snapshot = tmp_path / "models--some--body" / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--some--body" / "refs").mkdir()
    (tmp_path / "models--some--body" / "refs" / "main").write_text("0")
    policy = tiny.policy(tiny.tokenizer()).to(torch.bfloat16)
    policy.save_pretrained(snapshot, max_shard_size="20KB")
    assert not (snapshot / "model.safetensors").exists()
    for name, value in {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": True}.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    mapped = load_policy("some/body", mapped=True)
    assert {p.dtype for p in mapped.parameters()} == {torch.bfloat16}
    whole = dict(load_policy("some/body").named_parameters())
    for name, p in settle(mapped).named_parameters():
        assert p.dtype == torch.float32 and p.equal(whole[name])


def test_two_tensors_that_a_config_calls_one_stay_two(tmp_path, caplog):
    """Mutation caught: a model is saved whose config has other readers tie them, and read another model."""
    tok = tiny.tokenizer()
    tiny.causal_lm("llama", vocab=len(tok)).save_pretrained(tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"tie_word_embeddings": True}))
    model = load_policy(tmp_path / "m")
    assert "two that differ" in caplog.text
    save_model(model, tok, tmp_path / "out")
    assert (
        json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False
    )
    caplog.clear()
    save_model(tiny.policy(tok), tok, tmp_path / "tied")
    assert load_policy(tmp_path / "tied").config.tie_word_embeddings and not caplog.text


def test_the_ends_that_a_model_declares(tmp_path):
    """Mutation caught: a file that cannot be read, or an end that is no number, is no end in silence."""
    tok = tiny.tokenizer()
    save_model(tiny.policy(tok), tok, tmp_path)
    path = tmp_path / "generation_config.json"
    ends = sorted(special_ids(tok))
    path.write_text(json.dumps({"eos_token_id": [*ends, None]}))
    assert set(all_stop_tokens(load_tokenizer(tmp_path))) == {*ends}
    for text, words in [
        ("{", "generation_config.json is not a JSON object"),
        ("[1]", "generation_config.json is not a JSON object"),
        ('{"eos_token_id": "2"}', "must be a token's number or a list of such, not '2'"),
        ('{"eos_token_id": [2, "x"]}', "must be a token's number"),
    ]:
        path.write_text(text)
        with pytest.raises(UserError, match=words):
            load_tokenizer(tmp_path)


def test_a_reference_of_other_tokens_is_refused(tmp_path):
    """Mutation caught: log-probs of a policy's ids by a model to which they are other words, a KL of nothing. A few
    renamed tokens, more of them, or none that are known are no matter."""
    tok = tiny.tokenizer()
    vocab = json.loads(tok.backend_tokenizer.to_str())["model"]["vocab"]
    for name in ("policy", "renamed", "other"):
        tok.save_pretrained(tmp_path / name)
    saved = tmp_path / "renamed" / "tokenizer.json"
    first = next(token for token, i in vocab.items() if i == 40)
    text = json.loads(saved.read_text())
    text["model"]["vocab"] = {("new" if token == first else token): i for token, i in vocab.items()}
    text["model"]["merges"] = []
    saved.write_text(json.dumps(text))
    saved = tmp_path / "other" / "tokenizer.json"
    last = max(vocab.values())
    text["model"]["vocab"] = {token: last - i for token, i in vocab.items()}
    saved.write_text(json.dumps(text))
    (tmp_path / "none").mkdir()
    for name in ("policy", "renamed", "none"):
        refuse_other_ids(str(tmp_path / "policy"), str(tmp_path / name))
    with pytest.raises(UserError, match=r"--reference .*other: .* ids are other tokens there"):
        refuse_other_ids(str(tmp_path / "policy"), str(tmp_path / "other"))


def test_an_encoder_with_a_decoder_is_refused_in_a_sentence(tmp_path):
    """Mutation caught: the list of all classes that transformers has."""
    tiny.tokenizer().save_pretrained(tmp_path)
    config = {"model_type": "t5", "vocab_size": 320, "d_model": 8, "architectures": ["T5Model"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(save({}))
    with pytest.raises(
        UserError, match="a T5 is no causal language model; heedful trains decoders"
    ):
        load_policy(tmp_path)


def test_a_gpu_that_nobody_asked_for_is_told_once(monkeypatch, caplog):
    """Mutation caught: who comes from a trainer that takes the GPU by itself trains on the CPU for days."""
    load._tell_of_idle_gpus.cache_clear()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for _ in range(2):
        assert load.device_of("cpu").type == "cpu"
    assert caplog.text.count("--device auto") == 1
    load._tell_of_idle_gpus.cache_clear()
    caplog.clear()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert load.device_of("cpu").type == "cpu" and not caplog.text
    load._tell_of_idle_gpus.cache_clear()
