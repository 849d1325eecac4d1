"""Behind a proxy: whose address counts, what people type, path prefixes; and many who sign in at once."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from argon2 import PasswordHasher
from fastapi import Request
from starlette.testclient import TestClient

from heedful.errors import UserError
from heedful.store.database import limits
from heedful.store.database.db import Store
from heedful.store.membership import people
from heedful.web import passwords, proxy
from heedful.web.app import create_app
from heedful.web.respond import HERE
from web.conftest import PASSWORD

WRONG = "wrong password"


@pytest.fixture
def unhashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who gets to the hashing is tested here, not the hashing."""

    def verify(stored: str | None, password: str) -> bool:
        return stored is not None and password == PASSWORD

    monkeypatch.setattr(people, "verify_password", verify)


def join(store: Store, hashed: str, login: str, role: str = "rater") -> str:
    with store.write() as connection:
        token = people.invite(connection, role, actor=None)
        people.accept(connection, token, login=login, password_hash=hashed)
    return login


def log_in(
    app: Any,
    login: str,
    password: str = PASSWORD,
    peer: str = "127.0.0.1",
    portal: Any = None,
    **headers: str,
):
    client = TestClient(app, base_url="http://heedful.test", client=(peer, 1), headers=headers)
    client.portal = portal
    return client.post("/api/session", json={"login": login, "password": password})


def all_at_once(app: Any, people_: list[tuple[str, str]]) -> list[int]:
    """The answers to sixty people who sign in at once, in one event loop, as a server has it: lanes are a loop's."""
    with TestClient(app) as first, ThreadPoolExecutor(60) as pool:
        return list(
            pool.map(lambda who: log_in(app, *who, portal=first.portal).status_code, people_)
        )


