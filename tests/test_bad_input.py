"""Bad input on the command line: one sentence naming file, line and field, exit code 2, nothing half-written."""

import errno
import json
import socket
import sys
from pathlib import Path

import huggingface_hub
import pytest

import tiny
from heedful.cli import main
from heedful.models import folders
from heedful.models.load import new_reward_model

CHAT = [{"role": "user", "content": "What is 2 + 2?"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "policy"
    tok = tiny.tokenizer()
    tiny.policy(tok).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reward(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "reward"
    new_reward_model(str(model), seed=0).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def write(path: Path, *rows) -> str:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def refused(capsys, *args) -> str:
    """Run a command that must fail; returns its one sentence."""
    assert main([str(a) for a in args]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    sentence = said[-1]
    assert sentence.startswith("heedful: ")
    assert not any("Traceback" in line for line in said)
    return sentence


TRAIN = {
    "pretrain": ({"text": "a b c"}, "text"),
    "sft": ({"prompt": CHAT, "completion": "Four."}, "completion"),
    "reward": ({"prompt": CHAT, "chosen": "Four.", "rejected": "Five."}, "rejected"),
    "dpo": ({"prompt": CHAT, "chosen": "Four.", "rejected": "Five."}, "rejected"),
    "ppo": ({"prompt": CHAT}, "prompt"),
}


def command(job, data, out, model, reward):
    extra = [] if job == "pretrain" else ["--model", model]
    extra += ["--reward", reward, "--steps", "1", "--max-tokens", "4"] if job == "ppo" else []
    return ["train", job, "--data", data, "--out", out, "--report-to", "none", *extra]


@pytest.mark.parametrize("job", TRAIN)
@pytest.mark.parametrize("trouble", ["empty", "column", "json", "missing"])
def test_unreadable_data(job, trouble, model, reward, tmp_path, capsys):
    good, column = TRAIN[job]
    data, out = tmp_path / "data.jsonl", tmp_path / "out"
    bad = {k + "s" if k == column else k: v for k, v in good.items()}
    if trouble != "missing":
        write(data, *{"empty": [], "column": [good, bad], "json": [good, "{not json"]}[trouble])
    sentence = refused(capsys, *command(job, data, out, model, reward))
    assert "data.jsonl" in sentence
    if trouble == "column":
        assert "data.jsonl:2" in sentence and f"`{column}`" in sentence
        assert f"did you mean '{column}s'" in sentence
    if trouble == "json":
        assert "data.jsonl:2 is not JSON" in sentence
    assert not out.exists()


@pytest.mark.parametrize("job", ["reward", "dpo"])
@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": CHAT, "chosen": "Four.", "rejected": "Four."}, "the same"),
        ({"prompt": CHAT, "chosen": " ", "rejected": "Four."}, "`chosen` is an empty response"),
        ({"prompt": CHAT, "responses": ["a", "b"], "ranking": [1]}, "`ranking`"),
        ({"prompt": CHAT, "responses": ["a"], "ranking": [1]}, "at least two"),
        ({"prompt": [{"role": "usr", "content": "x"}], "chosen": "a", "rejected": "b"}, "'usr'"),
    ],
)
def test_comparisons_that_compare_nothing(job, row, words, model, reward, tmp_path, capsys):
    data = write(tmp_path / "pairs.jsonl", TRAIN["reward"][0], row)
    sentence = refused(capsys, *command(job, data, tmp_path / "out", model, reward))
    assert "pairs.jsonl:2" in sentence
    assert words in sentence
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("job", ["sft", "reward", "dpo", "ppo"])
def test_prompt_longer_than_the_context(job, model, reward, tmp_path, capsys):
    long = [{"role": "user", "content": "why? " * 400}]
    data = write(tmp_path / "long.jsonl", TRAIN[job][0] | {"prompt": long})
    sentence = refused(capsys, *command(job, data, tmp_path / "out", model, reward))
    assert "tokens" in sentence and "128" in sentence
    assert not (tmp_path / "out").exists()


def test_sample_refuses_a_prompt_longer_than_the_context(model, tmp_path, capsys):
    data = write(tmp_path / "p.jsonl", {"prompt": "why? " * 400})
    out = tmp_path / "samples.jsonl"
    assert "p.jsonl:1: a prompt of 2000 tokens leaves no room" in refused(
        capsys, "sample", "--model", model, "--data", data, "--out", out
    )
    assert not out.exists()


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "def nan(prompt, response):\n    return float('nan')\n"
        "def broken(prompt, response):\n    raise RuntimeError('the judge fell asleep')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("mine", None)


def test_nan_reward(model, user_module, tmp_path, capsys):
    data, out = write(tmp_path / "p.jsonl", {"prompt": CHAT}), tmp_path / "out"
    sentence = refused(capsys, *command("ppo", data, out, model, "mine:nan"))
    assert "nan" in sentence and "reward" in sentence
    assert not out.exists()
    samples = write(tmp_path / "s.jsonl", {"prompt": CHAT, "completion": "Four.", "index": 0})
    scored = tmp_path / "scored.jsonl"
    refused(capsys, "score", "--data", samples, "--reward", "mine:nan", "--out", scored)
    assert not scored.exists()


def test_no_right_answer_to_score_by(model, tmp_path, capsys):
    """Its file and line are told, and nothing is written; of `evaluate` such rows can be left out. Mutation caught: a
    scorer that is asked behind the rows, where no place is known any more."""
    rows = [
        {"prompt": f"{i} + 1?", "completion": "2"} | ({"answer": "2"} if i else {}) for i in (1, 0)
    ]
    data, out = write(tmp_path / "s.jsonl", *rows), tmp_path / "out"
    words = "s.jsonl:2: a verifier needs the right answer"
    scored = ("score", "--data", data, "--reward", "numeric", "--out", tmp_path / "o.jsonl")
    assert words in refused(capsys, *scored) and not (tmp_path / "o.jsonl").exists()
    job = ["evaluate", "--model", model, "--data", data, "--out", out, "--scorer", "numeric"]
    job += ["--max-tokens", "2", "--quiet"]
    assert words in refused(capsys, *job) and not out.exists()
    assert main([*map(str, job), "--on-bad-row", "drop"]) == 0


def test_an_error_in_a_reward_is_never_a_reward(model, user_module, tmp_path):
    """Mutation caught: `except Exception: reward = 0.0`."""
    data = write(tmp_path / "p.jsonl", {"prompt": CHAT})
    with pytest.raises(RuntimeError, match="fell asleep"):
        main([str(a) for a in command("ppo", data, tmp_path / "out", model, "mine:broken")])


@pytest.mark.parametrize("name", ["nowhere/at/all", "./missing", "empty"])
def test_unknown_model_folder(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    data = write(tmp_path / "d.jsonl", TRAIN["sft"][0])
    sentence = refused(
        capsys, "train", "sft", "--model", name, "--data", data, "--out", tmp_path / "out"
    )
    assert name in sentence
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("extra", [["stray"], ["-x", "y"]])
def test_what_belongs_to_no_option_is_told_once(capsys, extra):
    """Mutation caught: the heading of tyro's box and the sentence in it, one after the other; its own advice twice."""
    said = refused(capsys, "train", "sft", "--model", "m", "--data", "d", "--out", "o", *extra)
    names = ", ".join(extra)
    assert said == f"heedful: Unrecognized options: {names}; see heedful train sft --help"


def test_a_reward_model_is_no_language_model(reward, tmp_path, capsys):
    """Its embeddings are tied, so that nothing of a language model is missing. Mutation caught: its body trained on."""
    data = write(tmp_path / "d.jsonl", TRAIN["sft"][0])
    words = ["train", "sft", "--model", reward, "--data", data, "--out", tmp_path / "out"]
    assert "holds a reward model, which writes nothing" in refused(capsys, *words)
    assert not (tmp_path / "out").exists()


def test_offline_means_that_nobody_is_asked(tmp_path, capsys, monkeypatch):
    """Mutation caught: a probe of the hub although HF_HUB_OFFLINE is set."""
    asked = []
    monkeypatch.setattr(socket, "create_connection", lambda *args, **_: asked.append(args))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    folders.hub_answers.cache_clear()
    data = write(tmp_path / "d.jsonl", TRAIN["sft"][0])
    words = ["train", "sft", "--model", "nobody/nothing", "--data", data, "--out", tmp_path / "out"]
    assert "the hub cannot be reached" in refused(capsys, *words)
    folders.hub_answers.cache_clear()
    assert not asked


def test_a_language_model_is_no_reward_model(model, tmp_path, capsys):
    data = write(tmp_path / "p.jsonl", {"prompt": CHAT})
    sentence = refused(capsys, *command("ppo", data, tmp_path / "out", model, model))
    assert "no reward model" in sentence and "heedful train reward" in sentence


def test_tokenizer_without_chat_template(tmp_path, capsys):
    tok = tiny.tokenizer()
    tiny.policy(tok).save_pretrained(tmp_path / "plain")
    tok.chat_template = None
    tok.save_pretrained(tmp_path / "plain")
    data = write(tmp_path / "d.jsonl", TRAIN["sft"][0])
    sentence = refused(
        capsys, "train", "sft", "--model", tmp_path / "plain", "--data", data,
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert "no chat template" in sentence
    assert not (tmp_path / "out").exists()


def test_disk_full_while_saving(model, reward, tmp_path, capsys, monkeypatch):
    """The weights do not fit: one sentence, and no folder that looks like a model."""
    from transformers import PreTrainedModel

    def full(self, folder, **_):
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    data, out = write(tmp_path / "d.jsonl", TRAIN["sft"][0]), tmp_path / "out"
    sentence = refused(capsys, *command("sft", data, out, model, reward))
    assert "no space left" in sentence
    assert not out.exists()


def test_disk_full_while_writing_samples(model, tmp_path, capsys, monkeypatch):
    from heedful import disk

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk.os, "fsync", full)
    data, out = write(tmp_path / "p.jsonl", {"prompt": CHAT}), tmp_path / "s.jsonl"
    sentence = refused(
        capsys, "sample", "--model", model, "--data", data, "--out", out, "--max-tokens", "4"
    )
    assert "no space left" in sentence
    assert {p.name for p in tmp_path.iterdir()} == {"p.jsonl"}


@pytest.mark.parametrize("words", [
    ["new", "env", "game", "--out", "taken"],
    ["score", "--data", "s.jsonl", "--reward", "length", "--out", "taken/of/it/o.jsonl"],
    ["overoptimisation", "--samples", "s.jsonl", "--reward", "length", "--gold", "no_eos", "--out", "taken"],
    ["facts", "--data", "s.jsonl", "--out", "taken"],
])  # fmt: skip
def test_a_file_where_a_folder_is_needed(words, capsys, tmp_path, monkeypatch):
    """Mutation caught: FileExistsError, from whichever command makes a folder."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "taken", {"a": 1})
    write(tmp_path / "s.jsonl", *({"prompt": "a", "completion": text} for text in ("b", "cd")))
    before = (tmp_path / "taken").read_bytes()
    assert "taken is a file, a folder is needed" in refused(capsys, *words)
    assert (tmp_path / "taken").read_bytes() == before


def test_a_finished_model_is_never_overwritten(model, tmp_path, capsys):
    data = write(tmp_path / "d.jsonl", TRAIN["sft"][0])
    before = (model / "model.safetensors").read_bytes()
    sentence = refused(capsys, "train", "sft", "--model", model, "--data", data, "--out", model)
    assert "already holds a finished model" in sentence
    assert (model / "model.safetensors").read_bytes() == before


def test_a_strangers_folder_is_left_alone(model, tmp_path, capsys):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "diary.txt").write_text("dear diary")
    data = write(tmp_path / "d.jsonl", TRAIN["sft"][0])
    for args in (
        ["train", "sft", "--model", model, "--data", data, "--out", tmp_path / "home"],
        ["demo", "--quick", "--out", tmp_path / "home"],
    ):
        assert "not empty" in refused(capsys, *args)
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["diary.txt"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["trian", "sft"], "did you mean"),
        (["train", "sfd"], "did you mean 'train sft'"),
        (["sample", "--model", "m", "--data", "d", "--out", "o", "--best-of", "4"], "--reward"),
        (["world", "reviews", "--out", "o"], "--source"),
        (["report"], "report needs the folder"),
        (["report", "nowhere"], "no such folder"),
    ],
)
def test_commands_that_make_no_sense(args, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in refused(capsys, *args)
    assert not list(tmp_path.iterdir())


def test_margin_without_strengths(model, reward, tmp_path, capsys):
    """Mutation caught: margins silently ignored."""
    data = write(tmp_path / "d.jsonl", TRAIN["reward"][0])
    args = command("reward", data, tmp_path / "out", model, reward)
    assert "strength" in refused(capsys, *args, "--margin", "1.0")


def test_unknown_keys_suggest_the_nearest(tmp_path, capsys):
    """In a config file and on the command line."""
    path = tmp_path / "c.yaml"
    path.write_text("model: m\nlearning_rat: 0.1\n")
    sentence = refused(capsys, "train", "sft", "--config", path)
    assert "unknown key 'learning_rat' (did you mean 'learning_rate'?)" in sentence
    said = refused(
        capsys, "train", "sft", "--model", "m", "--data", "d", "--out", "o", "--learning-rat", "1"
    )
    assert "--learning-rate" in said
