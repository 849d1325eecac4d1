"""Authentication and authorisation of requests.

People have a session cookie, scripts an API token. The browser sends a cookie with any site's requests, so with a
cookie every write also needs the session's CSRF token and the right origin.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from sqlalchemy import Connection

from heedful.errors import Unavailable
from heedful.store.database import limits
from heedful.store.database.db import Store
from heedful.store.membership import people, rights
from heedful.store.membership.rights import Role
from heedful.web import proxy
from heedful.web.doors import first

COOKIE = "heedful_session"
DEVICE = "heedful_device"  # a browser from which somebody has signed in before
PAUSED = "your account is paused; ask who leads the project when you may go on"
PAUSED_HERE = "you are paused in this project; ask who leads it when you may go on"
NOT_HERE = {
    "rater": "this project is open to its members only; ask who leads it",
    "reviewer": "only who reviews or leads this project may do this",
    "lead": "only a lead of this project may do this",
}
SAFE = ("GET", "HEAD", "OPTIONS")
_touching = threading.Lock()


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
    status: str = "active"
    reviews: bool = False  # for the pages: leads or reviews some project, though not all of them

    @property
    def leads(self) -> bool:
        """The workspace; a project's lead need not."""
        return self.role in ("lead", "owner")

    def may(self, scope: str) -> bool:
        return self.scopes is None or scope in self.scopes


def store_of(request: Request) -> Store:
    return request.app.state.store


def same_site(request: Request) -> None:
    """Refuse a write that another site's page has made the browser send, signing in included.

    What a browser says of the site itself no proxy changes; older ones, and pages over plain HTTP, name an origin only.
    """
    site = request.headers.get("sec-fetch-site")
    if site in ("cross-site", "same-site"):
        raise Denied(403, "this request comes from another site")
    origin = request.headers.get("origin") or request.headers.get("referer")
    if origin is None or site == "same-origin":
        return
    hosts = {request.headers.get("host", ""), urlsplit(proxy.public_url(request)).netloc}
    try:
        is_ours = origin != "null" and urlsplit(origin).netloc in hosts
    except ValueError:  # such as http://[
        is_ours = False
    if not is_ours:
        raise Denied(403, "this request comes from another site")


def identify(request: Request) -> User | None:
    """The user with a valid session or token, or None; for pages, which redirect to the login."""
    store, address = store_of(request), proxy.shortened(proxy.address(request))
    header = request.headers.get("authorization", "")
    if header:
        kind, _, secret = header.partition(" ")
        with store.read() as connection:
            row, stale = people.token_of(connection, secret.strip())
        if kind.lower() != "bearer" or row is None:
            return None
        if stale:
            _touch(store, lambda c: people.touch_token(c, row.id, address))
        scopes = frozenset(row.scopes)
        return User(row.rater, row.pseudonym, row.role, scopes, status=row.status)
    token = request.cookies.get(proxy.cookie(request, COOKIE)[0])
    if not token:
        return None
    with store.read() as connection:
        session, stale = people.find_session(connection, token)
    if session is None:
        return None
    if stale:
        _touch(store, lambda c: people.touch(c, token, address))
    status = session.status
    return User(session.rater, session.pseudonym, session.role, None, session.csrf, status)


def _touch(store: Store, work: Callable[[Connection], None]) -> None:
    """Write that somebody is still there; one at a time, since who only reads must not wait for those who write."""
    if _touching.acquire(blocking=False):
        try:
            with suppress(Unavailable), store.write() as connection:
                work(connection)
        finally:
            _touching.release()


def anybody(request: Request) -> User:
    """Who has signed in, also while the account is paused: to see that it is, and to sign out."""
    user = identify(request)
    if user is None:
        raise Denied(401, "sign in first")
    if user.scopes is not None and user.status != "active":
        raise Denied(403, PAUSED)
    if user.csrf is not None and request.method not in SAFE:
        same_site(request)
        if request.headers.get("x-csrf-token") != user.csrf:
            raise Denied(403, "the CSRF token is missing or wrong; reload the page")
    return user


def current_user(request: Request) -> User:
    """Anybody who is signed in and not paused, whatever their token's scopes."""
    user = anybody(request)
    if user.status != "active":
        raise Denied(403, PAUSED)
    return user


def still(request: Request, user: User) -> None:
    """`Denied` where meanwhile the session or the token has ended, or the person was paused or leads no more.

    For requests that take long: what was allowed when they began need not be when they give something out.
    """
    now = identify(request)
    if now is None or now.rater != user.rater:
        raise Denied(401, "sign in first")
    if now.status != "active":
        raise Denied(403, PAUSED)
    for least in getattr(request.state, "asked", ()):
        _admit(request, now, least)


