"""A workspace with an owner, a lead and a rater, and clients that are signed in as them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from starlette.testclient import TestClient

from databases import new_store
from heedful.store.database.db import Store
from heedful.store.membership import people
from heedful.web.app import create_app
from heedful.web.security import COOKIE
from workspace import CHEAP, cheap_passwords

PASSWORD = "correct horse 9"


@dataclass(frozen=True)
class Person:
    """Somebody with an account, and a browser that is signed in."""

    id: str
    login: str
    browser: TestClient


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = new_store(tmp_path / "heedful.db")
    yield opened
    opened.close()


@pytest.fixture
def app(store: Store, tmp_path: Path) -> Any:
    return create_app(store, workspace=tmp_path)


@pytest.fixture(scope="module", autouse=True)
def _one_loop() -> Iterator[None]:
    """All requests of a file run in one event loop, as a server's do: a client makes a thread and a loop for each."""
    with start_blocking_portal() as portal, pytest.MonkeyPatch.context() as patch:
        patch.setattr(TestClient, "portal", portal)
        yield


@pytest.fixture(autouse=True)
def _cheap_passwords() -> Iterator[None]:
    with cheap_passwords():
        yield


@pytest.fixture(scope="session")
def hashed() -> str:
    return CHEAP.hash(PASSWORD)


def browser(app: Any, login: str | None = None) -> TestClient:
    """A browser; signed in, with its CSRF token, where a login is given."""
    client = TestClient(app, base_url="http://heedful.test", raise_server_exceptions=False)
    if login:
        said = client.post("/api/session", json={"login": login, "password": PASSWORD})
        assert said.status_code == 200, said.text
        client.headers["X-CSRF-Token"] = said.json()["csrf"]
    return client


def sign_in(client: TestClient, store: Store, key: str) -> None:
    """As the login does, without the password, whose hash is slow on purpose."""
    with store.write() as connection:
        token, csrf = people.begin_session(connection, key)
    client.cookies.set(COOKIE, token)
    client.headers["X-CSRF-Token"] = csrf


@pytest.fixture
def person(app: Any, store: Store, hashed: str) -> Callable[[str], Person]:
    """`person("lead")` makes somebody with that role, signed in."""
    made: list[str] = []

    def make(role: str) -> Person:
        login = f"{role}{len(made)}@example.org"
        made.append(login)
        with store.write() as connection:
            token = people.invite(connection, role, actor=None)
            key = people.accept(connection, token, login=login, password_hash=hashed)
        client = browser(app)
        sign_in(client, store, key)
        return Person(key, login, client)

    return make


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: Any) -> Callable[[str], Path]:
    """`stand_in(code)`: what stands in for heedful where the server starts it as a process, since a real one takes long
    to begin; returns its folder."""

    def write(code: str) -> Path:
        place = tmp_path / "fake" / "heedful"
        place.mkdir(parents=True, exist_ok=True)
        (place / "__main__.py").write_text(code)
        (place / "__init__.py").write_text("")
        monkeypatch.setenv("PYTHONPATH", str(place.parent))
        return place

    return write
