"""What the reproductions of learning from logged episodes share, and the game of one of them, exactly."""

from __future__ import annotations

from collections import Counter

import pytest

from heedful import api
from heedful.data.files import read_rows
from heedful.reproductions import ilql_maze, ilql_words, offline

BOTH = pytest.mark.parametrize("module", [ilql_maze, ilql_words])


def test_what_a_limit_ended_has_cost_every_turn():
    """Mutation caught: an answer that is too long, which ends a game early, is worth more than a game that is lost."""
    assert offline.worth({"reward": -2.0, "ended": "terminated"}, 6) == -2
    assert offline.worth({"reward": -2.0, "ended": "truncated"}, 6) == -6


def test_what_is_logged(tmp_path):
    """Another seed logs others. Mutation caught: a file that an earlier call's episodes stay in."""
    rows = {}
    for seed in (0, 0, 1):
        rows[seed] = offline.played(ilql_maze.logs(0), seed, tmp_path / "all.jsonl", 12)
        assert len(list(read_rows(tmp_path / "all.jsonl"))) == len(rows[seed]) == 12
    assert rows[0] != rows[1]


def test_all_that_may_be_thought_of_is_logged_as_often(tmp_path):
    """And nothing is told before the first turn. Mutation caught: games about one thing only."""
    rows = offline.played(ilql_words.logs(0), 0, tmp_path / "all.jsonl", 2 * ilql_words.THINGS)
    assert {row["messages"][0]["content"] for row in rows} == {"I am thinking of something."}
    assert set(Counter(row["secret"] for row in rows).values()) == {2}


def test_the_best_play_is_exact():
    """A question parts eight things in halves; to guess at four costs as much as to ask once more, 1.5. Mutations
    caught: a right guess that costs, questions that tell nothing."""
    assert ilql_words.best_play() == -2.5


@BOTH
def test_each_stage_begins_with_one_before_it(module):
    """Mutation caught: a stage that begins with one that is not there yet; filtered cloning of all episodes."""
    known = ["model"]
    for name, stage in module.STAGES.items():
        assert stage.start in known and stage.arms and stage.data in ("", "all", "best")
        assert (stage.data == "best") == (name == "filtered BC")
        known.append(name)
    assert module.STAGES["BC"].arms[0] == 1.0, "the gate is at T = 1"


@BOTH
def test_what_plays_itself_is_paid_as_it_is_measured(module, monkeypatch, tmp_path):
    """An answer that is too long ends an episode, and costs all its turns in training, too. Mutation caught: none of
    that, from which RLOO learns to say too much at once; a stage that learns from logs and is told to play."""
    asked = {}
    monkeypatch.setattr(api, "run", lambda command, **how: asked.update({command: how}))
    logs = module.logs(0)
    for name in logs.stages:
        offline.trained(logs, 0, tmp_path, name, quick=True)
    online = asked.pop("train rloo")
    assert online["missing_eos_penalty"] == logs.turns and "data" not in online
    assert online["env"] == logs.env["env"] and online["max_tokens"] == logs.longest
    assert all("env" not in how and how["data"].endswith(".jsonl") for how in asked.values())


@pytest.mark.long
@BOTH
def test_quickly(module, tmp_path):
    """From the logs to all that its criteria and its picture are about. Mutations caught: a criterion of a number that
    is never measured; a stage that takes no such flag."""
    found = module.run(0, tmp_path, True)
    it = module.REPRODUCTION
    assert it.figure and all(criterion.value in found for criterion in it.criteria)
    assert {"data", *module.STAGES} < set(it.figure([{"seed": 0, **found}]).lines)
    assert found["online RL"] <= 0 and set(found["ILQL, by arm"]) == set(map(str, module.BETAS))
