"""The last step is rehearsed before the first, the card tells how to load what was saved, the hub gets it if asked."""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GenerationConfig,
)

import tiny
from changed import changed
from families import SIZES
from heedful.cli import main
from heedful.models import rehearsal
from heedful.models.load import load_policy, load_tokenizer
from heedful.models.save import save_model
from heedful.rewards.model import ModelReward
from heedful.training import saving
from heedful.training.card import page
from test_bad_input import refused, write

CHAT = [{"role": "user", "content": "What is the capital of Peru?"}]
PAIRS = [
    {"prompt": CHAT, "chosen": "Lima.", "rejected": f"{n}?"} for n in ("Rome", "Paris", "Bonn")
]
QUIET = ("--quiet", "--report-to", "none", "--lr", "1e-2")


@pytest.fixture(scope="module")
def at(tmp_path_factory) -> Path:
    """A model whose generation config says a temperature and not do_sample, pairs, and a run of each kind on them."""
    at = tmp_path_factory.mktemp("saving")
    tok = tiny.tokenizer()
    (at / "m").mkdir()
    save_model(tiny.policy(tok), tok, at / "m")
    said = {"temperature": 0.6, "top_p": 0.9, "eos_token_id": tok.eos_token_id}
    (at / "m" / "generation_config.json").write_text(json.dumps(said))
    write(at / "pairs.jsonl", *PAIRS)
    run(at, "dpo", at / "dpo")
    run(at, "dpo", at / "lora", "--lora.rank", 2)
    run(at, "reward", at / "reward")
    run(at, "reward", at / "lora reward", "--lora.rank", 2)
    return at


def run(at, job, out, *flags) -> None:
    assert main([str(a) for a in command(at, job, out, *flags)]) == 0


def command(at, job, out, *flags):
    data = at / "pairs.jsonl"
    words = ["train", job, "--model", at / "m", "--data", data, "--out", out, *QUIET]
    return changed(words, *flags)


def code(folder: Path) -> str:
    return (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]


@pytest.mark.parametrize("name", ["dpo", "lora"])
def test_a_policys_card_runs_and_tells_what_it_is(at, name):
    """Mutation caught: the architecture of a default; a snippet without imports or with a prompt that is no chat."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(code(at / name), {})
    assert said.getvalue().strip()
    card = (at / name / "README.md").read_text()
    expected = (
        "A `LlamaForCausalLM`, in float32" if name == "dpo" else "A LORA adapter of rank 2 on"
    )
    assert expected in card and "heedful train dpo --config config.yaml" in card
    settings = yaml.safe_load((at / name / "config.yaml").read_text())
    assert settings["command"] == "train dpo"


@pytest.mark.parametrize("name", ["reward", "lora reward"])
def test_a_reward_models_card_gives_heedfuls_rewards(at, name):
    """Mutation caught: a score that is read at another token, a shift or scale that is left out."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(code(at / name), {})
    from heedful.data.tokens import encode_example

    ours = ModelReward.load(str(at / name))
    expected = ours.score([encode_example(ours.tokenizer, _messages(), "Lima.")])[0]
    assert float(said.getvalue().split()[1]) == pytest.approx(expected, abs=1e-3)


def _messages():
    from heedful.types import Message

    return (Message("user", CHAT[0]["content"]),)


def test_the_config_beside_a_run_makes_it_again(at, tmp_path):
    run_again = ["train", "dpo", "--config", at / "dpo" / "config.yaml", "--out", tmp_path / "again"]  # fmt: skip
    assert main([str(a) for a in run_again]) == 0
    weights = [(f / "model.safetensors").read_bytes() for f in (at / "dpo", tmp_path / "again")]
    assert weights[0] == weights[1]


