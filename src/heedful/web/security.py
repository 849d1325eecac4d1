"""Who asks, and whether they may.

A person comes with a session cookie, a script with an API token. A cookie is sent by the browser whoever made the
request, so that with a cookie every write needs the session's CSRF token besides, and the right origin.
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
class Who:
    """Somebody who has shown who they are; `scopes` limits what an API token may do."""

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
    said = request.headers.get("origin") or request.headers.get("referer")
    if said is None:
        return
    own = {request.headers.get("host", "")}
    if base := request.app.state.base_url:
        own.add(urlsplit(base).netloc)
    try:
        ours = said != "null" and urlsplit(said).netloc in own
    except ValueError:  # such as http://[
        ours = False
    if not ours:
        raise Denied(403, "this request comes from another site")


def look(request: Request) -> Who | None:
    """Who asks, if they say so rightly; for pages, which send strangers to the login."""
    store = store_of(request)
    header = request.headers.get("authorization", "")
    if header:
        kind, _, secret = header.partition(" ")
        with store.read() as connection:
            row = people.token_of(connection, secret.strip())
        if kind.lower() != "bearer" or row is None:
            return None
        return Who(row.rater, row.pseudonym, row.role, frozenset(row.scopes))
    token = request.cookies.get(COOKIE)
    if not token:
        return None
    with store.read() as connection:
        found, stale = people.who(connection, token)
    if found is None:
        return None
    if stale:
        with store.write() as connection:
            people.touch(connection, token)
    return Who(found.rater, found.pseudonym, found.role, None, found.csrf)


def known(request: Request) -> Who:
    """Anybody who is signed in, whatever their token's scopes."""
    who = look(request)
    if who is None:
        raise Denied(401, "sign in first")
    if who.csrf is not None and request.method not in SAFE:
        same_site(request)
        if request.headers.get("x-csrf-token") != who.csrf:
            raise Denied(403, "the CSRF token is missing or wrong; reload the page")
    request.state.who = who
    return who


Known = Annotated[Who, Depends(known)]


def signed_in(request: Request, who: Known) -> Who:
    """Reads need the scope `read`, answers `rate`."""
    need = "read" if request.method in SAFE else "rate"
    if not who.may(need) and not (need == "read" and who.may("rate")):
        raise Denied(403, f"this token lacks the scope {need}")
    return who


def lead(request: Request, who: Known) -> Who:
    """Leads and owners; a token needs `lead` to change things, `read` to look."""
    if not who.leads:
        raise Denied(403, "only a lead may do this")
    need = "read" if request.method in SAFE else "lead"
    if not who.may(need) and not who.may("lead"):
        raise Denied(403, f"this token lacks the scope {need}")
    return who


def owner(who: Annotated[Who, Depends(lead)]) -> Who:
    """Owners only."""
    if who.role != "owner":
        raise Denied(403, "only an owner may do this")
    return who


def person(who: Known) -> Who:
    """Somebody at a screen: an account's own affairs are not for tokens."""
    if who.scopes is not None:
        raise Denied(403, "this needs a person who is signed in, not a token")
    return who


SignedIn = Annotated[Who, Depends(signed_in)]
Lead = Annotated[Who, Depends(lead)]
Owner = Annotated[Who, Depends(owner)]
Person = Annotated[Who, Depends(person)]


def address(request: Request) -> str:
    """The address that the connection comes from; headers that claim another are not believed."""
    return request.client.host if request.client else "unknown"


def slow_down(request: Request, *buckets: tuple[str, limits.Limit]) -> None:
    """Take one from each bucket, or answer 429."""
    with store_of(request).write() as connection:
        wait = max(limits.take(connection, key[:200], limit) for key, limit in buckets)
    if wait:
        raise Denied(429, f"too many attempts; try again in {int(wait) + 1} seconds", wait)
