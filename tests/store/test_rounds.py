"""Rounds: what is waited for, what judges say, what training reads, and that no judgment is read twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event

from heedful.data.files import read_rows, write_rows
from heedful.errors import UserError
from heedful.store.database.db import Store, new_id
from heedful.store.exports.snapshot import Query
from heedful.store.intake import imported
from heedful.store.lead import rounds
from heedful.store.project import content
from heedful.store.rating import judging, work
from heedful.transfer.rounds import Round, freeze, held_out_with, merge
from heedful.transfer.workspace import export_file
from heedful.types import Comparison, Message
from workspace import answer, claim, make_project, make_rater, make_task, make_tasks


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
    assert (state.expected, state.done, state.parked, state.over) == (6, 1, 2, False)
    with store.write() as connection:
        for task in tasks:
            work.unpark(connection, task, close=True)
        assert rounds.waiting(connection, tasks).over
        assert not rounds.waiting(connection, tasks[:0]).expected


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
            (row,) = rounds.comparisons(connection, project, [task])
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
        (before,) = rounds.comparisons(connection, project, [task])
    answer(store, given, rater, {"value": 8})
    with store.read() as connection:
        (after,) = rounds.comparisons(connection, project, [task])
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
        assert rounds.comparisons(connection, project, [task]) == []


def test_no_question_is_asked_of_the_database_for_each_answer(store: Store, tmp_path: Path):
    """Mutation caught: N + 1 queries, in an export, in what a round reads and in what merging reads."""
    project, rater = make_project(store), make_rater(store)

    def statements(n: int) -> list[int]:
        for task in (tasks := make_tasks(store, project, n, responses=("a", f"b{n}"))):
            said(store, task, rater, {"value": 1})
        folder = tmp_path / str(n)
        with counted(store) as export:
            export_file(store, project, Query("rankings"), folder / "rankings.jsonl")
        with counted(store) as freezing:
            done = frozen(store, project, tasks, folder)
        with counted(store) as merging:
            merged(store, [str(folder / "rankings.jsonl")], [done], folder)
        return [len(asked) for asked in (export, freezing, merging)]

    assert statements(3) == statements(30)


@contextmanager
def counted(store: Store) -> Iterator[list[str]]:
    """The statements that the database gets meanwhile."""
    asked: list[str] = []

    def listener(_connection, _cursor, statement: str, *_) -> None:
        asked.append(statement)

    event.listen(store.engine, "before_cursor_execute", listener)
    yield asked
    event.remove(store.engine, "before_cursor_execute", listener)


def said(store: Store, task: str, rater: str, words: dict) -> str:
    """An answer to a pair in its own order; returns its assignment."""
    with store.write() as connection:
        given = work.assign(connection, task, rater, order=(0, 1))
        judging.submit(connection, given, rater, words, key=new_id(), active_ms=2500)
        return given


def frozen(store: Store, project: str, tasks: Sequence[str], folder: Path) -> Round:
    done = Round(folder / "comparisons.jsonl", tasks)
    freeze(store, project, done, held_out_with([]))
    return done


def merged(
    store: Store, kept: list[str], done: list[Round], folder: Path
) -> tuple[list[dict], list[dict]]:
    """(train, evaluation)"""
    files = folder / "train.jsonl", folder / "evaluation.jsonl"
    merge(store, kept, done, held_out_with(["q3"]), train=files[0], evaluation=files[1])
    train, evaluation = (
        [row for _, row in read_rows(f)] if f.exists() and f.stat().st_size else [] for f in files
    )
    return train, evaluation


@pytest.fixture
def folder(store: Store, url: str, tmp_path: Path) -> Path:
    """A workspace with the database of `store`."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "heedful.toml").write_text(f'database = "{url}"\n')
    return tmp_path / "work"


@pytest.mark.parametrize("release", ["this", "last"])
def test_a_judgment_counts_once_whoever_holds_it(store: Store, folder: Path, release: str):
    """A round's rows, its project as db: and as files of both forms, corrections; frozen by this or the last release.

    Mutations caught: rounds and `db:` of one project added up; a correction beside what it corrects; an answer
    lost that came after a round was frozen.
    """
    project, ada, bao = make_project(store), make_rater(store), make_rater(store)
    tasks = [make_task(store, project, question=f"t{i}", overlap=2) for i in range(4)]
    given = [said(store, task, ada, {"value": 1}) for task in tasks]
    done = frozen(store, project, tasks[:3], folder / "round-1")
    if release == "last":
        rows = [dict(row, rater=ada) for _, row in read_rows(done.comparisons)]
        names = ("prompt", "responses", "ranking", "strength", "rater", "order_shown", "seconds")
        write_rows(done.comparisons, ({n: row[n] for n in names} for row in rows))
    bytes_before = done.comparisons.read_bytes()
    for what in ("rankings", "comparisons"):
        export_file(store, project, Query(what), folder / f"{what}.jsonl")
    answer(store, given[0], ada, {"value": 8})  # of the round, corrected
    answer(store, given[3], ada, {"value": 8})  # of no round, corrected
    said(store, tasks[0], bao, {"value": 1})  # late
    kept = [
        f"db:{folder}#capitals",
        *(str(folder / f"{w}.jsonl") for w in ("rankings", "comparisons")),
    ]
    train, evaluation = merged(store, kept, [done], folder)
    assert done.comparisons.read_bytes() == bytes_before
    # Of a release that named no judgments, it is not known which of a task's answers a round has.
    late = [] if release == "last" else [("t0", 1)]
    found = [(r["prompt"][0]["content"], r["ranking"][r["responses"].index("Lima.")])
             for r in train + evaluation]  # fmt: skip
    assert found == [("t3", 2), *late, ("t0", 1), ("t1", 1), ("t2", 1)]


def test_a_file_and_what_was_imported_from_it_count_once(store: Store, folder: Path):
    """Mutation caught: a kept file beside the project into which it was imported, both in full."""
    project = make_project(store)
    items = [
        Comparison(f"q{i}", ("a", "b"), (1, 3), rater=r) for i in range(5) for r in ("Ada", None)
    ]
    imported.comparisons(store, project, items[:6])
    write_rows(folder / "all.jsonl", (
        {"prompt": c.prompt, "responses": c.responses, "ranking": c.ranking, "rater": c.rater}
        for c in items
    ))  # fmt: skip
    train, evaluation = merged(store, [str(folder / "all.jsonl"), f"db:{folder}"], [], folder)
    counts = Counter((row["prompt"], row.get("rater") or "imported") for row in train + evaluation)
    assert counts == {(c.prompt, c.rater or "imported"): 1 for c in items}
    assert {row["prompt"] for row in evaluation} == {"q3"}
    # What a file says twice was said twice, and nobody knows whether another's words are the same person's.
    write_rows(folder / "twice.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "b"}] * 2)
    train, _ = merged(store, [str(folder / "twice.jsonl")] * 2, [], folder)
    assert len(train) == 4


def test_answers_about_held_out_prompts_alone_are_no_round(store: Store, folder: Path):
    project, ada = make_project(store), make_rater(store)
    numbers = [i for i in range(60) if content.split_of((Message("user", f"{i}?"),)) == "held_out"]
    tasks = [make_task(store, project, question=f"{i}?") for i in [*numbers, 0]]
    for task in tasks[:-1]:
        said(store, task, ada, {"value": 1})
    with pytest.raises(
        UserError, match=f"all {len(numbers)} answers .* held-out prompts .*; ask more"
    ):
        frozen(store, project, tasks, folder / "round-1")
    said(store, tasks[-1], ada, {"value": 1})
    frozen(store, project, tasks, folder / "round-1")