def signed_in(request: Request) -> User:
    """Reads need the scope `read`, answers `rate`; whoever an address's project is not open to is refused."""
    user = current_user(request)
    need = "read" if request.method in SAFE else "rate"
    if not user.may(need) and not (need == "read" and user.may("rate")):
        raise Denied(403, f"this token lacks the scope {need}")
    return _asked(request, user, "rater")


def lead(request: Request) -> User:
    """A lead of the project that the address speaks of, or of the workspace where it speaks of none; a token needs
    `lead` to change things, `read` to look."""
    return _scoped(request, _asked(request, current_user(request), "lead"))


def reviewer(request: Request) -> User:
    """Who judges what raters disagree on, and whoever leads."""
    return _scoped(request, _asked(request, current_user(request), "reviewer"))


def lead_somewhere(request: Request) -> User:
    """A lead of the workspace, or of some project."""
    return _scoped(request, _in_some_project(request, current_user(request), "lead"))


def reviewer_somewhere(request: Request) -> User:
    """Whoever leads or reviews at least one project."""
    return _scoped(request, _in_some_project(request, current_user(request), "reviewer"))


def _scoped(request: Request, user: User) -> User:
    need = "read" if request.method in SAFE else "lead"
    if not user.may(need) and not user.may("lead"):
        raise Denied(403, f"this token lacks the scope {need}")
    return user


def _in_some_project(request: Request, user: User, least: Role) -> User:
    if not (user.leads or roles_of(request, user, least)):
        raise Denied(403, "only a lead may do this")
    return user


def roles_of(request: Request, user: User, least: Role = "rater") -> dict[str, Role]:
    """The projects in which somebody is at least this, by id, with what they are there."""
    with store_of(request).read() as connection:
        return rights.everywhere(connection, user.rater, user.role, least=least)


def _asked(request: Request, user: User, least: Role) -> User:
    """Admitted; `still` asks once more."""
    _admit(request, user, least)
    request.state.asked = [*getattr(request.state, "asked", ()), least]
    return user


def _admit(request: Request, user: User, least: Role) -> None:
    """`Denied` for who is less than this in the project that the address speaks of; where it speaks of none, or of
    something that is not there, for who does not lead the workspace, unless anybody may."""
    with store_of(request).read() as connection:
        key = rights.project_of(connection, request.path_params)
        standing = key and rights.standing(connection, key, user.rater, user.role)
    if not standing:
        if least != "rater" and not user.leads:
            raise Denied(403, "only a lead may do this")
    elif standing.paused:
        raise Denied(403, PAUSED_HERE)
    elif not standing.may(least):
        raise Denied(403, NOT_HERE["rater" if standing.role is None else least])


def for_pages(request: Request, user: User) -> User:
    """The user with what the pages' navigation depends on."""
    return user if user.leads else replace(user, reviews=bool(roles_of(request, user, "reviewer")))


def owner(request: Request) -> User:
    """Owners only."""
    user = lead(request)
    if user.role != "owner":
        raise Denied(403, "only an owner may do this")
    return user


def person(request: Request) -> User:
    """A session, not a token: tokens cannot change their own account."""
    user = current_user(request)
    if user.scopes is not None:
        raise Denied(403, "this needs a person who is signed in, not a token")
    return user


# What a route asks for; asked by its door, before a body is read.
Anybody = Annotated[User, Depends(first(anybody))]
CurrentUser = Annotated[User, Depends(first(current_user))]
SignedIn = Annotated[User, Depends(first(signed_in))]
Lead = Annotated[User, Depends(first(lead))]
Reviewer = Annotated[User, Depends(first(reviewer))]
LeadSomewhere = Annotated[User, Depends(first(lead_somewhere))]
ReviewerSomewhere = Annotated[User, Depends(first(reviewer_somewhere))]
Owner = Annotated[User, Depends(first(owner))]
Person = Annotated[User, Depends(first(person))]


def slow_down(request: Request, *buckets: limits.Bucket) -> None:
    """Take one from each bucket, or answer 429."""
    with store_of(request).write() as connection:
        wait = limits.take_all(connection, buckets)
    refuse(wait)


def refuse(wait: float) -> None:
    """429 where somebody has to wait so many seconds."""
    if wait:
        raise Denied(429, f"too many attempts; try again in {int(wait) + 1} seconds", wait)
