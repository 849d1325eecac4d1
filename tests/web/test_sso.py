"""Single sign-on against a small OpenID provider of our own: what opens an account, and what must not."""

from __future__ import annotations

import functools
import hmac
import json
import re
import time
from base64 import b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import select

from heedful.errors import UserError
from heedful.store.database.db import Store
from heedful.store.membership import identities, people
from heedful.store.tables import schema
from heedful.web.app import create_app
from web.conftest import browser

pytest.importorskip("authlib", reason="Authlib is not installed")
from joserfc import jwt  # pyright: ignore[reportMissingImports]
from joserfc.jwk import RSAKey  # pyright: ignore[reportMissingImports]

from heedful.web.sso import Provider, provider_of

ISSUER, SITE = "https://login.test/realms/lab", "http://heedful.test"
ADA = {"sub": "u1", "email": "Ada@lab.org", "email_verified": True, "name": "Ada"}


@functools.cache
def key_of(kid: str) -> RSAKey:
    """A new key is dear, and not for every process that only looks for tests."""
    return RSAKey.generate_key(2048, {"kid": kid})


class Issuer:
    """Discovery, keys, authorisation by a person who agrees to everything, tokens for codes; `tamper` spoils them."""

    def __init__(self) -> None:
        self.key, self.person, self.codes = key_of("1"), ADA, {}
        self.tamper: Any = lambda claims: claims
        self.sign: Any = lambda claims: jwt.encode(
            {"alg": "RS256", "kid": self.key.kid}, claims, self.key
        )
        self.told: dict[str, Any] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/realms/lab")
        if path == "/.well-known/openid-configuration":
            ends = {"authorization_endpoint": "auth", "token_endpoint": "token", "jwks_uri": "keys"}
            about = {name: f"{ISSUER}/{end}" for name, end in ends.items()}
            return httpx.Response(200, json={"issuer": ISSUER, **about} | self.told)
        if path == "/keys":
            return httpx.Response(200, json={"keys": [self.key.as_dict(private=False)]})
        assert path == "/token" and request.method == "POST"
        form = {k: v[0] for k, v in parse_qs(request.content.decode()).items()}
        name, secret = b64decode(request.headers["Authorization"].split()[1]).decode().split(":")
        asked = self.codes.pop(form["code"], None)
        verifier = (
            urlsafe_b64encode(sha256(form.get("code_verifier", "").encode()).digest())
            .decode()
            .rstrip("=")
        )
        good = (
            (name, secret) == ("heedful", "s3cret")
            and asked
            and asked["code_challenge"] == verifier
        )
        if not good or asked["redirect_uri"] != form["redirect_uri"]:
            return httpx.Response(400, json={"error": "invalid_grant"})
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": "heedful",
            "iat": now,
            "exp": now + 60,
            "nonce": asked["nonce"],
        } | self.person
        token = {
            "access_token": "at",
            "token_type": "Bearer",
            "id_token": self.sign(self.tamper(claims)),
        }
        return httpx.Response(200, json=token)

    def agree(self, url: str) -> str:
        """What the person's browser is sent back to."""
        assert url.startswith(f"{ISSUER}/auth?")
        asked = {k: v[0] for k, v in parse_qs(urlsplit(url).query).items()}
        assert asked["response_type"] == "code" and asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split() and asked["client_id"] == "heedful"
        assert asked["redirect_uri"] == f"{SITE}/sso/back"
        code = f"code{len(self.codes)}"
        self.codes[code] = asked
        return f"/sso/back?code={code}&state={asked['state']}"


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def app(store: Store, tmp_path, issuer: Issuer) -> Any:
    provider = Provider(ISSUER, "heedful", "s3cret", ("Lab.org",), httpx.MockTransport(issuer))
    return create_app(store, workspace=tmp_path, sso=provider)


def go(client: Any, issuer: Issuer, query: str = "") -> Any:
    """There and back; the answer to coming back."""
    there = client.get(f"/sso{query}", follow_redirects=False)
    assert there.status_code == 303, there.text
    cookie = there.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie
    return client.get(issuer.agree(there.headers["location"]), follow_redirects=False)


def refused(answer: Any) -> str:
    assert answer.status_code == 400 and "Not signed in" in answer.text, answer.status_code
    return (
        re.sub(r"\s+", " ", answer.text)
        .replace("There is", "there is")
        .replace("Your account", "your account")
    )


def sessions(store: Store) -> int:
    with store.read() as connection:
        return len(connection.execute(select(schema.session)).all())


