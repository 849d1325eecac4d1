"""Environments without a model: scripts, people in the terminal, and templates."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

import games
from games import USER, Script, calculator, play_one
from heedful.cli import main
from heedful.data.episodes import transcript_row
from heedful.envs import load_env, rehearse
from heedful.types.messages import turn_to_json

TOK = games.tokenizer()
ASKED = [turn_to_json(m) for m in USER]


@pytest.mark.parametrize(
    "env, facts, said",
    [
        (games.guess, {"secret": 5}, ["3", "x", "7", "5"]),
        (calculator, {"sum": "5"}, ['So <tool_call>{"name": "add", "arguments": {"a": 2, "b": 3}}</tool_call>', "5"]),
        (calculator, {"sum": "5"}, ["<tool_call>{oops</tool_call>", "4"]),
    ],
)  # fmt: skip
def test_a_script_is_told_and_given_what_a_policy_is(env, facts, said):
    """The same transcript. Mutation caught: rewards at other turns, calls that only one of the two reads."""
    plain = rehearse(env, {"prompt": ASKED, **facts}, said)
    episode = play_one(Script(TOK, *said), env, USER, TOK, facts, max_tokens=300)
    sampled = transcript_row(episode, 0, "script", 0)
    assert {**plain, "logprob": 0} == {**sampled, "logprob": 0}


def test_a_person_plays_and_it_is_a_demonstration(tmp_path, monkeypatch, capsys):
    """Calls as Python writes them. Mutation caught: a play that `train sft` cannot read, one that replaces the last."""
    monkeypatch.chdir(tmp_path)
    task = load_env("lookup").tasks("train", 0)[0]  # type: ignore[attr-defined]
    call = f"look_up(name='{task['name']}', field='{task['field']}')"
    words = ["play", "--env", "lookup", "--out", "plays.jsonl", "--name", "ann"]
    for lines in ([call, f"{task['answer']}."], ["look_up('x')", "no idea"], ["only this"]):
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
        assert main(words) == 0
    told = capsys.readouterr().out
    assert f"look_up: {task['answer']}" in told and "terminated: 1" in told
    rows = [json.loads(line) for line in Path("plays.jsonl").read_text().splitlines()]
    assert [r["reward"] for r in rows] == [1.0, 0.0, 0.0] and {r["model"] for r in rows} == {"ann"}
    assert rows[1]["counts"] == {"calls": 1.0, "wrong_calls": 1.0}
    assert rows[0]["messages"][1]["tool_calls"][0]["function"]["name"] == "look_up"


def test_a_new_environment_passes_its_own_test(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "env", "game"]) == 0
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_game.py"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout
    row = rehearse(
        load_env("./game.py:game", ["tries=1"]), {"prompt": ASKED, "secret": 2}, ["1", "2"]
    )
    assert row["reward"] == 0.0
    assert main(["new", "env", "game"]) == 2 and main(["new", "env", "my-game"]) == 2
    assert main(["new", "env", "json"]) == 2  # it would be imported in place of Python's
    assert "is there already" in (told := capsys.readouterr().err) and "no name of a Python" in told
