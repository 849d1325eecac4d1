"""Many at once, and a server that dies: nothing lost, nothing twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from heedful.store import audit, schema
from heedful.store.db import Store, open_store
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


WORKER = textwrap.dedent("""
    import sys
    sys.path.insert(0, {tests!r})
    from workspace import answer, claim
    from heedful.store.db import open_store, new_id
    url, project, rater = sys.argv[1:]
    store = open_store(url)
    print("ready", flush=True)
    sys.stdin.readline()
    while given := claim(store, project, rater):
        key = new_id()
        print("try", key, flush=True)
        answer(store, given, rater, {{"value": 1}}, key=key)
        print("ack", key, flush=True)
""")


def test_kill_at_any_moment_loses_no_acknowledged_judgment(url: str):
    """kill -9 of three processes again and again: acknowledged ⊆ stored ⊆ tried, and the books are right."""
    store = open_store(url)
    project = make_project(store)
    make_tasks(store, project, 400, overlap=2)
    raters = [make_rater(store) for _ in range(3)]
    code = WORKER.format(tests=str(Path(__file__).parents[1]))
    tried: set[str] = set()
    acknowledged: set[str] = set()
    rng = random.Random(0)
    for _ in range(4):
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", code, url, project, rater],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for rater in raters
        ]
        for worker in workers:
            assert worker.stdout and worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin
            worker.stdin.write("go\n")
            worker.stdin.flush()
        # One has told of some answers; the others are anywhere, and it is soon, too.
        heard = [line for _ in range(rng.randint(8, 40)) if (line := workers[0].stdout.readline())]
        time.sleep(rng.uniform(0, 0.02))
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
        for worker in workers:
            heard += worker.stdout.read().splitlines()
            worker.stdin.close()
            worker.stdout.close()
            worker.wait()
        for line in heard:
            word, key = line.split()
            (acknowledged if word == "ack" else tried).add(key)
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