def test_from_an_invitation_to_an_account_and_back_again(app, store: Store, issuer: Issuer, person):
    """The role of the invitation, once; afterwards the subject alone opens it, whatever the address has become.
    Mutations caught: an invitation that is not used up, an account for each sign-in, the address as identity."""
    lead = person("lead")
    url = lead.browser.post("/api/invitations", json={"people": "Ada"}).json()["url"]
    token = url.split("token=")[1]
    issuer.person = ADA | {"email": "ada@elsewhere.org"}
    client = browser(app)
    assert f"sso?invitation={token}" in client.get(f"/join?token={token}").text
    assert go(client, issuer, f"?invitation={token}").status_code == 303
    me = client.get("/api/me").json()
    assert me["role"] == "rater"
    issuer.person = ADA | {"email": "new@elsewhere.org", "email_verified": False}
    again = browser(app)
    answer = go(again, issuer, "?next=/rate")
    assert answer.status_code == 303 and answer.headers["location"].endswith("rate")
    assert again.get("/api/me").json()["rater"] == me["rater"]
    issuer.person = {"sub": "u2"}
    assert "has been used" in refused(go(browser(app), issuer, f"?invitation={token}"))
    with store.read() as connection:
        rows = connection.execute(
            select(schema.rater_pii).where(schema.rater_pii.c.rater == me["rater"])
        ).all()
    assert [(r.login, r.name) for r in rows] == [("ada@elsewhere.org", "Ada")]
    assert not people.verify_password(rows[0].password_hash, "")


@pytest.mark.parametrize(
    "claims, words",
    [
        ({}, None),
        ({"email": "ada@LAB.ORG"}, None),
        ({"email_verified": False}, "no account here yet"),
        ({"email_verified": "true"}, "no account here yet"),  # a word is no truth
        ({"email": "ada@evil-lab.org"}, "no account here yet"),
        ({"email": "ada@lab.org.evil.org"}, "no account here yet"),
        ({"email": None}, "no account here yet"),
    ],
)
def test_an_allowed_domain(
    app, store: Store, issuer: Issuer, claims: dict[str, Any], words: str | None
):
    """Only of an address that the issuer has verified. Mutations caught: a suffix, an unverified address."""
    issuer.person = ADA | claims
    client = browser(app)
    answer = go(client, issuer)
    if words is None:
        assert answer.status_code == 303 and client.get("/api/me").json()["role"] == "rater"
    else:
        assert words in refused(answer) and sessions(store) == 0


def forged(key: Any, header: dict[str, Any]) -> Any:
    return lambda claims: jwt.encode(header, claims, key, algorithms=[header["alg"]])


def encoded(*parts: Any) -> str:
    words = (json.dumps(p).encode() if isinstance(p, dict) else p for p in parts)
    return ".".join(urlsafe_b64encode(w).decode().rstrip("=") for w in words)


def unsigned(claims: dict[str, Any]) -> str:
    return encoded({"alg": "none"}, claims, b"")


def by_public_key(pem: bytes) -> Any:
    """As an attacker signs who knows the public key only, and hopes that it is taken for a secret."""

    def sign(claims: dict[str, Any]) -> str:
        body = encoded({"alg": "HS256", "kid": "1"}, claims)
        return f"{body}.{encoded(hmac.digest(pem, body.encode(), 'sha256'))}"

    return sign


@pytest.mark.parametrize(
    "what",
    [
        "nonce",
        "no nonce",
        "issuer",
        "audience",
        "expired",
        "none",
        "secret",
        "other key",
        "at_hash",
        "nobody",
    ],
)
def test_a_token_that_does_not_hold_opens_nothing(app, store: Store, issuer: Issuer, what: str):
    """Mutations caught: each check of the token left out; `none`, and a signature with the public key as a secret."""
    past = {"exp": int(time.time()) - 1000}
    changes: dict[str, dict[str, Any]] = {
        "nonce": {"nonce": "x"}, "no nonce": {"nonce": None}, "issuer": {"iss": "https://evil.org"},
        "audience": {"aud": "other"}, "expired": past, "at_hash": {"at_hash": "x"}, "nobody": {"sub": ""},
    }  # fmt: skip
    issuer.tamper = lambda claims: {
        k: v for k, v in (claims | changes.get(what, {})).items() if v is not None
    }
    if what == "none":
        issuer.sign = unsigned
    if what == "secret":
        issuer.sign = by_public_key(issuer.key.as_pem(private=False))
    if what == "other key":
        issuer.sign = forged(key_of("2"), {"alg": "RS256", "kid": "1"})
    assert "could not be checked" in refused(go(browser(app), issuer))
    assert sessions(store) == 0


