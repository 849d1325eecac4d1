"""Cloning for a return: what is told in playing is what was told in training; and cloning the best rows."""

from __future__ import annotations

import asyncio
import json

import pytest

import games
from games import Script
from heedful import cli
from heedful.data.episodes import as_samples
from heedful.data.files import write_rows
from heedful.data.logged import conditioned, logged_of, shown
from heedful.data.sources import stream_demonstrations
from heedful.envs import Limits, load_env
from heedful.envs.returns import for_return
from heedful.envs.specs import tasks_of
from heedful.errors import UserError
from heedful.models.load import load_policy
from heedful.recipes.decision import returns_of
from heedful.rollout import episodes, tasks
from heedful.training.replay import replayed
from heedful.types import Message, Sampling

TOK = games.tokenizer()
CALL = '<tool_call>{"name": "calculate", "arguments": {"expression": "2 * 3"}}</tool_call>'

BEGIN = (Message("user", "Begin."),)


async def talk(task, chat):
    """Rewards of 1, 0 and, at the end, 2; before the second turn two messages are heard."""
    await chat.say()
    chat.reward(1.0)
    chat.hear("user", "Go")
    chat.hear("user", "on.")
    await chat.say()
    chat.hear("user", "And?")
    await chat.say()
    return 2.0


def play(env, said, target, prompt=BEGIN, facts=None):
    played = for_return(env, target)
    how = dict(n=1, max_tokens=300, sampling=Sampling(), seed=0, limits=Limits(turns=5))
    todo = tasks(TOK, [prompt], [facts or {}])
    ((episode,),) = asyncio.run(episodes(Script(TOK, *said), todo, TOK, env=played, **how))
    return episode


def test_one_who_plays_for_what_is_earned_is_told_what_was_learned():
    """An episode whose target is its own return has the very tokens that it is trained on as. Mutation caught: a note
    in another place or form, rewards that are not subtracted, the end's reward told as earned."""
    episode = play(talk, ["a", "b", "c"], 3.0)
    (plain,) = logged_of("", {
        "messages": [
            {"role": r, "content": t} for r, t in (("user", "Begin."), ("assistant", "a"), ("user", "Go"),
            ("user", "on."), ("assistant", "b"), ("user", "And?"), ("assistant", "c"))
        ],
        "rewards": [1, 0, 0], "reward": 3,
    })  # fmt: skip
    (sample,) = as_samples(episode)
    assert replayed(TOK, conditioned(plain)).tokens == sample.tokens
    told = [m.content for m in episode.messages if m.role == "user"]
    assert told == ["Begin.\nReturn: 3", "Go", "on.\nReturn: 2", "And?\nReturn: 2"]


def test_tools_are_asked_for_a_return_too():
    env = load_env("calculator")
    row = tasks_of(env, "train", 0)[0]
    prompt = (Message("user", row["prompt"][0]["content"]),)
    facts = {k: v for k, v in row.items() if k != "prompt"}
    episode = play(env, [CALL, "6"], 1.0, prompt, facts)
    told = [m.content for m in episode.messages if m.role != "assistant"]
    assert told[0].endswith("\nReturn: 1") and told[1] == "6\nReturn: 1"


def test_a_plain_text_cannot_be_asked_for_a_return():
    with pytest.raises(UserError, match="--target-return needs a prompt that is a conversation"):
        play(talk, ["a"], 1.0, "Begin.")


@pytest.mark.parametrize(
    "value, text", [(3.0, "3"), (-0.0, "0"), (0.126, "0.13"), (-1e-9, "0"), (-12.5, "-12.5")]
)
def test_returns_as_text(value, text):
    assert shown(value) == text


def test_what_was_earned_is_said():
    assert "11 episodes, mean return 5, the best tenth 9 or more, the best 10" in returns_of(
        range(11)
    )
    assert returns_of([2.0]) == "one episode, return 2"


def test_a_run_plays_for_a_return(tmp_path, capsys):
    """Through the commands; the folder is a plain model. Mutation caught: a target that sampling does not tell."""
    talk_of = [{"role": "user", "content": "North?"}, {"role": "assistant", "content": "north"}]
    rows = [{"messages": talk_of, "rewards": [-float(i % 5)]} for i in range(12)]
    write_rows(tmp_path / "rows.jsonl", rows)
    games.engine_of(TOK).model.save_pretrained(tmp_path / "model")
    TOK.save_pretrained(tmp_path / "model")
    words = [
        "train",
        "decision",
        "--model",
        tmp_path / "model",
        "--data",
        tmp_path / "rows.jsonl",
        "--epochs",
        3,
    ]
    words += [
        "--out",
        tmp_path / "run",
        "--lr",
        "1e-3",
        "--quiet",
        "--report-to",
        "none",
        "--batch-size",
        4,
    ]
    assert cli.main(list(map(str, words))) == 0
    assert "12 episodes, mean return -1.75" in capsys.readouterr().out
    metrics = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert metrics[-1]["loss"] < metrics[0]["loss"] and load_policy(tmp_path / "run") is not None
    ask = [
        "sample",
        "--model",
        tmp_path / "run",
        "--env",
        "maze",
        "--max-tokens",
        3,
        "--limit",
        1,
        "--quiet",
    ]
    ask += ["--out", tmp_path / "asked.jsonl", "--target-return", "-4"]
    assert cli.main(list(map(str, ask))) == 0
    (row,) = [json.loads(line) for line in (tmp_path / "asked.jsonl").read_text().splitlines()]
    assert row["messages"][0]["content"].endswith("\nReturn: -4")


def test_the_best_rows_are_cloned(tmp_path):
    """By `reward`; equal ones are not told apart. Mutation caught: the worst, a share of the wrong whole."""
    rows = [
        {"prompt": f"{i}?", "completion": f"{i}", "reward": r}
        for i, r in enumerate([3, 1, 2, 2, 0])
    ]
    write_rows(tmp_path / "rows.jsonl", rows)

    def kept(share: float) -> list[str]:
        return [
            d.completion for d in stream_demonstrations(str(tmp_path / "rows.jsonl"), best=share)
        ]

    assert kept(1.0) == ["0", "1", "2", "3", "4"]
    assert kept(0.2) == ["0"] and kept(0.4) == kept(0.6) == ["0", "2", "3"]
    write_rows(tmp_path / "rows.jsonl", [*rows, {"prompt": "?", "completion": "x"}])
    with pytest.raises(UserError, match=r"rows\.jsonl.*`reward`"):
        kept(0.5)
