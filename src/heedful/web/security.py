"""Authentication and authorisation of requests.

People have a session cookie, scripts an API token. The browser sends a cookie with any site's requests, so with a
cookie every write also needs the session's CSRF token and the right origin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from heedful.store import limits, people
from heedful.store.db import Store

COOKIE = "heedful_session"
SAFE = ("GET", "HEAD", "OPTIONS")


class Denied(Exception):
    """The status and the sentence to answer with."""

    def __init__(self, status: int, sentence: str, wait: float = 0.0):
        super().__init__(sentence)
        self.status, self.sentence, self.wait = status, sentence, wait


@dataclass(frozen=True)
class User:
    """An authenticated rater; `scopes` limits what an API token may do."""

    rater: str
    pseudonym: str
    role: str
    scopes: frozenset[str] | None = None
    csrf: str | None = None

    @property
    def leads(self) -> bool:
        return self.role in ("lead", "owner")

    def may(self, scope: str) -> bool:
        return self.scopes is None or scope in self.scopes


def store_of(request: Request) -> Store:
    return request.app.state.store


def same_site(request: Request) -> None:
    """Refuse a write that another site's page has made the browser send, signing in included."""
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise Denied(403, "this request comes from another site")
    origin = request.headers.get("origin") or request.headers.get("referer")
    if origin is None:
        return
    hosts = {request.headers.get("host", "")}
    if base := request.app.state.base_url:
        hosts.add(urlsplit(base).netloc)
    try:
        is_ours = origin != "null" and urlsplit(origin).netloc in hosts
    except ValueError:  # such as http://[
        is_ours = False
    if not is_ours:
        raise Denied(403, "this request comes from another site")


def identify(request: Request) -> User | None:
    """The user with a valid session or token, or None; for pages, which redirect to the login."""
    store = store_of(request)
    header = request.headers.get("authorization", "")
    if header:
        kind, _, secret = header.partition(" ")
        with store.read() as connection:
            row = people.token_of(connection, secret.strip())
        if kind.lower() != "bearer" or row is None:
            return None
        return User(row.rater, row.pseudonym, row.role, frozenset(row.scopes))
    token = request.cookies.get(COOKIE)
    if not token:
        return None
    with store.read() as connection:
        session, stale = people.find_session(connection, token)
    if session is None:
        return None
    if stale:
        with store.write() as connection:
            people.touch(connection, token)
    return User(session.rater, session.pseudonym, session.role, None, session.csrf)


def current_user(request: Request) -> User:
    """Anybody who is signed in, whatever their token's scopes."""
    user = identify(request)
    if user is None:
        raise Denied(401, "sign in first")
    if user.csrf is not None and request.method not in SAFE:
        same_site(request)
        if request.headers.get("x-csrf-token") != user.csrf:
            raise Denied(403, "the CSRF token is missing or wrong; reload the page")
    request.state.user = user
    return user


CurrentUser = Annotated[User, Depends(current_user)]


def signed_in(request: Request, user: CurrentUser) -> User:
    """Reads need the scope `read`, answers `rate`."""
    need = "read" if request.method in SAFE else "rate"
    if not user.may(need) and not (need == "read" and user.may("rate")):
        raise Denied(403, f"this token lacks the scope {need}")
    return user


def lead(request: Request, user: CurrentUser) -> User:
    """Leads and owners; a token needs `lead` to change things, `read` to look."""
    if not user.leads:
        raise Denied(403, "only a lead may do this")
    need = "read" if request.method in SAFE else "lead"
    if not user.may(need) and not user.may("lead"):
        raise Denied(403, f"this token lacks the scope {need}")
    return user


def owner(user: Annotated[User, Depends(lead)]) -> User:
    """Owners only."""
    if user.role != "owner":
        raise Denied(403, "only an owner may do this")
    return user


def person(user: CurrentUser) -> User:
    """A session, not a token: tokens cannot change their own account."""
    if user.scopes is not None:
        raise Denied(403, "this needs a person who is signed in, not a token")
    return user


SignedIn = Annotated[User, Depends(signed_in)]
Lead = Annotated[User, Depends(lead)]
Owner = Annotated[User, Depends(owner)]
Person = Annotated[User, Depends(person)]


def address(request: Request) -> str:
    """The address that the connection comes from; headers that claim another are not believed."""
    return request.client.host if request.client else "unknown"


def slow_down(request: Request, *buckets: tuple[str, limits.Limit]) -> None:
    """Take one from each bucket, or answer 429."""
    with store_of(request).write() as connection:
        wait = max(limits.take(connection, key[:200], limit) for key, limit in buckets)
    if wait:
        raise Denied(429, f"too many attempts; try again in {int(wait) + 1} seconds", wait)
