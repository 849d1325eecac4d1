"""Environments of other libraries, unchanged, by their adapters; each skips where its package is missing."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import games
from games import USER, Script, check, play_all, play_one
from heedful.envs import Limits, load_env
from heedful.envs.openings import with_first
from heedful.envs.specs import tasks_of
from heedful.envs.trl import trl
from heedful.errors import UserError
from heedful.types import Message

TOK = games.tokenizer()


class Counter:
    """As TRL's documents write an environment: tools are methods, errors are told, the reward is asked for."""

    def reset(self, **row: Any) -> str:
        self.goal, self.count = row.get("goal", 2), 0
        return f"Count to {self.goal}."

    def increment(self, step: int) -> int:
        """
        Increment the counter.

        Args:
            step: By how much.

        Returns:
            The new value.
        """
        if step > 5:
            raise ValueError("too large a step")
        self.count += step
        return self.count

    async def look(self) -> dict:
        """Look at the counter."""
        return {"count": self.count}

    def _hidden(self) -> None: ...

    def get_reward(self) -> float:
        return float(self.count == self.goal)


def called(name: str, arguments: str = "{}") -> str:
    return f'<tool_call>{{"name": "{name}", "arguments": {arguments}}}</tool_call>'


def test_a_class_for_trl():
    """Mutations caught: a private method as a tool; an instance that two episodes share; an error that stops the run;
    a row that reset is not given; what reset says in a turn of its own."""
    env = trl(f"{__name__}:Counter")
    said = [
        called("increment", '{"step": 2}') + called("look"),
        called("increment", '{"step": 9}'),
        "Done.",
    ]
    script = Script(TOK, *said)
    won = play_one(script, env, USER, TOK, {"goal": 2}, max_tokens=200)
    check(won, TOK)
    assert (won.reward, won.ended) == (1.0, "terminated")
    heard = [m.content for m in won.messages if m.role == "tool"]
    assert heard == ["2", "{'count': 2}", "Error: too large a step"]
    assert won.messages[0].content == "Guess.\n\nCount to 2."
    shown = TOK.decode(list(script.asked[0]))
    assert '"increment"' in shown and '"look"' in shown
    assert all(name not in shown for name in ("_hidden", "get_reward", "reset"))
    lost = play_all(Script(TOK, "Done."), env, [USER], TOK, [{"goal": 3}], n=2)
    assert [e.reward for e in lost[0]] == [0.0, 0.0]


def test_a_class_that_is_none_for_trl():
    with pytest.raises(UserError, match="has a method reset"):
        load_env(f"trl:{__name__}:Script")


def test_what_an_environment_says_first():
    """Mutation caught: two turns of the user's in a row, which templates refuse."""
    talk = (Message("system", "S"), Message("user", "Play."))
    assert with_first(talk, "Board") == (talk[0], Message("user", "Play.\n\nBoard"))
    assert with_first(talk[:1], "Board") == (talk[0], Message("user", "Board"))
    assert (with_first("", "Board"), with_first(talk, "")) == ("Board", talk)


