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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import func, select

import postgres
from heedful.store.database import audit
from heedful.store.database.db import Store, new_id, open_store
from heedful.store.exports.books import reconcile
from heedful.store.kinds import UNANSWERED
from heedful.store.membership import people
from heedful.store.tables import schema
from linear import Operation, unexplained
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
    answered: int
    replays: int
    lost_answers: int  # requests whose answer the rater never saw
    kills: int
    stops: int  # of the database
    history: list[Operation]
    unexplained: list[str]  # what no order of the requests one after the other explains
    seconds: float
    broken_audit: int | None
    overlap_exceeded: int
    seen_twice: int
    missing: int
    integrity: str


def storm(
    workspace: Path,
    url: str,
    *,
    raters: int,
    each: int,
    kills: int,
    database: postgres.Server | None = None,
    stops: int = 0,
    seed: int = 0,
) -> Storm:
    """`raters` threads answer `each` questions; requests are cut, repeated, doubled, answers skipped and undone; the
    server is killed `kills` times, and its database stopped and started `stops` times if it is given."""
    workspace.mkdir(parents=True, exist_ok=True)
    (workspace / "heedful.toml").write_text("")
    store = open_store(url)
    # Skips set nothing aside here, or there would not be enough.
    project = make_project(store, gold_rate=0.05, swap_rate=0.03, skips_until_parked=1000)
    overlap = min(5, raters)
    # Enough for everybody: nobody sees a task twice, and each answer fills one slot.
    for i in range(raters * each // overlap + each):
        make_task(store, project, question=f"{i}?", overlap=overlap)
    for i in range(20):
        make_task(store, project, question=f"gold {i}?", gold={"ranks": {}})
    port = free_port()
    server = Server(workspace, url, port)
    server.start()
    server.wait()
    books, threads = Books(), []
    for i in range(raters):
        rater = make_rater(store)
        with store.write() as connection:
            token = people.make_token(connection, rater, "t", ["rate"])[1]
        rng = random.Random(seed + i)
        http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
        )
        client = Client(http, rng, random.Random(rng.random()), books)
        threads.append(threading.Thread(target=_rate, args=(client, rater, project, each)))
    began = time.monotonic()
    for thread in threads:
        thread.start()
    rng = random.Random(seed)
    strikes = ["kill"] * kills + ["stop"] * (stops if database else 0)
    rng.shuffle(strikes)
    for number, strike in enumerate(strikes):
        while books.numbers["answered"] < (number + 0.5) / (len(strikes) + 1) * raters * each:
            if books.errors or not any(thread.is_alive() for thread in threads):
                break
            time.sleep(0.05)
        time.sleep(rng.random() * 0.3)
        books.numbers[strike] += 1
        if strike == "stop" and database:
            database.stop()
            time.sleep(rng.random())
            database.start()
        else:
            server.kill()
            server.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - began
    server.kill()
    if books.errors:
        raise books.errors[0]
    try:
        return _books(store, project, books, seconds)
    finally:
        store.close()


@dataclass
class Client:
    """A rater's lines to the server, and what was said on all of them."""

    http: httpx.Client
    rng: random.Random
    waits: random.Random  # how often one waits is chance; what one does is not
    books: Books

    def ask(self, project: str) -> str:
        """The next question's assignment."""
        start = time.monotonic()
        path = f"/api/projects/{project}/next"
        task = self._insist(path, {"holding": []})["task"]
        assert task is not None, "nothing left, although there is enough for everybody"
        self.books.note(Operation("lease", task["assignment"], start, time.monotonic(), result={}))
        return task["assignment"]

    def submit(self, assignment: str, said: Any, key: str, *, cut: bool = False) -> dict[str, Any]:
        """An answer, kept; `cut`: once more before, with a line that breaks on the way."""
        path = f"/api/assignments/{assignment}/judgments"
        body, headers = {"answer": said, "active_ms": 7}, {"Idempotency-Key": key}
        start = time.monotonic()
        if cut:
            self.books.numbers["lost"] += 1
            with contextlib.suppress(httpx.TransportError):
                patience = 0.001 + self.rng.random() * 0.02
                self.http.post(path, json=body, headers=headers, timeout=patience)
        receipt = self._insist(path, body, headers)
        end = time.monotonic()
        self.books.note(Operation("submit", assignment, start, end, key, said, receipt))
        return receipt

    def read(self, assignment: str) -> None:
        """The answer as it stands, as the page asks for it before it undoes one."""
        start = time.monotonic()
        answer = self._insist(f"/api/assignments/{assignment}")
        self.books.note(Operation("read", assignment, start, time.monotonic(), result=answer))

    def _insist(self, path: str, body: Any = None, headers: Any = None) -> Any:
        """Until the server says something that is an answer."""
        for _ in range(2000):
            try:
                method = "GET" if body is None else "POST"
                response = self.http.request(method, path, json=body, headers=headers)
            except httpx.TransportError:
                self.books.numbers["cut"] += 1
                time.sleep(0.05 + self.waits.random() * 0.2)
                continue
            if response.status_code in AGAIN:
                self.books.numbers["refused"] += 1
                time.sleep(0.05 + self.waits.random() * 0.2)
                continue
            assert response.status_code in (200, 201), response.text
            return response.json()
        raise AssertionError(f"{path} was never answered")


