"""What comes in before anybody is asked who they are, and how much of it: bodies, JSON, uploads."""

from __future__ import annotations

import asyncio
import gzip
import importlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.data import bounds, pages
from heedful.errors import UserError
from heedful.store.database.db import Store
from heedful.store.membership import people
from heedful.web import app as web
from heedful.web import bodies
from heedful.web.doors import Door
from heedful.web.routes import transfer
from workspace import make_project, make_rater

PIECE = b" " * 20_000
ENDLESS = 100  # pieces that are offered
OPEN = {  # to nobody in particular
    "POST /api/session", "POST /api/setup", "POST /api/invitations/accept", "POST /api/password",
}  # fmt: skip


def routes() -> list[str]:
    """Every route of every router, as `POST /api/session`."""
    routers = [importlib.import_module(f"heedful.web.routes.{name}").router for name in web.ROUTES]
    return sorted(
        f"{method} {route.path}"
        for router in routers
        for route in router.routes
        for method in route.methods
    )


class Sender:
    """A client that goes on sending as long as somebody reads; counts what was taken."""

    def __init__(self, pieces: int = ENDLESS, wait: float = 0.0):
        self.pieces, self.wait, self.taken, self.asked = pieces, wait, 0, 0
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        await asyncio.sleep(self.wait)
        if self.pieces == 0:
            return {"type": "http.disconnect"}
        self.pieces -= 1
        self.taken += len(PIECE)
        return {"type": "http.request", "body": PIECE, "more_body": self.pieces > 0}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    def offer(self, app: Any, route: str, *headers: tuple[bytes, bytes]) -> int:
        """Send endlessly to a route; returns the status."""
        method, _, path = route.partition(" ")
        path, _, query = path.partition("?")
        scope = {
            "type": "http", "http_version": "1.1", "method": method, "path": unquote(path), "raw_path": path.encode(),
            "query_string": query.encode(), "scheme": "http", "server": ("heedful.test", 80), "root_path": "",
            "headers": [(b"host", b"heedful.test"), (b"content-type", b"application/json"), *headers],
            "client": ("10.0.0.1", 1),
        }  # fmt: skip
        asyncio.run(app(scope, self.receive, self.send))
        return self.sent[0]["status"]

    @property
    def closes(self) -> bool:
        return (b"connection", b"close") in self.sent[0]["headers"]


CHUNKED = (b"transfer-encoding", b"chunked")
DECLARED = (b"content-length", b"90000000")


@pytest.mark.parametrize("framing", [CHUNKED, DECLARED], ids=["chunked", "declared"])
def test_nobodys_body_costs_little(app, framing):
    """Every route of the app, and paths that are none. Mutations caught: a router without doors, a limit by path."""
    for route in [*routes(), "PATCH /api/projects/import", "POST /x/import", "POST /static/x"]:
        sender = Sender()
        status = sender.offer(app, route.format_map(Anything()), framing)
        is_api = " /api/" in route and route != "PATCH /api/projects/import"
        if route in OPEN:
            assert status == 413, route
        elif is_api:
            assert status == 401 and sender.taken == 0, route
        assert status < 500 and sender.closes, (route, status)
        assert sender.taken <= bodies.SMALL + len(PIECE), (route, sender.taken)
        if framing == DECLARED:
            assert sender.taken == 0, route


class Anything(dict):
    def __missing__(self, _key: str) -> str:
        return "x"


def test_every_route_is_a_door():
    """Also those that packages of a later day add."""
    for name in web.ROUTES:
        for route in importlib.import_module(f"heedful.web.routes.{name}").router.routes:
            assert type(route) is Door, route


def test_who_may_not_is_not_read_either(store: Store, app):
    """A rater's import, and a lead's token that may only look."""
    project = make_project(store)
    for role, scope in (("rater", "lead"), ("lead", "read")):
        rater = make_rater(store, role)
        with store.write() as connection:
            _, token = people.make_token(connection, rater, "t", [scope])
        sender = Sender()
        route = f"POST /api/projects/{project}/import?what=prompts"
        status = sender.offer(app, route, (b"authorization", f"Bearer {token}".encode()), CHUNKED)
        assert status == 403 and sender.taken == 0 and sender.closes