def test_a_generation_config_that_cannot_be_saved_is_mended_and_said(at, tmp_path, caplog):
    """Mutation caught: ValueError of transformers after the last step, and everything that was trained is gone."""
    saved = GenerationConfig.from_pretrained(at / "dpo")
    assert (saved.do_sample, saved.temperature, saved.top_p) == (True, 0.6, 0.9)
    model, tok = load_policy(at / "m"), load_tokenizer(at / "m")
    for told, expected in (
        (dict(do_sample=False, temperature=0.6), dict(do_sample=(False,), temperature=(None, 1.0))),
        (dict(temperature=0.0), dict(do_sample=(None, False), temperature=(None, 1.0))),
        (dict(num_beams=1, early_stopping=True), dict(early_stopping=(None, False))),
    ):
        model.generation_config = GenerationConfig()
        for key, value in told.items():
            setattr(model.generation_config, key, value)
        save_model(model, tok, tmp_path)
        again = GenerationConfig.from_pretrained(tmp_path)
        assert all(getattr(again, key) in values for key, values in expected.items())
        assert "is saved mended" in caplog.text


@pytest.mark.parametrize("trouble", ["raises", "another model", "names", "tokenizer"])
def test_what_cannot_be_saved_is_told_before_the_first_step(
    at, tmp_path, capsys, monkeypatch, trouble
):
    """Mutation caught: no rehearsal; one that looks at nothing. Nothing is left behind, not even the folder."""
    from transformers import PreTrainedModel

    whole = PreTrainedModel.save_pretrained

    def broken(self, folder, **given):
        if trouble == "raises":
            raise ValueError("GenerationConfig is invalid")
        if trouble == "another model":
            given["state_dict"] = {k: v * 1.1 for k, v in given["state_dict"].items()}
        if trouble == "names":
            self.config.intermediate_size += 1
        whole(self, folder, **given)

    if trouble == "names":
        monkeypatch.setattr(rehearsal, "SMALL", 0)
        monkeypatch.setattr(saving, "SMALL", 0)
    if trouble == "tokenizer":
        real = rehearsal.load_tokenizer
        monkeypatch.setattr(rehearsal, "load_tokenizer", lambda folder: _other(real(folder)))
    else:
        monkeypatch.setattr(PreTrainedModel, "save_pretrained", broken)
    sentence = refused(capsys, *command(at, "dpo", tmp_path / "out"))
    words = {
        "raises": "the model could not be saved: ValueError: GenerationConfig is invalid",
        "another model": "another model than what is trained",
        "names": "the config that would be saved is of another model",
        "tokenizer": "its end token would change",
    }
    assert words[trouble] in sentence and not (tmp_path / "out").exists()


def _other(tokenizer):
    tokenizer.eos_token = tokenizer.pad_token
    return tokenizer


def test_a_large_model_is_rehearsed_without_its_weights(at, tmp_path, monkeypatch):
    """Mutation caught: gigabytes written twice; a final save that forgets them as well."""
    monkeypatch.setattr(rehearsal, "SMALL", 0)
    monkeypatch.setattr(saving, "SMALL", 0)
    seen, real = [], saving.check_saved

    def look(folder, *rest, **more):
        seen.extend(p.name for p in folder.iterdir())
        real(folder, *rest, **more)

    monkeypatch.setattr(saving, "check_saved", look)
    run(at, "dpo", tmp_path / "out")
    assert "config.json" in seen and not any(name.endswith(".safetensors") for name in seen)
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ids = torch.arange(5, 20)[None]
    first = AutoModelForCausalLM.from_pretrained(at / "dpo")
    assert torch.equal(kept(ids).logits, first(ids).logits)


def test_lora_says_what_it_leaves_out(at, tmp_path, capsys):
    run(at, "dpo", tmp_path / "out", "--lora.rank", 2, "--lora.targets", "q_proj")
    said = capsys.readouterr().err
    assert "LoRA on 2 layers, none on " in said
    assert "embed_tokens (" in said and "mlp.up_proj (" in said and "self_attn.q_proj" not in said


