"""Many at once, and a server that dies: nothing lost, nothing twice."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from multiprocessing.connection import Connection, wait
from typing import cast

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

import interruptions as jobs
from heedful.store.database import audit
from heedful.store.database.db import Store, new_id, open_store
from heedful.store.tables import schema
from workspace import answer, claim, make_project, make_rater, make_task, make_tasks


def at_once(n: int, do) -> None:
    errors: list[BaseException] = []
    gate = threading.Barrier(n)

    def run(i: int) -> None:
        gate.wait()
        try:
            do(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert errors == []


def test_many_raters_claim_at_once(store: Store):
    """Overlap exact, nobody starved: 60 raters and 60 slots, each gets one."""
    project = make_project(store)
    make_tasks(store, project, 20, overlap=3)
    raters = [make_rater(store) for _ in range(60)]
    got: list[str | None] = [None] * 60

    def do(i: int) -> None:
        got[i] = claim(store, project, raters[i])

    at_once(60, do)
    assert None not in got and len(set(got)) == 60
    with store.read() as connection:
        leased = connection.execute(
            select(schema.assignment.c.task, schema.assignment.c.slot)
        ).all()
    assert Counter(leased).most_common(1)[0][1] == 1


def test_one_raters_tabs_claim_at_once(store: Store):
    project, rater = make_project(store), make_rater(store)
    make_tasks(store, project, 10)
    got: set[str | None] = set()
    at_once(8, lambda i: got.add(claim(store, project, rater)))
    assert len(got) == 1


def test_the_same_submit_at_once_is_one_judgment(store: Store):
    """A double click, a retry and a second tab: one row, the others are told the same or try again."""
    project, rater = make_project(store), make_rater(store)
    make_task(store, project)
    given = claim(store, project, rater)
    assert given
    receipts: list[str] = []
    at_once(8, lambda i: receipts.append(answer(store, given, rater, key="k").judgment))
    assert len(set(receipts)) == 1 and len(receipts) == 8


def test_the_same_gold_question_for_many_at_once(store: Store):
    project = make_project(store, gold_rate=1.0)
    make_tasks(store, project, 20)
    make_task(store, project, question="gold?", gold={"ranks": {}})
    raters = [make_rater(store) for _ in range(10)]
    tasks: list[str | None] = []
    at_once(10, lambda i: tasks.append(claim(store, project, raters[i])))
    assert len(set(tasks)) == 10


def _judge(url: str, project: str, rater: str, told: Connection) -> None:
    """Answers until there is nothing left or the process is killed, and tells of each before and after."""
    store = open_store(url)
    told.send("ready")
    told.recv()
    while given := claim(store, project, rater):
        key = new_id()
        told.send(("try", key))
        answer(store, given, rater, {"value": 1}, key=key)
        told.send(("ack", key))


def _killed(url: str, project: str, raters: list[str], rng: random.Random) -> list[tuple]:
    """What three processes had told when they were killed, somewhere in their work."""
    pipes, workers = [], []
    for rater in raters:
        ours, theirs = jobs.CONTEXT.Pipe()
        workers.append(jobs.CONTEXT.Process(target=_judge, args=(url, project, rater, theirs)))
        jobs.launch(workers[-1])
        theirs.close()
        pipes.append(ours)
    assert [pipe.recv() for pipe in pipes] == ["ready"] * len(raters)
    for pipe in pipes:
        pipe.send("go")
    # They have told of some answers, whoever they are: on SQLite one may wait while the others answer everything.
    heard, enough = list[tuple](), rng.randint(8, 80)
    while len(heard) < enough:
        heard += [pipe.recv() for pipe in cast("list[Connection]", wait(pipes))]
    time.sleep(rng.uniform(0, 0.02))
    for worker in workers:
        worker.kill()
    for pipe, worker in zip(pipes, workers, strict=True):
        with contextlib.suppress(EOFError, ConnectionResetError):
            while True:
                heard.append(pipe.recv())
        pipe.close()
        jobs.finish(worker)
    return heard


@pytest.mark.long
def test_kill_at_any_moment_loses_no_acknowledged_judgment(url: str):
    """kill -9 of three processes again and again: acknowledged ⊆ stored ⊆ tried, and the books are right."""
    store = open_store(url)
    project = make_project(store)
    make_tasks(store, project, 400, overlap=2)
    raters = [make_rater(store) for _ in range(3)]
    rng = random.Random(0)
    heard = [line for _ in range(4) for line in _killed(url, project, raters, rng)]
    acknowledged, tried = ({key for word, key in heard if word == w} for w in ("ack", "try"))
    with store.read() as connection:
        stored = set(connection.execute(select(schema.judgment.c.idempotency_key)).scalars())
        done = connection.execute(
            select(func.count())
            .select_from(schema.task_slot)
            .where(schema.task_slot.c.state == "done")
        ).scalar()
        assert audit.broken_at(connection) is None
        if store.dialect == "sqlite":
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    store.close()
    assert len(acknowledged) > 10
    assert acknowledged <= stored <= tried and len(stored) == done
    assert len(stored - acknowledged) <= 4 * len(raters)


def test_a_reader_sees_one_state_while_others_write(store: Store):
    """A training snapshot must not change under the export."""
    project = make_project(store)
    make_tasks(store, project, 3)
    with store.read() as connection:
        count = select(func.count()).select_from(schema.task)
        assert connection.execute(count).scalar() == 3
        make_task(store, project, question="later")
        assert connection.execute(count).scalar() == 3
    with store.read() as connection:
        assert connection.execute(count).scalar() == 4


def test_a_broken_rule_is_not_called_unavailable(store: Store):
    with pytest.raises(IntegrityError), store.write() as connection:
        connection.execute(schema.gold_key.insert().values(task="nobody", answer={}))