@pytest.mark.parametrize(
    "peer, forwarded, counts",
    [
        ("203.0.113.5", ["198.51.100.7"], "203.0.113.5"),  # nobody's proxy
        ("127.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("::ffff:127.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("127.0.0.1", ["6.6.6.6, 198.51.100.7, 10.1.2.3"], "198.51.100.7"),  # he may write the first himself
        ("127.0.0.1", ["6.6.6.6", "198.51.100.7"], "198.51.100.7"),  # a proxy that adds a line of its own
        ("127.0.0.1", ["198.51.100.7:4711"], "198.51.100.7"),
        ("127.0.0.1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("127.0.0.1", ["6.6.6.6, nonsense"], "127.0.0.1"),
        ("127.0.0.1", ["6.6.6.6, nonsense, 10.9.9.9"], "10.9.9.9"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", [""], "127.0.0.1"),
    ],
)  # fmt: skip
def test_the_last_address_that_is_no_proxys_counts(peer: str, forwarded: list[str], counts: str):
    """Mutation caught: the first address of the header, which anybody may write; the last, which is a proxy's."""
    state = SimpleNamespace(proxies=proxy.networks(["127.0.0.0/8", "10.0.0.0/8"]))
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    scope = {"type": "http", "client": (peer, 1), "headers": headers}
    assert proxy.address(Request(scope | {"app": SimpleNamespace(state=state)})) == counts


def test_addresses_of_one_person():
    """Of IPv6 anybody has 2^64; what is kept of an address names no household."""
    assert proxy.network("2001:db8::1:2:3:4") == proxy.network("2001:db8::9") == "2001:db8::/64"
    assert proxy.network("203.0.113.7") == "203.0.113.7"
    assert proxy.shortened("203.0.113.7") == "203.0.113.0/24"
    assert proxy.shortened("2001:db8:1:2::7") == "2001:db8:1::/48"
    assert proxy.shortened("testclient") is None
    with pytest.raises(UserError, match="--trusted-proxies"):
        proxy.networks(["nginx"])


def test_a_guesser_behind_the_same_address_shuts_nobody_out(
    store: Store, hashed: str, unhashed, monkeypatch: pytest.MonkeyPatch
):
    """No header is believed, so all share one address: whoever knows a password comes in, after any number of guesses.

    Mutations caught: an address's bucket that refuses; buckets emptied by who was refused at another.
    """
    monkeypatch.setattr(limits, "ACCOUNT", limits.Limit(10, 1e6))
    monkeypatch.setattr(limits, "ADDRESS", limits.Limit(20, 1e6))
    monkeypatch.setattr(limits, "SUSPECTED", limits.Limit(3, 1e6))
    app = create_app(store)
    rater, owner = join(store, hashed, "r@e.org"), join(store, hashed, "o@e.org", "owner")
    for i in range(limits.ADDRESS.burst + 10):
        assert log_in(app, f"g{i}", WRONG, **{"X-Forwarded-For": "203.0.113.9"}).status_code == 401
    assert log_in(app, rater, **{"X-Forwarded-For": "198.51.100.7"}).status_code == 200
    # On the owner's account he gets no further than three guesses, and elsewhere the owner comes in.
    tries = [log_in(app, owner, WRONG).status_code for _ in range(20)]
    assert tries == [401] * limits.SUSPECTED.burst + [429] * (20 - limits.SUSPECTED.burst)
    assert log_in(app, owner, peer="198.51.100.7").status_code == 200


def test_a_trusted_proxy_tells_guessers_and_owners_apart(store: Store, hashed: str, unhashed):
    app = create_app(store, trusted_proxies=["127.0.0.1"])
    owner = join(store, hashed, "o@e.org", "owner")
    guesser, own = {"X-Forwarded-For": "203.0.113.9"}, {"X-Forwarded-For": "198.51.100.7"}
    assert [log_in(app, owner, WRONG, **guesser).status_code for _ in range(9)][-1] == 429
    assert log_in(app, owner, **own).status_code == 200


def test_a_team_signs_in_together(store: Store, hashed: str, unhashed):
    """Sixty from one address at the same moment; and each again and again."""
    app = create_app(store)
    logins = [join(store, hashed, f"r{i}@e.org") for i in range(60)]
    said = all_at_once(app, [(login, PASSWORD) for login in logins])
    assert said == [200] * 60
    assert [log_in(app, logins[0]).status_code for _ in range(20)] == [200] * 20


def test_passwords_are_hashed_one_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch):
    """Each takes 64 MiB: sixty strangers at once take no more than one, and pages go on meanwhile.

    Mutations caught: a thread for each; a hash of its own for unknown logins.
    """
    app, lock = create_app(store), threading.Lock()
    at_once, most, hashes = 0, 0, []

    def slow(*_: Any) -> bool:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.005)
        with lock:
            at_once -= 1
        return False

    monkeypatch.setattr(PasswordHasher, "verify", slow)
    monkeypatch.setattr(PasswordHasher, "hash", lambda *_: hashes.append(1))
    people._dummy_hash.cache_clear()
    said = all_at_once(app, [(f"g{i}", WRONG) for i in range(60)])
    assert said == [401] * 60 and most == 1 and hashes == []


def test_too_many_are_told_to_come_again(store: Store, monkeypatch: pytest.MonkeyPatch):
    """Memory has an end: whoever is too much costs nothing, and is told when to try again."""
    monkeypatch.setattr(passwords, "OF_ADDRESS", 0)
    said = log_in(create_app(store), "a", WRONG)
    assert said.status_code == 503 and int(said.headers["retry-after"]) > 0
    monkeypatch.undo()
    assert log_in(create_app(store), "a", WRONG).status_code == 401


def test_invitations_are_not_limited_and_bad_ones_cost_no_hash(store: Store, monkeypatch):
    """A class that joins together; links that are worth nothing are refused before anything is hashed."""
    app, hashed = create_app(store), []
    monkeypatch.setattr(people, "hash_password", lambda *_, **__: hashed.append(1) or "x")
    # However slow the machine is, none comes back meanwhile.
    monkeypatch.setattr(limits, "ADDRESS", limits.Limit(limits.ADDRESS.burst, 1e6))

    def accept(token: str, login: str) -> int:
        client = TestClient(app, base_url="http://heedful.test")
        body = {"token": token, "login": login, "password": PASSWORD}
        return client.post("/api/invitations/accept", json=body).status_code

    with store.write() as connection:
        tokens = [people.invite(connection, "rater", actor=None) for _ in range(50)]
    tries = [accept("nonsense", "x") for _ in range(limits.ADDRESS.burst + 1)]
    assert tries == [400] * limits.ADDRESS.burst + [429] and not hashed
    assert [accept(t, f"r{i}") for i, t in enumerate(tokens)] == [201] * 50


@pytest.mark.parametrize("passed_on", [False, True])
def test_a_path_prefix(store: Store, hashed: str, passed_on: bool):
    """`--url https://rate.example.org/heedful`, whether the proxy takes /heedful off or not: pages, what they load,
    redirects, links and the cookie stay below it."""
    app = create_app(store, base_url="https://rate.example.org/heedful")
    join(store, hashed, "o@e.org", "owner")
    client = TestClient(app, base_url="https://rate.example.org", follow_redirects=False)

    def get(path: str) -> Any:
        assert path.startswith("/heedful/"), path
        return client.get(path if passed_on else path.removeprefix("/heedful"))

    moved = get("/heedful/lead/x%2Fy")
    login = urljoin("https://rate.example.org/heedful/lead/x%2Fy", moved.headers["location"])
    assert login.startswith("https://rate.example.org/heedful/login?next=/lead/x")
    said = client.post(
        "/api/session",
        json={"login": "o@e.org", "password": PASSWORD},
        headers={"Origin": "https://rate.example.org"},
    )
    cookie = said.headers["set-cookie"]
    assert said.status_code == 200 and "Path=/heedful;" in cookie and "Secure" in cookie
    # Another heedful at the root of the site has its own.
    client.cookies.set("heedful_session", "of another")
    client.cookies.set("heedful_session_heedful", cookie.split("=")[1].split(";")[0])
    client.headers["X-CSRF-Token"] = said.json()["csrf"]
    project = client.post("/api/projects", json={"name": "p"}).json()["id"]
    for path in (
        "/heedful/login",
        "/heedful/rate",
        f"/heedful/lead/{project}/files",
        "/heedful/docs",
    ):
        shown = get(path)
        links = re.findall(r'(?:href|src)="([^"#]+)"', shown.text)
        below = {urlsplit(urljoin(f"https://h{path}", link)).path for link in links}
        assert all(p.startswith("/heedful/") for p in below), (path, below)
        assert {get(p).status_code for p in below} <= {200, 303}, path
    url = client.post("/api/invitations", json={"role": "rater"}).json()["url"]
    assert url.startswith("https://rate.example.org/heedful/join?token=")


def test_what_people_type_without_url(store: Store, hashed: str):
    """The proxy's words, if it is trusted; and a browser's own word counts where the proxy hides the host."""
    join(store, hashed, "o@e.org", "owner")
    said = {
        "X-Forwarded-Proto": "https", "X-Forwarded-Host": "rate.example.org", "X-Forwarded-Prefix": "/x",
    }  # fmt: skip
    for proxies, url in (((), "http://upstream:1"), (["127.0.0.1"], "https://rate.example.org/x")):
        app = create_app(store, trusted_proxies=proxies)
        client = TestClient(
            app, base_url="http://upstream:1", client=("127.0.0.1", 1), headers=said
        )
        body = {"login": "o@e.org", "password": PASSWORD}
        origin = {"Origin": "https://rate.example.org"}
        refused = client.post("/api/session", json=body, headers=origin).status_code
        assert refused == (200 if proxies else 403)
        same = {**origin, "Sec-Fetch-Site": "same-origin"}
        signed_in = client.post("/api/session", json=body, headers=same)
        assert signed_in.status_code == 200
        assert ("Secure" in signed_in.headers["set-cookie"]) == bool(proxies)
        token = re.search("heedful_session=([^;]+)", signed_in.headers["set-cookie"])
        assert token
        headers = {
            "X-CSRF-Token": signed_in.json()["csrf"],
            "Cookie": f"heedful_session={token[1]}",
        }
        made = client.post("/api/invitations", json={"role": "rater"}, headers=headers | same)
        assert made.json()["url"].startswith(f"{url}/join?token=")


@pytest.mark.parametrize(
    "url",
    [
        "rate.example.org", "ftp://x.org", "https://", "https://u:p@x.org", "https://x.org/?a=1", "https://x.org/#a",
        "https://x.org/a b", "https://x.org/../up\n", "https://x.org/lead", "https://x.org/api/x", "https://x.org:x",
    ],
)  # fmt: skip
def test_an_address_that_nobody_could_type(url: str):
    with pytest.raises(UserError, match="--url"):
        proxy.checked_url(url)


def test_addresses_that_people_type():
    assert proxy.checked_url("https://x.org/") == "https://x.org"
    assert proxy.checked_url("https://x.org:8443/a/b-c/") == "https://x.org:8443/a/b-c"


def test_no_path_begins_at_the_root_of_the_site():
    """In pages and scripts, other people's too: a proxy may put a prefix before all of them."""
    absolute = re.compile(
        r"""(?:href|src|action)=["']/|(?:href|src): ?["'`]/|assign\(["'`]/|fetch\((?!link\()|from ["']/"""
    )
    for path in [*HERE.rglob("*.html"), *HERE.rglob("*.js")]:
        if "vendor" not in path.parts:
            text = path.read_text(encoding="utf-8")
            assert not absolute.search(text.replace("prefetch(", "")), path
