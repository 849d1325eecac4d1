"""Requests that wait, and connections that say nothing, keep nobody else out."""

from __future__ import annotations

import asyncio
import http.client
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from databases import new_store
from heedful.endpoint.server import listen
from heedful.store.database.db import Store, Unavailable
from heedful.store.membership import people
from heedful.web import connections, lanes, passwords
from heedful.web.app import create_app
from workspace import make_rater

THREADS = 40  # that the server has


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = new_store(tmp_path / "heedful.db", busy_seconds=0.3)
    yield opened
    opened.close()


def token_of(store: Store) -> dict[str, str]:
    owner = make_rater(store, "owner")
    with store.write() as connection:
        _, token = people.make_token(connection, owner, "t", ["read", "lead"])
    return {"Authorization": f"Bearer {token}"}


def test_a_turn_to_write_is_waited_for_only_so_long(store: Store):
    """Within the process; between processes SQLite's own lock has its limit."""
    began = threading.Event()
    done = threading.Event()

    def hold() -> None:
        with store.write():
            began.set()
            done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    began.wait(30)
    try:
        with pytest.raises(Unavailable), store.write():
            pass
        with store.read():  # readers never wait
            pass
    finally:
        done.set()
        holder.join()
    with store.write():
        pass


def test_pages_are_quick_while_writes_wait(store: Store, monkeypatch):
    """More writes wait than there are threads; pages are answered, and those that are too many refused at once.

    Mutations caught: no lane (all threads wait), no limit of the queue, an error that needs a thread to be said.
    """
    store = replace(store, busy_seconds=60.0)
    token, lane = token_of(store), lanes.Lane(lanes.LANES["writes"].places, 30, 60.0)
    assert lane.places <= THREADS / 2
    monkeypatch.setitem(lanes.LANES, "writes", lane)
    transport = httpx.ASGITransport(create_app(store), raise_app_exceptions=False)

    async def requests() -> None:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://heedful.test", headers=token, timeout=60
        ) as client:
            await client.get("/login")  # templates are read once

            def write(i: int) -> Any:
                return asyncio.create_task(client.post("/api/projects", json={"name": f"p{i}"}))

            assert store._write_lock
            with store._write_lock:
                waiting = [write(i) for i in range(lane.places + lane.queue)]
                while lanes.limiter_of("writes").statistics().tasks_waiting < lane.queue:
                    await asyncio.sleep(0.01)
                for path in ("/login", "/static/api.js", "/api/me", "/api/projects"):
                    answer = await asyncio.wait_for(client.get(path, follow_redirects=False), 20)
                    assert answer.status_code in (200, 303), (path, answer.text)
                refused = await asyncio.wait_for(write(-1), 20)
                assert refused.status_code == 503 and int(refused.headers["retry-after"]) >= 1
                assert not any(task.done() for task in waiting)
            answers = await asyncio.gather(*waiting)
        assert {a.status_code for a in answers} == {201}

    asyncio.run(requests())


def test_who_signs_in_while_others_write_is_told_soon(store: Store, monkeypatch):
    """By the process's own lock, and by another's. Mutation caught: waited for as long as an answer is, twice."""
    patient = replace(store, busy_seconds=60.0)
    monkeypatch.setattr(passwords, "PATIENCE", 0.2)
    transport = httpx.ASGITransport(create_app(patient), raise_app_exceptions=False)

    async def sign_in() -> int:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://heedful.test", timeout=60
        ) as client:
            body = {"login": "a", "password": "b"}
            return (await client.post("/api/session", json=body)).status_code

    assert patient._write_lock
    began = time.monotonic()
    with patient._write_lock:
        assert asyncio.run(sign_in()) == 503
    other = sqlite3.connect(str(store.engine.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert asyncio.run(sign_in()) == 503
    other.close()
    assert time.monotonic() - began < 40
    assert asyncio.run(sign_in()) == 401


def test_a_place_that_does_not_become_free_is_given_up(monkeypatch):
    """And the places are all there afterwards, whoever gave up or was cancelled."""
    monkeypatch.setitem(lanes.LANES, "imports", lanes.Lane(1, 2, 0.05))

    async def requests() -> None:
        async with lanes.place("imports"):
            with pytest.raises(Unavailable):
                async with lanes.place("imports"):
                    raise AssertionError
            cancelled = asyncio.create_task(lanes.place("imports").__aenter__())
            await asyncio.sleep(0)
            cancelled.cancel()
        for _ in range(3):
            async with lanes.place("imports"):
                pass

    asyncio.run(requests())


@contextmanager
def served(app: Any) -> Iterator[tuple[int, set[Any]]]:
    """The port of a server in a thread, and its connections."""
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(
        app, http=connections.Connection, ws="none", log_level="critical", lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1], server.server_state.connections
    finally:
        server.should_exit = True
        thread.join(30)


def until(condition: Callable[[], bool]) -> bool:
    """Whether it comes true within half a minute, which is far more than the seconds that it should take."""
    end = time.monotonic() + 30
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def has_ended(peer: socket.socket) -> bool:
    """Whether the server has ended a connection; what it said before is read."""
    peer.setblocking(False)
    try:
        while peer.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True


def get(port: int, path: str) -> int:
    browser = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    browser.request("GET", path)
    status = browser.getresponse().status
    browser.close()
    return status


def test_connections_that_say_nothing_end_and_keep_nobody_out(store: Store, monkeypatch):
    """Nothing, half a header, a second request that stops, a response that nobody takes; and then a crowd."""
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.5)
    monkeypatch.setattr(connections, "TAKE_SECONDS", 0.5)
    app = create_app(store)
    app.add_api_route("/long", lambda: "x" * 20_000_000)
    again = b"GET /static/api.js HTTP/1.1\r\nHost: x\r\n\r\nGET /lo"
    body = (
        b"POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 9\r\n\r\n{"
    )
    with served(app) as (port, there), ExitStack() as peers:

        def connect(said: bytes) -> socket.socket:
            peer = peers.enter_context(socket.create_connection(("127.0.0.1", port)))
            peer.sendall(said)
            return peer

        for said in (
            b"",
            b"GET / HTTP/1.1\r\nHost:",
            again,
            b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            connect(said)
            assert until(lambda: len(there) == 1) and until(lambda: not there), said
        monkeypatch.setattr(connections, "HEADER_SECONDS", 60.0)
        monkeypatch.setattr(connections, "most_connections", lambda: 12)
        crowd = [connect(body if i % 2 else b"GET /") for i in range(40)]
        assert get(port, "/login") == 200 and get(port, "/static/api.js") == 200
        # The oldest made room, whether a header or a body was missing.
        assert until(lambda: sum(map(has_ended, crowd)) >= 28)
        assert all(map(has_ended, crowd[:20])) and len(there) <= 12


def test_there_are_files_for_every_connection():
    """The limit asks the system for more, and leaves some for the database."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = connections.most_connections()
    assert 8 <= found <= connections.MOST
    now, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert now == resource.RLIM_INFINITY or now >= min(soft, found + connections.SPARE)
    assert hard == resource.getrlimit(resource.RLIMIT_NOFILE)[1]
