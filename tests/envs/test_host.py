"""Environments that people play in the browser: a play goes on turn by turn, and tells what the terminal would."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from heedful.envs import host as hosting
from heedful.envs import load_env, rehearse
from heedful.envs.host import Host, reply
from heedful.errors import UserError

CALCULATOR = "calculator(digits=2)"
CALL = "calculate(expression='{}')"
COUNTED = """
asked = 0

async def env(task, chat):
    global asked
    asked += 1
    chat.hear("tool", f"asked {asked} <b>times</b>", name="count")
    while (said := (await chat.say()).text) != "stop":
        if said == "raise":
            raise ValueError("/secret/path")
        chat.hear("user", f"Not {said}, but {chat.rng.random()}.")
    return 0.5
"""


def asked(env: str, *said: str, task: int | None = 1, play: str = "p", turns: int = 8) -> dict:
    about = {"env": env, "seed": 0, "task": task, "prompt": "Go.", "max_turns": turns, "play": play}
    return {**about, "said": [*said]}


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "counted_env.py").write_text(COUNTED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "counted_env", raising=False)
    return "counted_env:env"


def run(work: Any) -> Any:
    return asyncio.run(work)


def test_a_play_is_the_episode_of_the_terminal():
    """Turn by turn it ends in the transcript that `rehearse` makes of the same words, the tool's answer in it.

    Mutations caught: another seed or task than asked for; a turn that is said twice, or lost; a call that is no call.
    """
    env = load_env(CALCULATOR)
    row = env.tasks("train", 0)[2]
    sum_ = row["prompt"][-1]["content"].split("Work out ")[-1].split("What is ")[-1].rstrip("?.")
    said = [CALL.format(sum_), f"It is {row['answer']}."]

    async def play() -> list[dict[str, Any]]:
        host = Host([CALCULATOR])
        return [await host.answer(asked(CALCULATOR, *said[:n], task=3)) for n in range(3)]

    start, called, end = run(play())
    assert start["log"] == "" and [t["function"]["name"] for t in start["tools"]] == ["calculate"]
    assert called["text"] == f"tool calculate: {row['answer']}" and "play" not in called
    told = rehearse(env, row, said)
    assert end["play"]["messages"] == told["messages"] and end["play"]["tools"] == told["tools"]
    assert end["play"]["episode"]["reward"] == told["reward"] == 1.0 and told["turns"] == 2
    assert end["play"]["episode"]["whole"] and end["play"]["text"] == end["log"]
    assert end["play"].keys() == {"text", "episode", "messages", "tools"}  # no facts of the task


def test_it_stands_where_it_stood(counted: str):
    """As long as the process lives no turn is played again; in a new one all are, to the same place; and what was said
    otherwise in another tab begins anew.

    Mutations caught: an environment that is asked again at every turn; a rng that is not the seed's.
    """

    async def play() -> None:
        host = Host([counted])
        first = await host.answer(asked(counted, "1", task=None))
        second = await host.answer(asked(counted, "1", "2", task=None))
        assert second["log"].startswith(first["log"]) and "asked 1 <b>" in second["log"]
        assert await host.answer(asked(counted, "1", "2", task=None)) == second
        again = await Host([counted]).answer(asked(counted, "1", "2", task=None))
        assert again["log"] == second["log"].replace("asked 1", "asked 2")
        with pytest.raises(ValueError):
            await host.answer(asked(counted, "1", "raise", task=None, play="r"))
        with pytest.raises(ValueError):  # not where it stood before
            await host.answer(asked(counted, "1", "raise", task=None, play="r"))
        other = await host.answer(asked(counted, "3", task=None))
        assert "asked 5" in other["log"] and "Not 3" in other["log"] and "Not 1" not in other["log"]
        cut = await host.answer(asked(counted, "1", "2", task=None, play="q", turns=2))
        assert cut["play"]["episode"]["ended"] == "truncated"

    run(play())


def test_those_that_wait_for_long_begin_anew(counted: str, monkeypatch: pytest.MonkeyPatch):
    """Mutation caught: plays that nobody goes on with are kept for ever."""
    monkeypatch.setattr(hosting, "MOST_PLAYS", 2)

    async def play() -> list[str]:
        host = Host([counted])
        logs = [await host.answer(asked(counted, task=None, play=p)) for p in "abca"]
        return [one["log"] for one in logs]

    assert [log[18] for log in run(play())] == ["1", "2", "3", "4"]


def test_what_goes_wrong_is_an_answer(counted: str, capsys: pytest.CaptureFixture[str]):
    """One sentence each, without what only the log should know; and the others go on.

    Mutation caught: an environment that a lead names and the server does not offer is loaded, and its code run.
    """

    async def said(request: dict[str, Any]) -> dict[str, Any]:
        told: list[dict[str, Any]] = []
        await reply(host, {"id": 7, **request}, told.append)
        return told[0]

    host, ids = Host([counted, CALCULATOR]), itertools.count()
    for request, words in (
        (asked("os:system"), "not offered here any more"),
        (asked(counted, "raise", task=None), "the environment failed; the server's log says why"),
        (asked(counted, "1", task=1), "has no tasks of its own"),
        (asked(CALCULATOR, task=10**9), "has no task 1000000000"),
        ({"env": CALCULATOR, "seed": 0, "first": 10**9, "tasks": 1}, "has not so many tasks"),
    ):
        told = run(said({**request, "play": str(next(ids))} if "play" in request else request))
        assert told.keys() == {"id", "error"} and words in told["error"] and told["id"] == 7
        json.dumps(told)
    assert "/secret/path" in capsys.readouterr().err
    prompts = run(host.answer({"env": CALCULATOR, "seed": 0, "first": 2, "tasks": 3}))["prompts"]
    rows = load_env(CALCULATOR).tasks("train", 0)
    assert prompts == [row["prompt"] for row in rows[1:4]]


def test_a_play_needs_an_environment_that_does_not_branch(tmp_path: Path):
    with pytest.raises(UserError, match="nobody can play two conversations"):
        (tmp_path / "b.py").write_text("async def env(task, chat):\n    chat.fork()\n")
        spec = f"{tmp_path}/b.py:env"
        run(Host([spec]).answer(asked(spec, task=None)))
