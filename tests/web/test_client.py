"""The Python client against a real server on a real port."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from sqlalchemy import func, select

from databases import new_store
from heedful.client import Client, ClientError
from heedful.data.files import write_rows
from heedful.data.tables import manifest_path, read_export
from heedful.store.database.db import Store
from heedful.store.membership import people
from heedful.store.tables import schema
from heedful.web.app import create_app
from workspace import make_project, make_rater, make_tasks

PASSWORD = "correct horse battery"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = new_store(tmp_path / "heedful.db")
    yield opened
    opened.close()


@pytest.fixture
def url(store: Store, tmp_path: Path) -> Iterator[str]:
    """A server as `heedful serve` runs it."""
    config = uvicorn.Config(create_app(store, workspace=tmp_path), port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


def token_of(store: Store, role: str, *scopes: str) -> str:
    rater = make_rater(store, role)
    with store.write() as connection:
        return people.make_token(connection, rater, "t", scopes)[1]


def judgments(store: Store) -> int:
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(schema.judgment)).scalar_one()


def test_a_rater_works_through_a_project(store, url):
    """The loop of the module's docstring: every task once, then the reason why there is none."""
    project = make_project(store)
    make_tasks(store, project, 5)
    with Client(url, token_of(store, "rater", "rate")) as client:
        assert [p["id"] for p in client.asking()] == [project]
        done = []
        while task := client.next(project)["task"]:
            receipt = client.answer(task["assignment"], {"value": 3, "text": "half \ud83d"})
            assert (receipt["revision"], receipt["disposition"]) == (1, "counted")
            done.append(task["assignment"])
        assert len(set(done)) == 5
        assert client.next(project)["why"] == "nothing left"
        assert client.assignment(done[0])["answer"]["text"] == "half \ud83d"
        assert client.answer(done[0], {"value": 8})["revision"] == 2
        assert client.progress(project)["total"] == 5
    assert judgments(store) == 6


class Losing(httpx.HTTPTransport):
    """The server hears everything; every other answer of it is lost on the way back."""

    heard = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        self.heard += 1
        if self.heard % 2:
            response.close()
            raise httpx.ReadError("the line is dead")
        return response


def test_an_answer_counts_once_however_bad_the_line_is(store, url, monkeypatch):
    """Mutation caught: a new key for each attempt."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    project = make_project(store)
    make_tasks(store, project, 3)
    line = Losing()
    with Client(url, token_of(store, "rater", "rate"), transport=line) as client:
        while task := client.next(project)["task"]:
            assert client.answer(task["assignment"], {"value": 3})["revision"] == 1
    assert judgments(store) == 3
    assert line.heard >= 12


def test_a_later_call_is_the_same_answer_until_it_is_acknowledged(store, url, monkeypatch):
    """The first call gives up after all its attempts, though the server had heard; the second finds its receipt."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    project = make_project(store)
    make_tasks(store, project, 1)
    line = Losing()
    with Client(url, token_of(store, "rater", "rate"), attempts=1, transport=line) as client:
        line.heard = 1
        task = client.next(project)["task"]
        with pytest.raises(ClientError) as error:
            client.answer(task["assignment"], {"value": 3})
        assert error.value.status == 0
        line.heard = 1
        assert client.answer(task["assignment"], {"value": 3})["revision"] == 1
        line.heard = 1
        assert client.answer(task["assignment"], {"value": 3})["revision"] == 2  # said once more
    assert judgments(store) == 2


