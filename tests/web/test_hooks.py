"""Webhooks: signed, delivered at least once, and never to an address that the server must not call."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from starlette.testclient import TestClient

from databases import new_store
from heedful.errors import UserError
from heedful.store.database.db import Store
from heedful.store.exports import hooks
from heedful.store.membership import people
from heedful.store.tables import schema
from heedful.web import deliver
from heedful.web.app import create_app
from workspace import answer, claim, make_project, make_rater, make_task


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = new_store(tmp_path / "heedful.db")
    yield opened
    opened.close()


@contextmanager
def receiver(
    status: int = 204,
    *,
    then: Callable[[BaseHTTPRequestHandler], Any] = lambda _: None,
    tls: ssl.SSLContext | None = None,
    **headers: str,
):
    """A server on this machine that remembers what it was sent, and does `then` before it answers."""
    got: list[tuple[str, dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, dict(self.headers), body))
            then(self)
            with contextlib.suppress(ConnectionError):  # of somebody who has gone
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1], got
    finally:
        server.shutdown()
        server.server_close()


def judge(store: Store, project: str, text: str = "half \ud83d") -> str:
    ada = make_rater(store)
    make_task(store, project)
    given = claim(store, project, ada)
    assert given
    return answer(store, given, ada, {"value": 1, "text": text}).judgment


def hook(store: Store, project: str, url: str) -> str:
    with store.write() as connection:
        return hooks.add(connection, project, url, actor=None)[1]


def state(store: Store):
    with store.read() as connection:
        return connection.execute(select(schema.webhook_delivery)).one()


def test_a_judgment_arrives_signed(store):
    """The receiver can check that it is from us, whatever text is in it."""
    project = make_project(store)
    with receiver() as (port, got):
        secret = hook(store, project, f"http://127.0.0.1:{port}/in?x=1")
        said = judge(store, project)
        assert deliver.deliver_due(store, allow_private=True) == 1
    ((path, headers, body),) = got
    assert path == "/in?x=1"
    assert headers["Host"] == f"127.0.0.1:{port}"
    wanted = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    assert headers["X-Heedful-Signature"] == f"sha256={wanted}"
    told = json.loads(body)
    assert told["judgment"]["judgment"] == said
    assert told["judgment"]["text"] == "half \ud83d"
    assert told["delivery"] == headers["X-Heedful-Delivery"]
    assert state(store).state == "sent"
    assert deliver.deliver_due(store, allow_private=True) == 0


def test_a_name_is_looked_up_once_and_called_by_number(store, monkeypatch):
    """DNS rebinding: the second look would say something else; there is none. `Host` keeps the name."""
    project, looks = make_project(store), []

    def look(host, port, *args, **options):
        looks.append(host)
        number = "127.0.0.1" if len(looks) == 1 else "10.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, port))]

    with receiver() as (port, got):
        hook(store, project, f"http://hooks.example.org:{port}/")
        judge(store, project)
        monkeypatch.setattr(socket, "getaddrinfo", look)
        deliver.deliver_due(store, allow_private=True)
    assert looks == ["hooks.example.org"]
    assert got[0][1]["Host"] == f"hooks.example.org:{port}"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
@pytest.mark.parametrize(("name", "arrives"), [("hooks.test", True), ("other.test", False)])
def test_the_certificate_is_the_names_and_not_the_numbers(
    store, tmp_path, monkeypatch, name, arrives
):
    """Calling by number must not switch the check of the certificate off, nor break it."""
    made = "openssl req -x509 -newkey rsa:2048 -nodes -keyout k.pem -out c.pem -days 1 -subj /CN=hooks.test"
    made += " -addext subjectAltName=DNS:hooks.test"
    subprocess.run(made.split(), cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
    monkeypatch.setattr("certifi.where", lambda: str(tmp_path / "c.pem"))
    project = make_project(store)
    with receiver(tls=context) as (port, got):
        hook(store, project, f"https://{name}:{port}/")
        judge(store, project)
        numbers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: numbers)
        deliver.deliver_due(store, allow_private=True)
    assert len(got) == arrives
    assert state(store).state == ("sent" if arrives else "waiting")


def test_redirects_are_not_followed(store):
    """Mutation caught: a public address that sends us to a private one."""
    project = make_project(store)
    with (
        receiver() as (inner, secret_place),
        receiver(307, Location=f"http://127.0.0.1:{inner}/") as (port, got),
    ):
        hook(store, project, f"http://127.0.0.1:{port}/")
        judge(store, project)
        deliver.deliver_due(store, allow_private=True)
        assert (len(got), secret_place) == (1, [])
    assert (state(store).state, state(store).attempts) == ("waiting", 1)


@pytest.mark.parametrize("status", [500, 404, 301])
def test_a_refusal_is_tried_again(store, status, monkeypatch):
    monkeypatch.setattr(hooks, "MAX_ATTEMPTS", 4)
    project = make_project(store)
    with receiver(status) as (port, got):
        hook(store, project, f"http://127.0.0.1:{port}/")
        judge(store, project)
        for _ in range(hooks.MAX_ATTEMPTS + 2):
            deliver.deliver_due(store, allow_private=True)
            with store.write() as connection:
                connection.execute(update(schema.webhook_delivery).values(due_at=0.0))
    assert len(got) == hooks.MAX_ATTEMPTS
    assert state(store).state == "failed"


def test_a_slow_receiver_holds_nobody_up(store, monkeypatch):
    """The first answers only when the second has been called. Mutation caught: one delivery after the other."""
    monkeypatch.setattr(deliver, "SECONDS", 60.0)
    project, called = make_project(store), threading.Event()
    with (
        receiver(then=lambda _: called.wait(60)) as (slow, _),
        receiver(then=lambda _: called.set()) as (quick, _),
    ):
        hook(store, project, f"http://127.0.0.1:{slow}/")
        hook(store, project, f"http://127.0.0.1:{quick}/")
        judge(store, project)
        assert deliver.deliver_due(store, allow_private=True) == 2
    with store.read() as connection:
        states = connection.execute(select(schema.webhook_delivery.c.state)).scalars().all()
    assert states == ["sent", "sent"]


def test_the_time_is_for_the_whole_delivery(store, monkeypatch):
    """Mutation caught: a limit for each part, which a receiver outlives that says a letter now and then."""
    monkeypatch.setattr(deliver, "SECONDS", 1.0)
    over = threading.Event()

    def dribble(handler: BaseHTTPRequestHandler) -> None:
        with contextlib.suppress(ConnectionError):
            handler.wfile.write(b"HTTP/1.1 204 No Content\r\nX-Slow: ")
            for _ in range(300):  # to its end it takes half a minute
                if over.wait(0.1):
                    return
                handler.wfile.write(b"y")
                handler.wfile.flush()
            handler.wfile.write(b"\r\n\r\n")

    project = make_project(store)
    with receiver(then=dribble) as (port, _):
        hook(store, project, f"http://127.0.0.1:{port}/")
        judge(store, project)
        deliver.deliver_due(store, allow_private=True)
        over.set()
    assert (state(store).state, state(store).attempts) == ("waiting", 1)


def test_nobody_there(store):
    project = make_project(store)
    with socket.socket() as taken:  # by somebody who does not listen, and so by nobody else
        taken.bind(("127.0.0.1", 0))
        hook(store, project, f"http://127.0.0.1:{taken.getsockname()[1]}/")
        judge(store, project)
        assert deliver.deliver_due(store, allow_private=True) == 1
    assert state(store).state == "waiting"


PRIVATE = [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fc00::1",
    "fd12::1", "ff02::1", "fec0::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1",
    "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_never_called(store, monkeypatch, address):
    """By number or behind a name, when the webhook is made and again when it is used."""
    assert not deliver.is_public(ipaddress.ip_address(address))
    version = socket.AF_INET6 if ":" in address else socket.AF_INET

    def look(host, port, *args, **options):
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", port)),
            (version, socket.SOCK_STREAM, 6, "", (address, port)),
        ]

    project = make_project(store)
    hook(store, project, "http://innocent.example.org/")
    judge(store, project)
    monkeypatch.setattr(socket, "getaddrinfo", look)
    with pytest.raises(UserError, match="private network"):
        deliver.check_url("http://innocent.example.org/")
    deliver.deliver_due(store)
    assert state(store).state == "failed"  # at once: trying again would be scanning


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111", "8.8.8.8"])
def test_public_addresses(address):
    assert deliver.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/", "file:///etc/passwd", "gopher://example.org/", "http://", "http:///x", "//example.org",
        "http://user:secret@example.org/", "http://example.org:99999/", "http://exa mple.org/", "http://[::1/",
        "http://localhost/", "http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://[::ffff:7f00:1]/",
        "http://example.org/\r\nX: y", "http://ex\u00e4mple.org/", "http://" + "a" * 3000, "",
    ],
)  # fmt: skip
def test_addresses_that_are_none(url):
    with pytest.raises(UserError) as error:
        deliver.check_url(url)
    assert "\n" not in str(error.value).replace(url, "")


def client_of(store: Store, role: str, *scopes: str, **options) -> TestClient:
    rater = make_rater(store, role)
    with store.write() as connection:
        _, token = people.make_token(connection, rater, "t", scopes or ("read", "lead"))
    return TestClient(create_app(store, **options), headers={"Authorization": f"Bearer {token}"})


def test_over_http(store):
    """Made, listed without the secret, removed; private addresses only where the server was told so."""
    project = make_project(store)
    url = f"/api/projects/{project}/webhooks"
    lead = client_of(store, "lead")
    refused = lead.post(url, json={"url": "http://127.0.0.1:1/"})
    assert (refused.status_code, "private network" in refused.text) == (400, True)
    lead = client_of(store, "lead", allow_private_webhooks=True)
    made = lead.post(url, json={"url": "http://127.0.0.1:1/"})
    assert made.status_code == 201 and len(made.json()["secret"]) == 64
    (listed,) = lead.get(url).json()
    assert (listed["id"], listed["url"]) == (made.json()["id"], "http://127.0.0.1:1/")
    assert made.json()["secret"] not in lead.get(url).text
    for role, scopes, status in [("rater", (), 403), ("lead", ("read",), 403)]:
        other = client_of(store, role, *scopes)
        assert other.post(url, json={"url": "http://127.0.0.1:1/"}).status_code == status
        assert other.delete(f"/api/webhooks/{listed['id']}").status_code == status
    assert lead.delete(f"/api/webhooks/{listed['id']}").status_code == 200
    assert lead.get(url).json() == []
    assert lead.delete(f"/api/webhooks/{listed['id']}").status_code == 400
    assert lead.get("/api/projects/nonsense/webhooks").status_code == 400


def test_the_running_server_delivers(store):
    """Mutation caught: a thread that nobody starts, or that dies of the first odd thing."""
    project = make_project(store)
    with receiver() as (port, got):
        hook(store, project, f"http://127.0.0.1:{port}/")
        with TestClient(create_app(store, allow_private_webhooks=True)):
            judge(store, project)
            end = time.monotonic() + 60
            while not got and time.monotonic() < end:
                time.sleep(0.05)
    assert len(got) == 1
