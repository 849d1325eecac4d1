"""Environments from the command line: trained in, sampled, evaluated, learnt from, and gone on with after a kill."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from safetensors.torch import load_file

import tiny
from changed import changed
from heedful.cli import main
from heedful.data.sources import read_demonstrations, read_samples
from heedful.data.tokens import encode_demonstration

SOURCE = '''
import os
from pathlib import Path

def rows(split, seed):
    return [{"prompt": [{"role": "user", "content": f"{split} {i}"}], "extra": i} for i in range(4)]

async def counts(task, chat, *, worth: float = 0.5):
    """Two turns; half a point for each, and what a file says is asked once."""
    async def asked():
        with open(os.environ["ASKED"], "a") as log:
            log.write(f"{chat._record.seed} {chat.spoken}\\n")
        lines = Path(os.environ["ASKED"]).read_text().count("\\n")
        if lines == int(os.environ.get("FUSE", 0)):
            raise ValueError("the tool broke")
        return "Again."
    for turn in range(2):
        reply = await chat.say(max_tokens=3)
        chat.reward(worth * len(reply.text), "length")
        chat.hear("user", await chat.once("again?", asked))
    return 0.25

counts.tasks = rows

async def broken(task, chat):
    await chat.say(max_tokens=2)
    return 1 / 0

async def silent(task, chat):
    return 1.0

async def nan(task, chat):
    await chat.say(max_tokens=2)
    return float("nan")

async def talks(task, chat):
    while True:
        chat.hear("user", "and")

async def hangs(task, chat):
    import asyncio
    await chat.say(max_tokens=2)
    await asyncio.sleep(100)

for env in (broken, silent, nan, talks, hangs):
    env.tasks = rows
'''
COMMON = ["--quiet", "--max-tokens", "4"]


@pytest.fixture
def at(tmp_path, monkeypatch) -> Path:
    tok = tiny.tokenizer()
    tiny.policy(tok).save_pretrained(tmp_path / "lm")
    tok.save_pretrained(tmp_path / "lm")
    (tmp_path / "games.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    return tmp_path


def train(out: str, *more) -> list[str]:
    words = ["train", "grpo", "--model", "lm", "--env", "./games.py:counts", "--out", out, "--steps", 2,
             "--batch-size", 8, "--group-size", 4, "--lr", 1e-3, "--report-to", "none", *COMMON]  # fmt: skip
    return changed(words, *more)


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_that_broke_mid_round_asks_no_tool_twice(at, monkeypatch):
    """And ends with the same weights. Mutation caught: answers kept only with whole rounds; answers told by the order
    in which they came, which another start has otherwise."""
    assert main(train("whole")) == 0
    asked = Path("asked").read_text().splitlines()
    assert len(asked) == len(set(asked)) == 32
    Path("asked").unlink()
    monkeypatch.setenv("FUSE", "22")
    assert main(train("broken")) == 2
    monkeypatch.delenv("FUSE")
    assert main(train("broken")) == 0
    again = Counter(Path("asked").read_text().splitlines())
    assert set(again) == set(asked) and again.total() == 33  # the one that broke, twice
    whole, broken = (load_file(f"{run}/model.safetensors") for run in ("whole", "broken"))
    assert all((whole[name] == broken[name]).all() for name in whole)
    (last,) = [r for r in rows(Path("whole/metrics.jsonl")) if r["step"] == 2]
    assert last["reward/env"] == 0.25 and last["reward/length"] > 0 and last["episodes/turns"] == 2


def test_transcripts_are_sampled_measured_learnt_from_and_scored(at, capsys):
    """Mutation caught: rewards at other turns; an observation that is trained on; facts lost; a transcript that no
    other command reads."""
    sample = [
        "sample",
        "--model",
        "lm",
        "--env",
        "./games.py:counts(worth=1)",
        "--seed",
        "3",
        *COMMON,
    ]
    assert main([*sample, "--n", "3", "--out", "all.jsonl"]) == 0
    assert main([*sample, "--best-of", "3", "--out", "best.jsonl"]) == 0
    played = rows(Path("all.jsonl"))
    assert len(played) == 12 and played[0]["extra"] == 0 and played[0]["ended"] == "terminated"
    for row in played:
        roles = [m["role"] for m in row["messages"]]
        assert roles == ["user", "assistant", "user", "assistant", "user"]
        said = [m["content"] for m in row["messages"] if m["role"] == "assistant"]
        assert row["rewards"] == [len(text) for text in said]
        assert row["reward"] == sum(row["rewards"]) + 0.25 and row["turns"] == 2
    best = {r["extra"]: r["reward"] for r in rows(Path("best.jsonl"))}
    assert best == {i: max(r["reward"] for r in played if r["extra"] == i) for i in range(4)}
    assert main(["evaluate", *sample[1:], "--n", "2", "--success", "3", "--out", "seen"]) == 0
    told = json.loads(Path("seen/evaluation.json").read_text())
    transcripts = rows(Path("seen/transcripts.jsonl"))
    assert told["episodes"] == 8 and told["tasks"] == 4
    assert "held_out" in transcripts[0]["messages"][0]["content"]
    assert told["success"] == sum(r["reward"] >= 3 for r in transcripts) / 8
    assert told["return_ci"][0] <= told["return"] <= told["return_ci"][1]
    # learnt from: the policy's turns alone, each behind all that came before
    shown = read_demonstrations("best.jsonl")
    tok = tiny.tokenizer()
    for d, row in zip(shown[1::2], rows(Path("best.jsonl")), strict=True):
        one = encode_demonstration(tok, d)
        text = tok.decode([t for t, m in zip(one.tokens, one.mask, strict=True) if m])
        assert text.removesuffix("<|end|>") == row["messages"][3]["content"]
    sft = [
        "train",
        "sft",
        "--model",
        "lm",
        "--data",
        "best.jsonl",
        "--out",
        "sft",
        "--report-to",
        "none",
        "--quiet",
    ]
    assert main(sft) == 0
    # scored: the last answer, behind the conversation
    (first, *_) = read_samples("all.jsonl")
    assert first["completion"] == played[0]["messages"][3]["content"]
    assert [m["content"] for m in first["prompt"]][-1] == "Again."
    score = [
        "score",
        "--reward",
        "tiny:likes_short",
        "--data",
        "all.jsonl",
        "--out",
        "scored.jsonl",
    ]
    assert main(score) == 0
    assert rows(Path("scored.jsonl"))[0]["reward"] == pytest.approx(-0.1 * len(first["completion"]))


@pytest.mark.parametrize(
    "flags, words",
    [
        (
            ("--env", "./games.py:broken"),
            r"raised ZeroDivisionError \(games.py:\d+\): division by zero",
        ),
        (("--env", "./games.py:silent"), "silent ended before the policy said anything"),
        (("--env", "./games.py:nan"), "rewards must be finite"),
        (("--env", "./games.py:talks"), "never asked it to speak"),
        (("--env", "calculater"), "did you mean 'calculator'"),
        (("--env", "ask"), "has no tasks of its own"),
        (("--env", "./games.py:counts", "--tools", "./games.py"), "two environments"),
        (("--max-turns", "3", "--data", "x.jsonl"), "there is neither --env nor --tools"),
        (("--env", "./games.py:counts", "--env-options", "worth=much"), "must be a number"),
        ((), "--data is missing"),
    ],
)
def test_trouble_is_told_in_a_sentence(at, capsys, flags, words):
    """Mutation caught: a traceback, a file half written, a failure taken for an episode worth 0."""
    Path("x.jsonl").write_text('{"prompt": "?"}\n')
    assert main(["sample", "--model", "lm", "--out", "o.jsonl", *COMMON, *flags]) == 2
    told = capsys.readouterr().err
    assert re.search(words, told) and "Traceback" not in told, told
    assert not Path("o.jsonl").exists()


def test_what_hangs_is_truncated_and_what_fails_may_be_dropped(at, capsys):
    """Mutation caught: a limit that the policy's own time uses up; dropped episodes that nobody counts."""
    words = ["evaluate", "--model", "lm", *COMMON, "--out"]
    assert main([*words, "h", "--env", "./games.py:hangs", "--env-seconds", "0.2"]) == 0
    told = json.loads(Path("h/evaluation.json").read_text())
    assert (told["truncated"], told["return"], told["episodes"]) == (1.0, 0.0, 4)
    assert rows(Path("h/transcripts.jsonl"))[0]["cause"] == "time"
    assert main([*words, "b", "--env", "./games.py:broken", "--on-env-error", "drop"]) == 2
    assert "every episode was dropped" in capsys.readouterr().err