def test_a_server_that_is_busy_is_asked_again(monkeypatch):
    """503 with Retry-After: for what may be repeated, and no more often than allowed."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    asked: list[str] = []

    def busy(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        if len(asked) < 3:
            return httpx.Response(503, json={"error": "busy"}, headers={"Retry-After": "2"})
        return httpx.Response(200, json=[])

    client = Client("http://x", transport=httpx.MockTransport(busy))
    assert client.projects() == []
    assert slept == [2.0, 2.0]
    asked.clear()
    with pytest.raises(ClientError, match="busy"):
        client.make_project("p")  # not repeatable: perhaps it was made
    assert asked == ["POST"]


def test_what_the_server_refuses_is_its_sentence(store, url):
    project = make_project(store)
    with Client(url, token_of(store, "rater", "rate")) as client:
        for call, status, words in [
            (lambda: client.assignment("nonsense"), 400, "no such assignment"),
            (lambda: client.answer("nonsense", {"value": 1}), 400, "no such assignment"),
            (lambda: client.export(project, "judgments", "x.jsonl"), 403, "only a lead"),
            (lambda: client.webhooks(project), 403, "only a lead"),
        ]:
            with pytest.raises(ClientError, match=words) as error:
                call()
            assert error.value.status == status
        assert not Path("x.jsonl").exists()
    with Client(url, "hf_wrong") as client, pytest.raises(ClientError) as error:
        client.me()
    assert error.value.status == 401
    nobody = Client("http://127.0.0.1:1", attempts=1)
    with pytest.raises(ClientError, match="cannot be reached") as error:
        nobody.me()
    assert error.value.status == 0


def test_accounts_without_a_token(store, url):
    """Setup, invitation, signing in and out: the CSRF token travels by itself."""
    with store.write() as connection:
        token = people.first_start(connection)
    assert token
    with Client(url) as owner, Client(url) as rater:
        owner.setup(token, "ada", PASSWORD, "Ada")
        assert owner.me()["role"] == "owner"
        link = owner.invite("rater")
        invited = re.search(r"token=([\w-]+)", str(link))
        assert invited
        rater.accept_invitation(invited[1], "bao", PASSWORD, "Bao")
        assert rater.me()["role"] == "rater"
        made = owner.make_token("script", ["read"])
        assert any(t["name"] == "script" for t in owner.tokens())
        secret = next(v for v in made.values() if str(v).startswith("hf_"))
        assert Client(url, secret).me()["scopes"] == ["read"]
        assert len(owner.raters()) == 2
        rater.logout()
        with pytest.raises(ClientError) as error:
            rater.me()
        assert error.value.status == 401
        rater.login("bao", PASSWORD)
        assert rater.me()["role"] == "rater"


@pytest.mark.parametrize("ending", ["jsonl", "csv.gz", "parquet"])
def test_files_there_and_back(store, url, tmp_path, ending):
    """The manifest comes with the file and goes with it."""
    project, other = make_project(store), make_project(store, "other")
    rows = [{"prompt": "=Once", "chosen": " upon\x1a0000", "rejected": " more"}]
    write_rows(tmp_path / "c.jsonl", rows)
    with Client(url, token_of(store, "lead", "read", "lead")) as client:
        assert client.import_file(project, "comparisons", tmp_path / "c.jsonl")["judgments"] == 1
        path = tmp_path / f"out.{ending}"
        manifest = client.export(project, "comparisons", path, margin=True)
        assert manifest["rows"] == 1 and manifest_path(path).exists()
        assert client.import_file(other, "comparisons", path)["judgments"] == 1
        client.export(other, "comparisons", tmp_path / "back.jsonl")
        with pytest.raises(ClientError, match="format"):
            client.export(project, "comparisons", tmp_path / "x.xlsx")
    ((_, first),) = read_export(path)
    ((_, last),) = read_export(tmp_path / "back.jsonl")
    assert first["chosen"] == last["chosen"]


def test_webhooks(store, url):
    project = make_project(store)
    with Client(url, token_of(store, "lead", "read", "lead")) as client:
        assert client.webhooks(project) == []
        with pytest.raises(ClientError, match="private network"):
            client.add_webhook(project, "http://127.0.0.1/")
        with pytest.raises(ClientError, match="no such webhook"):
            client.remove_webhook("nonsense")


def test_a_conversation_is_read_as_it_comes():
    """Server-sent events: names, data over several lines, comments."""
    stream = (
        ': hello\n\nevent: progress\ndata: {"done": [1, 2]}\n\n'
        'event: offer\ndata: {"replies":\ndata:  []}\n\n'
    )

    def say(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/gone/turns"):
            return httpx.Response(400, json={"error": "it is over"})
        return httpx.Response(200, text=stream)

    client = Client("http://x", transport=httpx.MockTransport(say))
    assert list(client.say("a", "Hi")) == [
        ("progress", {"done": [1, 2]}),
        ("offer", {"replies": []}),
    ]
    with pytest.raises(ClientError, match="it is over"):
        list(client.say("gone", "Hi"))


def test_every_address_of_the_interface_has_a_method(tmp_path, store):
    """Mutation caught: a method for an address that is not there, or an address without a method."""
    called: set[tuple[str, str]] = set()

    def record(request: httpx.Request) -> httpx.Response:
        called.add((request.method, request.url.path))
        return httpx.Response(200, json={}, headers={"X-Heedful-Manifest": "{}"})

    client = Client("http://x", transport=httpx.MockTransport(record))
    (tmp_path / "f.jsonl").write_text("{}\n")
    for name in dir(client):
        if name.startswith("_") or name == "close":
            continue
        method = getattr(client, name)
        words = {"path": tmp_path / "f.jsonl", "what": "prompts", "answer": {}, "scopes": []}
        code = method.__func__.__code__
        needed = code.co_varnames[1 : code.co_argcount - len(method.__defaults__ or ())]
        result = method(*[words.get(n, f"A{n}") for n in needed])
        if name == "say":
            list(result)
    routes = {
        (verb.upper(), path)
        for path, verbs in create_app(store).openapi()["paths"].items()
        for verb in verbs
        if path.startswith("/api/")
    }
    patterns = {route: re.sub(r"\{\w+\}", "[^/]+", route[1]) for route in routes}
    known = {
        route
        for route, pattern in patterns.items()
        for verb, path in called
        if verb == route[0] and re.fullmatch(pattern, path)
    }
    strange = {
        call
        for call in called
        if not any(call[0] == r[0] and re.fullmatch(p, call[1]) for r, p in patterns.items())
    }
    assert strange == set()
    assert routes - known == set()