def test_only_the_browser_that_began_comes_in(app, store: Store, issuer: Issuer):
    """Another browser, another state, a second time, an error of the issuer. Mutations caught: a state that is not
    compared, a cookie that stays, a code without its verifier."""
    mine, other = browser(app), browser(app)
    there = mine.get("/sso", follow_redirects=False).headers["location"]
    home = issuer.agree(there)
    assert "not begun in this browser" in refused(other.get(home))
    assert "not begun in this browser" in refused(mine.get(home + "x"))
    assert "not begun in this browser" in refused(mine.get(home))  # that attempt is over
    first, second = browser(app), browser(app)
    stolen = issuer.agree(first.get("/sso", follow_redirects=False).headers["location"])
    own = issuer.agree(second.get("/sso", follow_redirects=False).headers["location"])
    code = re.search(r"code=\w+", stolen)
    assert code
    assert "could not be checked" in refused(second.get(re.sub(r"code=\w+", code[0], own)))
    third = browser(app)
    state = parse_qs(urlsplit(third.get("/sso", follow_redirects=False).headers["location"]).query)[
        "state"
    ][0]
    assert "(access_denied)" in refused(third.get(f"/sso/back?error=access_denied&state={state}"))
    assert sessions(store) == 0


@pytest.mark.parametrize(
    "words", ["", "zz", "7b7d", b'{"way": {"state": 1}}'.hex(), b"[1]".hex(), b'{"way": 1}'.hex()]
)
def test_a_cookie_that_somebody_has_made(app, issuer: Issuer, words: str):
    """Mutation caught: an error of the server for what a browser sends."""
    client = browser(app)
    client.cookies.set("heedful_sso", words)
    assert "not begun in this browser" in refused(client.get("/sso/back?code=c&state=s"))


def test_no_account_is_taken_over(app, store: Store, issuer: Issuer, person, hashed: str):
    """Somebody has typed this address as their login: it opens with their password, and is connected from within.
    Mutation caught: accounts joined by address, which nobody has checked."""
    with store.write() as connection:
        token = people.invite(connection, "lead", actor=None)
        key = people.accept(connection, token, login="ada@lab.org", password_hash=hashed)
    assert "there is an account with this login already" in refused(go(browser(app), issuer))
    owner = browser(app, "ada@lab.org")
    assert "Connect it" in owner.get("/account").text
    assert go(owner, issuer, "?connect=yes").headers["location"].endswith("account")
    client = browser(app)
    assert go(client, issuer).status_code == 303 and client.get("/api/me").json()["rater"] == key
    other = person("rater").browser
    assert "belongs to another account" in refused(go(other, issuer, "?connect=yes"))
    assert browser(app).get("/sso?connect=yes", headers={"Accept": "text/html"}).status_code == 401
    assert owner.delete("/api/identity").json() == {"ended": 1}
    assert "there is an account with this login already" in refused(go(browser(app), issuer))


def test_who_is_paused_or_forgotten(app, store: Store, issuer: Issuer, person):
    """Paused: refused; erased: nothing is left of the identity, and it is a stranger's."""
    client = browser(app)
    go(client, issuer)
    key = client.get("/api/me").json()["rater"]
    with store.write() as connection:
        people.change_rater(connection, key, actor=None, status="paused")
    assert "paused" in refused(go(browser(app), issuer))
    with store.write() as connection:
        people.erase(connection, key, actor=key)
        assert not identities.linked(connection, key)


def test_new_keys_of_the_issuer(app, issuer: Issuer):
    """Keys are changed now and then. Mutation caught: those of an hour ago are all that is known."""
    assert go(browser(app), issuer).status_code == 303
    issuer.key = key_of("2")
    assert go(browser(app), issuer).status_code == 303


def test_an_issuer_that_is_another(app, issuer: Issuer):
    """Mutation caught: whatever answers is believed to be the issuer."""
    issuer.told = {"issuer": "https://evil.org"}
    answer = browser(app).get("/sso")
    assert answer.status_code == 400 and "calls itself" in answer.json()["error"]


@pytest.mark.parametrize(
    "issuer_, client, domains, words",
    [
        ("https://x.org", None, (), "needs both"),
        (None, None, ("x.org",), "needs both"),
        ("http://x.org", "c", (), "must be an address such as https://"),
        ("x.org", "c", (), "must be an address such as https://"),
    ],
)
def test_what_serve_refuses(
    issuer_: str | None, client: str | None, domains: tuple[str, ...], words: str
):
    with pytest.raises(UserError, match=words):
        provider_of(issuer_, client, domains)


def test_what_serve_takes(monkeypatch):
    monkeypatch.setenv("HEEDFUL_OIDC_SECRET", "s3cret")
    assert provider_of(None, None, ()) is None
    provider = provider_of("http://127.0.0.1:9/x", "c", ("lab.org",))
    assert provider and provider.secret == "s3cret" and "s3cret" not in repr(provider)


def test_without_it_there_is_no_such_way(person, store, tmp_path):
    """No link on the pages, and nothing behind the address."""
    client = browser(create_app(store, workspace=tmp_path))
    assert "sso" not in client.get("/login").text
    assert client.get("/sso").status_code == client.get("/sso/back").status_code == 404