def test_without_lora_an_adapter_is_merged_and_that_is_said(at, tmp_path, capsys, monkeypatch):
    """Mutation caught: silence; a quantised model of which nothing but norms is trained."""
    words = command(at, "dpo", tmp_path / "out", "--model", at / "lora")
    assert main([str(a) for a in words]) == 0
    assert (
        "the adapter is merged into its base, and all weights are trained"
        in capsys.readouterr().err
    )
    from transformers import LlamaForCausalLM

    monkeypatch.setattr(LlamaForCausalLM, "is_quantized", True, raising=False)
    sentence = refused(capsys, *command(at, "dpo", tmp_path / "quantised"))
    assert "is quantised, and only adapters can be trained on it" in sentence


@pytest.fixture
def hub(monkeypatch):
    """The hub as a list of what is asked of it."""
    asked: list[dict] = []

    class Api:
        def create_repo(self, place, **given):
            asked.append({"made": place})

        def upload_folder(self, **given):
            asked.append(
                {"sent": sorted(p.name for p in Path(given["folder_path"]).iterdir()), **given}
            )

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return asked


def test_push_to_hub(at, tmp_path, hub, capsys, monkeypatch):
    """Asked before the run, sent after it, with the config that makes it again and without states and checkpoints.

    Mutation caught: a place or token that is looked at when everything is spent; a card that names a folder here.
    """
    run(at, "dpo", tmp_path / "out", "--push-to-hub", "org/name")
    assert hub[0] == {"made": "org/name"} and len(hub) == 2
    sent = hub[1]
    assert sent["repo_id"] == "org/name" and sent["folder_path"] == tmp_path / "out"
    assert {"README.md", "config.yaml", "model.safetensors", "metrics.jsonl"} <= set(sent["sent"])
    assert "checkpoints/*" in sent["ignore_patterns"]
    assert 'from_pretrained("org/name")' in (tmp_path / "out" / "README.md").read_text()

    def away(self, **given):
        raise OSError("the line is cut")

    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", away)
    sentence = refused(capsys, *command(at, "dpo", tmp_path / "kept", "--push-to-hub", "org/name"))
    assert "is finished and saved, but could not be sent" in sentence
    assert (tmp_path / "kept" / "model.safetensors").exists()


@pytest.mark.parametrize(
    "flags, change, words",
    [
        (["name"], {}, "a place on the hub is ORG/NAME"),
        (["org/name"], {"get_token": lambda: None}, "needs a token"),
        (["org/name", "--lora.rank", "2"], {}, "the adapter stands on .* add --lora.merge"),
    ],
)
def test_what_could_not_be_pushed_is_told_first(
    at, tmp_path, hub, capsys, monkeypatch, flags, change, words
):
    for name, value in change.items():
        monkeypatch.setattr(huggingface_hub, name, value)
    sentence = refused(capsys, *command(at, "dpo", tmp_path / "out", "--push-to-hub", *flags))
    assert re.search(words, sentence) and not (tmp_path / "out").exists()


def test_a_card_is_made_of_the_files(at, tmp_path):
    """Mutation caught: an architecture from the run's settings."""
    folder = Path(shutil.copytree(at / "dpo", tmp_path / "m"))
    told = json.loads((folder / "config.json").read_text()) | {
        "architectures": ["MambaForCausalLM"]
    }
    (folder / "config.json").write_text(json.dumps(told))
    assert "A `MambaForCausalLM`" in page(folder, load_policy(at / "m"), "x", "x", "dpo", "")


@pytest.mark.parametrize("kind", ["llama", "roberta"])
def test_a_card_says_where_a_score_is_read(tmp_path, kind):
    """Mutation caught: every reward model said to be read at its last token, as a decoder is."""
    config = AutoConfig.for_model(kind, **SIZES, num_labels=1)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    model.save_pretrained(tmp_path)
    card = page(tmp_path, model, "x", "x", "reward", "")
    assert ("read at the last token" in card) == (kind == "llama")
    assert ("its own forward gives it for the whole text" in card) == (kind == "roberta")