def test_a_missing_package_is_told(monkeypatch):
    """Mutation caught: an ImportError without the extra that brings the package."""
    for name, spec in (
        ("gymnasium", "gym:X-v0"),
        ("textarena", "textarena:X"),
        ("verifiers", "verifiers:x"),
    ):
        for module in [m for m in sys.modules if m.split(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UserError, match=r"pip install 'heedful\["):
            load_env(spec)


def test_gymnasium():
    """FrozenLake, as it comes. Mutations caught: a seed that is not the task's; a wrong move that is a step; what
    Gymnasium truncates taken for an end; names in another order."""
    pytest.importorskip("gymnasium", reason="the extra gym is not installed")
    spec = "gym:FrozenLake-v1(is_slippery=false, actions='left down right up')"
    env = load_env(spec)
    way = ["down", "I go down!", "right", "right", "down", "right"]
    won = play_one(Script(TOK, "fly", *way), env, USER, TOK, {"seed": 1}, max_tokens=60)
    check(won, TOK)
    assert (won.ended, won.score, won.counts["wrong_moves"]) == ("terminated", 1.0, 1)
    assert won.messages[2].content == "Answer with your move: left, down, right, up."
    assert [m.content for m in won.messages if m.role == "user"][2:] == ["4", "8", "9", "10", "14"]
    fell = play_one(Script(TOK, "down", "right"), env, USER, TOK, {"seed": 1}, max_tokens=60)
    assert (fell.ended, fell.score) == ("terminated", 0.0)
    stays = load_env("gym:FrozenLake-v1(is_slippery=false, max_episode_steps=3)")
    long = play_one(Script(TOK, "Move 0."), stays, USER, TOK, {"seed": 1})
    assert (long.ended, len(long.turns)) == ("truncated", 3)
    poles = load_env("gym:CartPole-v1")
    episodes = [
        play_one(Script(TOK, "0"), poles, USER, TOK, {"seed": s}, seed=s, limits=Limits(turns=4))
        for s in (7, 7, 8)
    ]
    seen = [[m.content for m in e.messages] for e in episodes]
    assert seen[0] == seen[1] != seen[2] and re.search(r"\[-?0\.\d+, ", seen[0][0])
    rows = [tasks_of(poles, split, 0) for split in ("train", "held_out")]  # type: ignore[arg-type]
    assert not {r["seed"] for r in rows[0]} & {r["seed"] for r in rows[1]}
    with pytest.raises(UserError, match="nonesuch"):
        load_env("gym:nonesuch-v9")
    with pytest.raises(UserError, match="4 actions, and 1 names"):
        load_env("gym:FrozenLake-v1(actions=left)")
    with pytest.raises(UserError, match="text or one of n"):
        load_env("gym:Pendulum-v1")


def test_textarena():
    """Mutations caught: games that share random numbers; the player's own moves told to it; a game for two."""
    pytest.importorskip("textarena", reason="the extra textarena is not installed")
    env = load_env("textarena:GuessTheNumber-v0(max_turns=20)")
    moves = [f"[{n}]" for n in (10, 15, 5, 12, 18, 3, 7)]

    def heard(seeds: list[int]) -> list[list[str]]:
        facts = [{"seed": s} for s in seeds]
        groups = play_all(
            _Alone(TOK, *moves),
            env,
            [USER] * len(seeds),
            TOK,
            facts,
            limits=Limits(turns=5),
            max_tokens=30,
        )
        for (episode,) in groups:
            check(episode, TOK)
        return [[m.content for m in e.messages if m.role == "user"] for (e,) in groups]

    together = heard([1, 2, 3])
    assert together == [heard([s])[0] for s in (1, 2, 3)]
    assert len({str(h) for h in together}) > 1
    assert "[10]" not in "".join(together[0][1:]) and "target number is" in together[0][1]
    won = play_one(
        Script(TOK, *[f"[{n}]" for n in range(1, 21)]), env, USER, TOK, {"seed": 5}, max_tokens=30
    )
    assert (won.ended, won.reward) == ("terminated", 1.0)
    with pytest.raises(UserError, match="textarena:TicTacToe-v0"):
        load_env("textarena:TicTacToe-v0")


class _Alone(Script):
    """Says the n-th thing in the n-th turn of each episode."""

    async def generate(self, tokens, **how):
        turn = list(tokens).count(TOK.convert_tokens_to_ids("<|assistant|>")) - 1
        self.asked = [()] * turn
        return await super().generate(tokens, **how)


@contextlib.contextmanager
def served(app: Any) -> Iterator[str]:
    """A server in a thread, while the block runs."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"ws://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.mark.long
def test_openenv():
    """A server of the package's own kind, and one with MCP tools. Mutations caught: an action under another field; a
    reward that is lost; a call that is not sent as one; more sessions at once than were asked for."""
    pytest.importorskip("openenv", reason="the extra openenv is not installed")
    fastmcp = pytest.importorskip("fastmcp")
    from openenv.core.env_server.http_server import create_app
    from openenv.core.env_server.interfaces import Environment
    from openenv.core.env_server.mcp_environment import MCPEnvironment
    from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
    from openenv.core.env_server.types import Action, Observation, State

    class Guess(Action):
        word: str

    class Told(Observation):
        text: str = ""

    class Game(Environment):
        SUPPORTS_CONCURRENT_SESSIONS = True

        def __init__(self) -> None:
            super().__init__()
            self.state_ = State(step_count=0)

        def reset(self, seed=None, episode_id=None, **more):
            return Told(text=f"Game {seed}", done=False, reward=None)

        def step(self, action, timeout_s=None, **more):
            won = action.word == "heron"
            return Told(text=f"not {action.word}", done=won, reward=1.0 if won else 0.1)

        @property
        def state(self):
            return self.state_

    Game.step.__annotations__["action"] = Guess
    with served(create_app(Game, Guess, Told, env_name="game", max_concurrent_envs=2)) as url:
        env = load_env(f"openenv:{url}", {"at_once": 2})
        script = _Alone(TOK, "crane", " heron ")
        groups = play_all(
            script, env, [USER] * 4, TOK, [{"seed": s} for s in range(4)], max_tokens=40
        )
        for seed, (episode,) in enumerate(groups):
            check(episode, TOK)
            assert (episode.score, episode.ended) == (1.1, "terminated")
            texts = [m.content for m in episode.messages if m.role == "user"]
            assert texts == [f"Guess.\n\nGame {seed}", "not crane"]
        with pytest.raises(UserError, match="has no field 'move'"):
            load_env(f"openenv:{url}(action=move)")

    class Tools(MCPEnvironment):
        def __init__(self) -> None:
            mcp = fastmcp.FastMCP("tools")

            @mcp.tool
            def double(n: int) -> int:
                """Doubles a number."""
                return 2 * n

            super().__init__(mcp)
            self.state_ = State(step_count=0)

        def reset(self, seed=None, episode_id=None, **more):
            return Observation(done=False, reward=0.0)

        def _step_impl(self, action, timeout_s=None, **more):
            return Observation(done=False, reward=0.0)

        @property
        def state(self):
            return self.state_

    with served(create_app(Tools, CallToolAction, CallToolObservation, env_name="tools")) as url:
        script = Script(TOK, called("double", '{"n": 4}'), called("triple"), "Eight.")
        episode = play_one(script, load_env(f"openenv:{url}"), USER, TOK, max_tokens=100)
        check(episode, TOK)
        answers = [m.content for m in episode.messages if m.role == "tool"]
        assert answers[0] == "8" and answers[1].startswith("Error: ")
        assert '"double"' in TOK.decode(list(script.asked[0]))


def test_no_openenv_server():
    pytest.importorskip("openenv", reason="the extra openenv is not installed")
    with pytest.raises(UserError, match="no OpenEnv server answers"):
        load_env("openenv:ws://127.0.0.1:9")
    with pytest.raises(UserError, match="expected openenv:ws"):
        load_env("openenv:game")


ECHO = """
import verifiers.v1 as vf


class Word(vf.TaskData):
    answer: str


class Say(vf.Task[Word]):
    @vf.stop
    async def once(self, trace: vf.Trace) -> bool:
        return trace.num_turns >= 1

    @vf.reward(weight=2.0)
    async def said(self, trace: vf.Trace) -> float:
        return float(self.data.answer in (trace.last_reply or ""))


class Words(vf.Taskset[Say, vf.TasksetConfig]):
    def load(self) -> list[Say]:
        words = ["heron", "crane", "stork", "egret", "ibis"]
        return [Say(Word(idx=i, prompt=f"Say {w}.", answer=w), self.config.task) for i, w in enumerate(words)]


__all__ = ["Words"]
"""


@pytest.mark.long
def test_verifiers(tmp_path: Path, monkeypatch):
    """A taskset whose program asks over the network. Mutations caught: an episode that hears another's requests; a
    weight that is lost; a budget that their program is not told of; held-out tasks that are trained on."""
    pytest.importorskip("verifiers", reason="the extra verifiers is not installed")
    if shutil.which("uv") is None:
        pytest.skip("verifiers runs its programs by uv")
    (tmp_path / "say_words.py").write_text(ECHO)
    monkeypatch.syspath_prepend(str(tmp_path))
    env = load_env("verifiers:say-words")
    rows = [tasks_of(env, split, 0) or [] for split in ("train", "held_out")]
    assert [[r["task"] for r in part] for part in rows] == [[0, 1, 2, 3], [4]]
    facts = [{"task": 0}, {"task": 1}]
    groups = play_all(Script(TOK, "The heron."), env, [USER, USER], TOK, facts, max_tokens=20)
    for (episode,), worth in zip(groups, (2.0, 0.0), strict=True):
        check(episode, TOK)
        assert (episode.ended, episode.reward, len(episode.turns)) == ("terminated", worth, 1)
    assert groups[0][0].messages[0].content == "Say heron."
    cut = play_one(Script(TOK, "The heron."), env, USER, TOK, facts[0], max_tokens=2)
    assert (cut.ended, cut.cause, cut.reward) == ("truncated", "tokens", 0.0)
    with pytest.raises(UserError, match="plays its own tasks"):
        play_one(Script(TOK, "x"), env, USER, TOK)
    with pytest.raises(UserError, match="not installed"):
        load_env("verifiers:no-such-thing-here")
