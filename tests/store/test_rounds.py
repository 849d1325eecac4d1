"""Rounds: what is waited for, what judges say, what training reads."""

from __future__ import annotations

import pytest

from heedful.store import rounds, work
from heedful.store.db import Store
from workspace import answer, claim, make_project, make_rater, make_task


def test_waiting_counts_answers_not_tasks(store: Store):
    project, rater = make_project(store), make_rater(store)
    tasks = [make_task(store, project, question=f"{i}?", overlap=2) for i in range(3)]
    given = claim(store, project, rater)
    assert given
    answer(store, given, rater)
    given = claim(store, project, rater)
    assert given
    answer(store, given, rater, {"flag": "no"})
    with store.read() as connection:
        state = rounds.waiting(connection, tasks)
    assert (state.wanted, state.done, state.parked, state.over) == (6, 1, 2, False)
    with store.write() as connection:
        for task in tasks:
            work.unpark(connection, task, close=True)
        assert rounds.waiting(connection, tasks).over
        assert not rounds.waiting(connection, tasks[:0]).wanted


@pytest.mark.parametrize("kind, responses", [("pair", "ab"), ("rank", "abcd")])
def test_what_a_judge_says_comes_back(store: Store, kind: str, responses: str):
    """The order shown is random; a rank that is not turned back by it would be another response's."""
    project = make_project(store)
    for i in range(8):
        judge = make_rater(store, "judge")
        task = make_task(store, project, kind, [f"{r}{i}" for r in responses], f"{i}?")
        ranking = [2, 1] if kind == "pair" else [3, 1, 2, 2]
        with store.write() as connection:
            first = rounds.judge(connection, task, judge, ranking, key="k")
            assert rounds.judge(connection, task, judge, ranking, key="k").replayed
        with store.read() as connection:
            (row,) = rounds.comparisons(connection, [task])
        assert dict(zip(row["responses"], row["ranking"], strict=True)) == {
            f"{r}{i}": rank for r, rank in zip(responses, ranking, strict=True)
        }
        assert sorted(row["order_shown"]) == list(range(len(responses)))
        assert first.disposition == "counted"


def test_only_the_latest_word_of_each_rater_is_read(store: Store):
    project, rater = make_project(store), make_rater(store)
    task = make_task(store, project)
    given = claim(store, project, rater)
    assert given
    answer(store, given, rater, {"value": 1})
    with store.read() as connection:
        (before,) = rounds.comparisons(connection, [task])
    answer(store, given, rater, {"value": 8})
    with store.read() as connection:
        (after,) = rounds.comparisons(connection, [task])
    assert before["responses"] == after["responses"]
    assert before["ranking"] == after["ranking"][::-1]
    assert after["strength"] == 1.0


def test_skips_are_no_comparisons(store: Store):
    project, rater = make_project(store), make_rater(store)
    task = make_task(store, project)
    given = claim(store, project, rater)
    assert given
    answer(store, given, rater, {"skip": None})
    with store.read() as connection:
        assert rounds.comparisons(connection, [task]) == []