@dataclass
class Books:
    """What all clients have seen."""

    acknowledged: set[tuple[str, str]] = field(default_factory=set)  # rater, idempotency key
    history: list[Operation] = field(default_factory=list)
    numbers: Counter[str] = field(default_factory=Counter)
    errors: list[BaseException] = field(default_factory=list)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def note(self, operation: Operation) -> None:
        with self.guard:
            self.history.append(operation)


def _rate(client: Client, rater: str, project: str, each: int) -> None:
    """Answer so many questions; skip some first, undo some, answer some in two windows at once."""
    books, rng = client.books, client.rng
    try:
        for _ in range(each):
            assignment, keys = client.ask(project), [new_id()]
            said = {"value": rng.randint(1, 8)}
            if rng.random() < 0.04:
                keys.append(new_id())
                client.submit(assignment, {"skip": "unsure"}, keys[-1])
            beside = None
            if rng.random() < 0.05:  # a double click
                beside = threading.Thread(target=client.submit, args=(assignment, said, keys[0]))
            elif rng.random() < 0.05:  # another window
                keys.append(new_id())
                other = {"value": rng.randint(1, 8)}
                beside = threading.Thread(target=client.submit, args=(assignment, other, keys[-1]))
            if beside:
                beside.start()
            receipt = client.submit(assignment, said, keys[0], cut=rng.random() < 0.05)
            if beside:
                beside.join()
            if rng.random() < 0.1:  # undone: the answer is looked at, and corrected
                keys.append(new_id())
                client.read(assignment)
                client.submit(assignment, {"value": rng.randint(1, 8)}, keys[-1])
                client.read(assignment)
            if rng.random() < 0.05:  # the page sends its outbox once more
                again = client.submit(assignment, said, keys[0])
                assert again["judgment"] == receipt["judgment"]
                books.numbers["replays"] += 1
            with books.guard:
                books.acknowledged |= {(rater, key) for key in keys}
                books.numbers["answered"] += 1
    except BaseException as error:
        books.errors.append(error)
    finally:
        client.http.close()


def _books(store: Store, project: str, books: Books, seconds: float) -> Storm:
    j, a, t = schema.judgment.c, schema.assignment.c, schema.task.c
    numbers, regular = books.numbers, (t.is_gold.is_(False), t.swap_of.is_(None))
    with store.read() as connection:
        slots = {
            r.id: f"{r.task}/{r.slot}" for r in connection.execute(select(a.id, a.task, a.slot))
        }
        stored = [
            (r.rater, r.idempotency_key)
            for r in connection.execute(select(j.rater, j.idempotency_key))
        ]
        counted = (
            select(j.task, func.count(j.assignment.distinct()).label("n"))
            .join(schema.task, t.id == j.task)
            .where(j.disposition != "surplus", j.outcome.not_in(UNANSWERED), *regular)
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
            acknowledged=books.acknowledged,
            judgments=stored,
            answered=numbers["answered"],
            replays=numbers["replays"],
            lost_answers=numbers["lost"] + numbers["cut"] + numbers["refused"],
            kills=numbers["kill"],
            stops=numbers["stop"],
            history=books.history,
            unexplained=unexplained(books.history, slots),
            seconds=seconds,
            broken_audit=audit.broken_at(connection),
            overlap_exceeded=most,
            seen_twice=len(connection.execute(twice).all()),
            missing=sum(abs(c.missing) for c in reconcile(connection, project).values()),
            integrity=integrity,
        )


def check(found: Storm, *, raters: int, each: int) -> None:
    """The judgments are the acknowledged distinct ones, exactly; the rules and the books hold; and what the raters were
    told could have happened one request after the other."""
    assert found.answered == raters * each
    assert len(found.judgments) == len(set(found.judgments))
    assert set(found.judgments) == found.acknowledged
    assert found.unexplained == []
    assert found.overlap_exceeded == 0 and found.seen_twice == 0
    assert found.broken_audit is None and found.missing == 0 and found.integrity == "ok"
