"""Programs that drive a model over the OpenAI API, as environments: each a process of its own."""

from __future__ import annotations

import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

import games
from games import USER, check, engine_of, play_all, play_one
from heedful.envs import Limits
from heedful.envs.program import program
from heedful.errors import UserError

TOK = games.tokenizer()
ENGINE = engine_of(TOK, context=1024)
TALK = """
import json, os, sys, urllib.request
given = json.loads(sys.stdin.readline())
def say(messages, **body):
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        json.dumps({"model": os.environ["OPENAI_MODEL"], "messages": messages} | body).encode(),
        {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"},
    )
    return json.load(urllib.request.urlopen(request))["choices"][0]["message"]
messages = [{"role": m["role"], "content": m["content"]} for m in given["prompt"]]
"""


def made(tmp_path: Path, body: str, **options: Any) -> Any:
    file = tmp_path / "agent.py"
    file.write_text(TALK + textwrap.dedent(body))
    return program(f"{sys.executable} -S -E {file}", **options)


def test_a_program_is_played(tmp_path: Path):
    """Side by side, and alone. Mutations caught: an episode that hears another's requests; a reward that is not read;
    a transcript that depends on who else plays; a task that the program is not told."""
    env = made(
        tmp_path,
        """
        for turn in range(2):
            messages += [say(messages, max_tokens=5), {"role": "user", "content": "<|end|>Again."}]
        print("chatter")
        print(json.dumps({"reward": given["facts"]["worth"], "parts": {"form": 0.5}}))
        """,
    )
    facts = [{"worth": 1.0}, {"worth": 2.0}]
    groups = play_all(ENGINE, env, [USER, USER], TOK, facts, n=2, seed=3)
    for group, of in zip(groups, facts, strict=True):
        for episode in group:
            check(episode, TOK, ENGINE.model)
            assert (episode.ended, len(episode.turns)) == ("terminated", 2)
            assert episode.parts == {"form": 0.5, "env": of["worth"]}
            heard = [m.content for m in episode.messages if m.role == "user"]
            assert heard == ["Guess.", "<|end|>Again."]
    said = [[t.tokens for e in g for t in e.turns] for g in groups]
    alone = play_one(ENGINE, env, USER, TOK, facts[0], seed=3)
    assert [t.tokens for t in alone.turns] == said[0][:2] and said[0] != said[1]


def test_programs_that_hang_or_spend_all(tmp_path: Path):
    """Mutations caught: a program that is waited for for ever, and lives on; a reward for a truncated episode."""
    mark = tmp_path / "lives"
    hang = f"""
        say(messages, max_tokens=3)
        import time
        for _ in range(600):
            time.sleep(0.1)
            open({str(mark)!r}, "a").write(".")
    """
    began = time.monotonic()
    episode = play_one(ENGINE, made(tmp_path, hang, seconds=3), USER, TOK)
    assert time.monotonic() - began < 30
    assert (episode.ended, episode.cause, episode.reward) == ("truncated", "time", 0.0)
    episode = play_one(ENGINE, made(tmp_path, hang), USER, TOK, limits=Limits(seconds=3))
    assert (episode.ended, episode.cause) == ("truncated", "time")
    size = mark.stat().st_size
    time.sleep(0.5)
    assert mark.stat().st_size == size
    spend = """
        while True:
            try:
                messages += [say(messages, max_tokens=3), {"role": "user", "content": "More."}]
            except OSError:
                print(5)
                raise SystemExit
    """
    episode = play_one(ENGINE, made(tmp_path, spend), USER, TOK, limits=Limits(turns=2))
    assert (episode.ended, episode.cause, episode.reward) == ("truncated", "turns", 0.0)
    assert len(episode.turns) == 2


@pytest.mark.parametrize(
    "body, error, says",
    [
        ("say(messages, max_tokens=2)\nraise ValueError('a bug')", RuntimeError, "ValueError: a bug"),
        ("say(messages, max_tokens=2)\nprint('well done')", UserError, "must be finite numbers"),
        ("say(messages, max_tokens=2)\nprint('nan')", UserError, "must be finite numbers"),
    ],
)  # fmt: skip
def test_programs_that_fail(tmp_path: Path, body: str, error: type, says: str):
    """Mutation caught: a failure as a reward of 0."""
    with pytest.raises(error, match=says):
        play_one(ENGINE, made(tmp_path, body), USER, TOK)


def test_no_such_program():
    with pytest.raises(UserError, match="no program nonesuch"):
        program("nonesuch --fast")


def test_an_engines_error_stops_the_run(tmp_path: Path):
    """Mutation caught: a bug of ours that looks like the program's."""

    class Broken(games.Script):
        async def generate(self, tokens, **how):
            raise KeyError("a bug of ours")

    with pytest.raises(KeyError, match="a bug of ours"):
        play_one(Broken(TOK, "x"), made(tmp_path, "say(messages)"), USER, TOK)
