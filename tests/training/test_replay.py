"""Logged episodes become what a rollout would have recorded, and what is wrong with a row is told."""

from __future__ import annotations

from pathlib import Path

import pytest

import games
from games import Script, play_all
from heedful.data.episodes import as_samples, transcript_row
from heedful.data.logged import Logged, conditioned, logged_of, stream_logged
from heedful.data.sources import facts_of, prompt_of, write_rows
from heedful.envs import Limits, load_env
from heedful.envs.specs import tasks_of
from heedful.errors import UserError
from heedful.training.kept import KeptEpisodes
from heedful.training.replay import replayed
from heedful.types import Message

TOK = games.tokenizer()
CALL = '<tool_call>{"name": "calculate", "arguments": {"expression": "2 * 3"}}</tool_call>'
PLAYS = {
    "maze": ["north", "up", "south"],
    "words": ["cat", "dog", "ace"],
    "calculator": [CALL, "It is 6."],
}


def played(name: str, **how):
    env = load_env(name)
    row = tasks_of(env, "train", 0)[0]
    script = Script(TOK, *PLAYS[name])
    ((episode,),) = play_all(script, env, [prompt_of("", row)], TOK, [facts_of(row)], **how)
    return episode


@pytest.mark.parametrize("name", PLAYS)
def test_a_transcript_is_played_again_token_for_token(name):
    """Mutation caught: turns rendered anew, an end of turn lost or doubled, a reward on another turn, tools that the
    template was not shown."""
    episode = played(name, limits=Limits(turns=3), max_tokens=300)
    (sample,) = as_samples(episode)
    (logged,) = logged_of("a row", transcript_row(episode, 0, "script", 0))
    again = replayed(TOK, logged)
    assert (again.tokens, again.mask) == (sample.tokens, sample.mask)
    ends = episode.reward if episode.ended == "terminated" else 0.0
    rewards = [s.reward for s in sample.steps]
    assert [s.reward for s in again.steps] == [*rewards[:-1], rewards[-1] + ends]
    assert [(s.start, s.stop) for s in again.steps] == [(s.start, s.stop) for s in sample.steps]
    assert again.stop_reason == ("length" if episode.ended == "truncated" else "stop")


def test_a_turn_that_a_limit_cut_has_no_end():
    """Mutation caught: an end token that nobody wrote."""
    episode = played("maze", limits=Limits(turn_tokens=2), max_tokens=2)
    (sample,) = as_samples(episode)
    (logged,) = logged_of("a row", transcript_row(episode, 0, "script", 0))
    assert episode.cause == "tokens" and replayed(TOK, logged).tokens == sample.tokens


def test_returns_stand_before_each_turn():
    """Rewards −1, −1, 3: what is to come is 1, 2, 3. Mutation caught: the rewards so far, a return on the answer."""
    said = [
        Message("user" if text.endswith("?") else "assistant", text)
        for text in ["A?", "b", "C?", "d", "E?", "f"]
    ]
    episode = Logged(tuple(said), (1, 3, 5), (-1.0, -1.0, 3.0))
    texts = [m.content for m in conditioned(episode).messages]
    assert texts == ["A?\nReturn: 1", "b", "C?\nReturn: 2", "d", "E?\nReturn: 3", "f"]


def test_what_came_at_the_end_is_the_last_turns():
    row = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]}
    assert logged_of("", row | {"rewards": [-1], "reward": 2})[0].rewards == (2.0,)
    assert logged_of("", row | {"reward": 2})[0].rewards == (2.0,)
    assert logged_of("", row | {"rewards": [0.1]})[0].rewards == (0.1,)


TALK = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]


@pytest.mark.parametrize(
    "row, words",
    [
        ({"messages": TALK}, "a logged episode needs `rewards`"),
        ({"messages": TALK, "rewards": [1, 2]}, "`rewards` must be 1 finite numbers"),
        ({"messages": TALK, "rewards": [float("nan")]}, "must be 1 finite numbers"),
        ({"messages": TALK, "reward": "good"}, "`reward` must be a finite number"),
        (
            {"messages": TALK, "reward": 1, "ended": "lost"},
            "`ended` must be terminated or truncated",
        ),
        ({"messages": TALK[:1], "reward": 1}, "no assistant turn"),
        ({"prompt": "?", "reward": 1}, "expected a column `messages`"),
    ],
)
def test_what_is_no_episode_is_told(row, words, tmp_path: Path):
    write_rows(tmp_path / "rows.jsonl", [row])
    with pytest.raises(UserError, match=r"rows\.jsonl") as told:
        list(stream_logged(str(tmp_path / "rows.jsonl")))
    assert words in str(told.value)


def test_episodes_come_back_from_the_disk_as_they_were(tmp_path):
    """Mutation caught: a mask of one run, rewards in another order, a limit forgotten."""
    samples = []
    for name in PLAYS:
        episode = played(name, limits=Limits(turns=2), max_tokens=300)
        (logged,) = logged_of("a row", transcript_row(episode, 0, "script", 0))
        samples.append(replayed(TOK, logged))
    kept = KeptEpisodes(tmp_path)
    kept.extend(samples)
    assert kept[:] == samples
