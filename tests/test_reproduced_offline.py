"""What the reproductions of learning from logged episodes share."""

from __future__ import annotations

import pytest

from heedful import api
from heedful.data.files import read_rows
from heedful.reproductions import ilql_maze, offline


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


def test_each_stage_begins_with_one_before_it():
    """Mutation caught: a stage that begins with one that is not there yet; filtered cloning of all episodes."""
    known = ["model"]
    for name, stage in ilql_maze.STAGES.items():
        assert stage.start in known and stage.arms and stage.data in ("", "all", "best")
        assert (stage.data == "best") == (name == "filtered BC")
        known.append(name)
    assert ilql_maze.STAGES["BC"].arms[0] == 1.0, "the gate is at T = 1"


def test_what_plays_itself_is_paid_as_it_is_measured(monkeypatch, tmp_path):
    """An answer that is too long ends an episode, and costs all its turns in training, too. Mutation caught: none of
    that, from which RLOO learns to say too much at once; a stage that learns from logs and is told to play."""
    asked = {}
    monkeypatch.setattr(api, "run", lambda command, **how: asked.update({command: how}))
    logs = ilql_maze.logs(0)
    for name in logs.stages:
        offline.trained(logs, 0, tmp_path, name, quick=True)
    online = asked.pop("train rloo")
    assert online["missing_eos_penalty"] == logs.turns and "data" not in online
    assert online["env"] == "maze" and online["max_tokens"] == logs.longest
    assert all("env" not in how and how["data"].endswith(".jsonl") for how in asked.values())


@pytest.mark.long
def test_quickly(tmp_path):
    """From the logs to all that its criteria and its picture are about. Mutations caught: a criterion of a number that
    is never measured; a stage that takes no such flag."""
    found = ilql_maze.run(0, tmp_path, True)
    it = ilql_maze.REPRODUCTION
    assert it.figure and all(criterion.value in found for criterion in it.criteria)
    assert {"data", *ilql_maze.STAGES} < set(it.figure([{"seed": 0, **found}]).lines)
    assert found["online RL"] <= 0 and set(found["ILQL, by arm"]) == set(map(str, ilql_maze.BETAS))