def test_a_body_that_drips_in_is_given_up(app, monkeypatch):
    """By its rate, and not by its pauses: a byte now and then is slow too."""
    monkeypatch.setattr(bodies, "GRACE", 0.1)
    monkeypatch.setattr(bodies, "RATE", 1e9)
    sender = Sender(wait=0.03)
    assert sender.offer(app, "POST /api/session", CHUNKED) == 408
    assert sender.closes and sender.asked <= 5


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=4),
        max_leaves=30,
    )
)
def test_the_shape_of_json_is_known_before_it_is_parsed(value: Any):
    """Never fewer values than there are, whatever is in its strings; the depth exactly."""

    def count(v: Any) -> int:
        return (
            1 + sum(map(count, v.values() if isinstance(v, dict) else v))
            if v and isinstance(v, dict | list)
            else 1
        )

    def depth(v: Any) -> int:
        if not isinstance(v, dict | list):
            return 0
        return 1 + max(map(depth, v.values() if isinstance(v, dict) else v), default=0)

    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        found = bounds.shape(text.encode("utf-8", "surrogatepass"))
        assert count(value) <= found.values <= 2 * count(value) + 1
        assert found.depth == depth(value)


@pytest.mark.parametrize(
    "text",
    [
        b'"' + b'\\"' * 1_000_000,
        b'"' * 2_000_001,
        b"[" * 2_000_000,
        b"\\" * 2_000_000,
        b'{"":' * 500_000,
    ],
    ids=lambda text: repr(text[:5]),
)
def test_no_text_is_an_attack_on_the_counting(text: bytes):
    """Two megabytes in far less than the seconds that anything quadratic takes."""
    began = time.process_time()
    bounds.shape(text, 32)
    assert time.process_time() - began < 2


DEEP = b"[" * 40 + b"]" * 40
REFUSED = {
    "deep": (b'{"name": "n", "settings": {"models": ' + DEEP + b"}}", 422),
    "many": (b'{"name": "n", "settings": {"models": [' + b"{}," * 20_000 + b"{}]}}", 413),
    "nan": (b'{"name": "n", "settings": {"gold_rate": NaN}}', 422),
    "infinite": (b'{"name": "n", "settings": {"gold_rate": -Infinity}}', 422),
    "far too large": (b'{"name": "n", "settings": {"gold_rate": 1e999}}', 422),
    "digits": (b'{"name": "n", "settings": {"daily_limit": ' + b"9" * 5000 + b"}}", 422),
    "half": (b'{"name": "n", "settings": {', 422),
    "latin": (b'{"name": "\xe9"}', 422),
    "utf-16": ('{"name": "n"}'.encode("utf-16"), 422),
    "empty": (b"", 422),
    "a list": (b"[1]", 422),
}


