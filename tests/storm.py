"""Many raters at once over HTTP, on bad lines, while the server is killed again and again.

Used by the test suite in small and by docs/results/nothing_lost.py in full. What a rater was told is kept must be
kept, and nothing must be kept twice.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import func, select

from heedful.store import audit, people, schema
from heedful.store.db import Store, new_id, open_store
from heedful.store.snapshot import reconcile
from postgres import free_port
from workspace import make_project, make_rater, make_task

AGAIN = (502, 503, 504)


@dataclass
class Server:
    """`heedful serve` in a process of its own, that can die at any moment."""

    workspace: Path
    url: str
    port: int
    process: subprocess.Popen | None = None

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "heedful",
            "serve",
            str(self.workspace),
            "--port",
            str(self.port),
        ]
        self.process = subprocess.Popen(
            command,
            env=os.environ | {"HEEDFUL_DATABASE": self.url},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait(self) -> None:
        for _ in range(1200):
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/login", timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        assert self.process
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Storm:
    """What came of it."""

    acknowledged: set[tuple[str, str]]  # rater, idempotency key
    judgments: list[tuple[str, str]]
    tried: int
    replays: int
    lost_answers: int  # requests whose answer the rater never saw
    kills: int
    seconds: float
    broken_audit: int | None
    overlap_exceeded: int
    seen_twice: int
    missing: int
    integrity: str


def storm(workspace: Path, url: str, *, raters: int, each: int, kills: int, seed: int = 0) -> Storm:
    """`raters` threads give `each` answers; requests are cut, repeated, doubled; the server is killed `kills` times."""
    workspace.mkdir(parents=True, exist_ok=True)
    (workspace / "heedful.toml").write_text("")
    store = open_store(url)
    project = make_project(store, gold_rate=0.05, swap_rate=0.03)
    overlap = min(5, raters)
    # Enough for everybody: nobody sees a task twice, and each answer fills one slot.
    for i in range(raters * each // overlap + each):
        make_task(store, project, question=f"{i}?", overlap=overlap)
    for i in range(20):
        make_task(store, project, question=f"gold {i}?", gold={"ranks": {}})
    tokens = []
    for _ in range(raters):
        rater = make_rater(store)
        with store.write() as connection:
            tokens.append((rater, people.make_token(connection, rater, "t", ["rate"])[1]))
    port = free_port()
    server = Server(workspace, url, port)
    server.start()
    server.wait()
    acknowledged: set[tuple[str, str]] = set()
    numbers: Counter[str] = Counter()
    guard = threading.Lock()
    errors: list[BaseException] = []
    threads = [
        threading.Thread(
            target=_rate,
            args=(
                port,
                project,
                token,
                each,
                random.Random(seed + i),
                acknowledged,
                numbers,
                guard,
                errors,
            ),
        )
        for i, token in enumerate(tokens)
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    rng, killed = random.Random(seed), 0
    while any(thread.is_alive() for thread in threads):
        done = len(acknowledged) / (raters * each)
        if killed < kills and done > (killed + 0.5) / (kills + 1):
            time.sleep(rng.random() * 0.3)
            server.kill()
            server.start()
            killed += 1
        time.sleep(0.05)
    seconds = time.monotonic() - began
    server.kill()
    if errors:
        raise errors[0]
    try:
        return _books(store, project, acknowledged, numbers, killed, seconds)
    finally:
        store.close()


def _rate(
    port: int,
    project: str,
    who: tuple[str, str],
    each: int,
    rng: random.Random,
    acknowledged: set[tuple[str, str]],
    numbers: Counter[str],
    guard: threading.Lock,
    errors: list[BaseException],
) -> None:
    rater, token = who
    waits = random.Random(rng.random())  # how often one waits is chance; what one does is not
    line = httpx.Client(
        base_url=f"http://127.0.0.1:{port}",
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    )
    try:
        for _ in range(each):
            task = _insist(line, numbers, waits, f"/api/projects/{project}/next", {"holding": []})[
                "task"
            ]
            assert task is not None, "nothing left, although there is enough for everybody"
            key = new_id()
            body = {"answer": {"value": rng.randint(1, 8)}, "active_ms": rng.randint(1, 9999)}
            path = f"/api/assignments/{task['assignment']}/judgments"
            headers = {"Idempotency-Key": key}
            numbers["tried"] += 1
            if rng.random() < 0.05:  # the answer is lost on the way back
                _cut(line, path, body, headers, rng)
                numbers["lost"] += 1
            if rng.random() < 0.05:  # a double click
                double = threading.Thread(target=_quietly, args=(line, path, body, headers))
                double.start()
            else:
                double = None
            receipt = _insist(line, numbers, waits, path, body, headers)
            assert receipt["revision"] == 1
            with guard:
                acknowledged.add((rater, key))
            if double is not None:
                double.join()
            if rng.random() < 0.05:  # the page sends its outbox once more
                again = _insist(line, numbers, waits, path, body, headers)
                assert again["judgment"] == receipt["judgment"]
                numbers["replays"] += 1
    except BaseException as error:
        errors.append(error)
    finally:
        line.close()


def _insist(
    line: httpx.Client,
    numbers: Counter[str],
    rng: random.Random,
    path: str,
    body: Any,
    headers: Any = None,
) -> Any:
    """Until the server says something that is an answer."""
    for _ in range(2000):
        try:
            response = line.post(path, json=body, headers=headers)
        except httpx.TransportError:
            numbers["cut"] += 1
            time.sleep(0.05 + rng.random() * 0.2)
            continue
        if response.status_code in AGAIN:
            time.sleep(0.05 + rng.random() * 0.2)
            continue
        assert response.status_code in (200, 201), response.text
        return response.json()
    raise AssertionError(f"{path} was never answered")


def _cut(line: httpx.Client, path: str, body: Any, headers: Any, rng: random.Random) -> None:
    with contextlib.suppress(httpx.TransportError):
        line.post(path, json=body, headers=headers, timeout=0.001 + rng.random() * 0.02)


def _quietly(line: httpx.Client, path: str, body: Any, headers: Any) -> None:
    with contextlib.suppress(httpx.TransportError):
        line.post(path, json=body, headers=headers)


def _books(
    store: Store,
    project: str,
    acknowledged: set[tuple[str, str]],
    numbers: Counter[str],
    killed: int,
    seconds: float,
) -> Storm:
    j, a, t = schema.judgment.c, schema.assignment.c, schema.task.c
    with store.read() as connection:
        stored = [
            (r.rater, r.idempotency_key)
            for r in connection.execute(select(j.rater, j.idempotency_key))
        ]
        counted = (
            select(j.task, func.count().label("n"))
            .join(schema.assignment, a.id == j.assignment)
            .join(schema.task, t.id == j.task)
            .where(j.disposition != "surplus", t.is_gold.is_(False), t.swap_of.is_(None))
            .group_by(j.task)
            .subquery()
        )
        most = connection.execute(
            select(func.count())
            .select_from(counted.join(schema.task, t.id == counted.c.task))
            .where(counted.c.n > t.overlap)
        ).scalar_one()
        twice = select(a.task, a.rater).group_by(a.task, a.rater).having(func.count() > 1)
        integrity = "ok"
        if store.dialect == "sqlite":
            integrity = str(connection.exec_driver_sql("PRAGMA integrity_check").scalar())
        return Storm(
            acknowledged=acknowledged,
            judgments=stored,
            tried=numbers["tried"],
            replays=numbers["replays"],
            lost_answers=numbers["lost"] + numbers["cut"],
            kills=killed,
            seconds=seconds,
            broken_audit=audit.broken_at(connection),
            overlap_exceeded=most,
            seen_twice=len(connection.execute(twice).all()),
            missing=sum(abs(c.missing) for c in reconcile(connection, project).values()),
            integrity=integrity,
        )


def check(found: Storm, *, raters: int, each: int) -> None:
    """The number of judgments is that of the acknowledged distinct ones, exactly; the rules and the books hold."""
    assert len(found.judgments) == len(set(found.judgments)) == raters * each
    assert set(found.judgments) == found.acknowledged
    assert found.overlap_exceeded == 0 and found.seen_twice == 0
    assert found.broken_audit is None and found.missing == 0 and found.integrity == "ok"