def test_json_that_no_page_sends_is_one_sentence(store: Store, person):
    """Depth, number, and what is no JSON though Python reads it; nothing is made of it."""
    owner = person("owner").browser
    for name, (body, status) in REFUSED.items():
        answer = owner.post(
            "/api/projects", content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == status, (name, answer.text)
        assert set(answer.json()) == {"error"} and len(answer.text) < 200, name
    assert owner.get("/api/projects").json() == []


def test_a_long_body_is_parsed_in_a_thread(person, monkeypatch):
    """And a short one at once; the loop answers others meanwhile."""
    parsed, threads = bodies.parsed, []

    def watched(body: bytes) -> Any:
        threads.append((len(body) > bodies.QUICK, threading.current_thread().name))
        return parsed(body)

    monkeypatch.setattr(bodies, "parsed", watched)
    owner = person("owner").browser
    for length in (10, 30_000):
        owner.post("/api/projects", json={"name": "n" * length})
    (_, loop), (long, worker) = threads[-2:]
    assert long and worker != loop and "AnyIO worker" in worker


@pytest.fixture
def lead(store: Store, person) -> Iterator[tuple[Any, str]]:
    yield person("lead").browser, f"/api/projects/{make_project(store)}/import"


def test_an_upload_is_bounded_in_what_it_expands_to(lead, store: Store, monkeypatch):
    """Kilobytes that stand for gigabytes, in each form that is read; what is just small enough is taken."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(bounds, "MAX_BYTES", 1_000_000)
    monkeypatch.setattr(bounds, "MAX_VALUE_BYTES", 300_000)
    monkeypatch.setattr(bounds, "MAX_WEIGHT", 40_000)
    browser, url = lead
    row = b'{"prompt": "Why?"}\n'

    def table(prompts: Any) -> bytes:
        sink = pyarrow.BufferOutputStream()
        parquet.write_table(pyarrow.table({"prompt": prompts}), sink)
        return sink.getvalue().to_pybytes()

    refused = {
        "p.jsonl.gz": gzip.compress((b'{"prompt": "' + b"x" * 250_000 + b'"}\n') * 5),
        "long.jsonl.gz": gzip.compress(b'{"prompt": "' + b"x" * 400_000 + b'"}\n'),
        "p.csv.gz": gzip.compress(b"prompt\n" + b"x" * 900 + b"\n" + (b"y" * 900 + b"\n") * 1200),
        "p.txt.gz": gzip.compress(b"x" * 2_000_000),
        "many.jsonl": row * 5_000,
        "array.jsonl": b"[" + b"{}," * 10_000 + b"{}]",
        "array.json": b'[{"prompt": [' + b"[]," * 10_000 + b"[]]}]",
        "deep.jsonl": b'{"prompt": ' + b"[" * 500 + b"]" * 500 + b"}\n",
        "wide.csv": b"prompt" + b",a" * 50_000 + b"\nx" + b",a" * 50_000,
        "p.parquet": table(["y" * 100_000] * 1000),
        "rows.parquet": table([None] * 100_000),
    }
    for name, body in refused.items():
        answer = browser.post(url, params={"what": "prompts", "name": name}, content=body)
        assert answer.status_code == 413, (name, answer.text)
        assert name in answer.json()["error"] and "/" not in answer.json()["error"]
    for name, body in {
        "p.jsonl.gz": gzip.compress(row),
        "p.parquet": table(["Why?"] * 100),
    }.items():
        answer = browser.post(url, params={"what": "prompts", "name": name}, content=body)
        assert answer.status_code == 200, answer.text


def test_a_page_that_lies_about_its_size_is_not_unpacked(tmp_path):
    """A reader takes the memory first and looks afterwards. Mutations caught: the footer believed; pages before the
    last, or a dictionary, not looked at; a header that cannot be read let through."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "p.parquet"
    prompts = [f"{i % 7}" * 200_000 for i in range(14)]
    for dictionary in (False, True):
        parquet.write_table(
            pyarrow.table({"prompt": prompts}), file, use_dictionary=dictionary, data_page_size=1
        )
        bounds.check(file)
        whole = file.read_bytes()
        chunk = parquet.ParquetFile(file).metadata.row_group(0).column(0)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        with file.open("rb") as raw:
            found = list(pages.pages(raw, start, chunk.total_compressed_size))
        assert sum(page.values for page in found if not page.is_dictionary) == len(prompts)
        assert [page.is_dictionary for page in found] == [dictionary, *[False] * (len(found) - 1)]
        assert sum(page.size for page in found) <= chunk.total_uncompressed_size
        true, lie = (zigzag(size) for size in (found[0].size, 2**27 - 1))
        assert len(true) == len(lie) == 4 and whole.count(true, start) == 1
        file.write_bytes(whole.replace(true, lie))
        with pytest.raises(bounds.TooMuch, match="unpacks to more than"):
            bounds.check(file)
        file.write_bytes(whole[:start] + b"\xff" * 40 + whole[start + 40 :])
        with pytest.raises(UserError, match=r"p\.parquet has a Parquet page that cannot be read"):
            bounds.check(file)


def zigzag(number: int) -> bytes:
    """As Thrift's compact protocol writes it."""
    number, out = number << 1, bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def test_an_upload_that_ends_midway_is_no_error_of_the_server(store: Store, app, person):
    """The connection is gone, and so is the file."""
    owner, project = person("owner").browser, make_project(store)
    cookie = "; ".join(f"{k}={v}" for k, v in owner.cookies.items())
    csrf = owner.headers["X-CSRF-Token"]

    class Gone(Sender):
        async def receive(self) -> dict[str, Any]:
            message = await super().receive()
            return message | {"more_body": True} if message["type"] == "http.request" else message

    headers = [(b"cookie", cookie.encode()), (b"x-csrf-token", csrf.encode()), CHUNKED]
    for route in (f"POST /api/projects/{project}/import?what=prompts", "POST /api/projects"):
        assert Gone(2).offer(app, route, *headers) == 400
    assert transfer.take_in.terms.body == bounds.MAX_BYTES
