"""Signing in through another server (OpenID Connect): there, and back."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from secrets import compare_digest
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from heedful.errors import UserError
from heedful.store.membership import identities
from heedful.store.membership.identities import Claims
from heedful.web import cookies, proxy
from heedful.web.doors import Door
from heedful.web.respond import page
from heedful.web.routes.pages import to
from heedful.web.security import Denied, Person, identify, store_of
from heedful.web.sso import Provider, Way

router = APIRouter(route_class=Door)
COOKIE, SECONDS = "heedful_sso", 600
PATH = re.compile(
    r"/[A-Za-z0-9][^\\]*"
)  # of this site: "//elsewhere" and "/\\elsewhere" are other sites


@router.get("/sso", include_in_schema=False)
def begin(
    request: Request, invitation: str = "", next: str = "", connect: bool = False
) -> Response:
    """To the other server. With `connect` the identity there will open the account that is signed in here."""
    url, way = _provider(request).begin(_back(request))
    user = identify(request) if connect else None
    if connect and (user is None or user.scopes is not None):
        raise Denied(401, "sign in first")
    after = next[:300] if PATH.fullmatch(next) else ""
    kept = Kept(way, invitation[:200], user.rater if user else "", after)
    answer = RedirectResponse(url, 303)
    name, path = proxy.cookie(request, COOKIE)
    secure = proxy.public_url(request).startswith("https://")
    answer.set_cookie(
        name, kept.words(), SECONDS, path=path, secure=secure, httponly=True, samesite="lax"
    )
    return answer


@router.get("/sso/back", include_in_schema=False)
def back(request: Request, code: str = "", state: str = "", error: str = "") -> Any:
    """From the other server, with a code that only this browser can use."""
    provider, kept = _provider(request), _kept(request)
    try:
        if not kept or not compare_digest(kept.way.state.encode(), state.encode()):
            raise UserError(
                "this sign-in was not begun in this browser, or too long ago; try again"
            )
        if error or not code:
            raise UserError(f"the other server did not sign you in ({error[:60] or 'no code'})")
        claims = provider.finish(_back(request), code, kept.way)
        answer = (
            _connected(request, claims, kept)
            if kept.connect
            else _in(request, provider, claims, kept)
        )
    except UserError as problem:
        text = str(problem)
        answer = page(
            request,
            "message.html",
            status=400,
            title="Not signed in",
            text=text[0].upper() + text[1:] + ".",
        )
    cookies.forget(request, answer, COOKIE)
    return answer


@router.delete("/api/identity", tags=["people"])
def disconnect(request: Request, user: Person) -> dict[str, int]:
    """Only your password opens your account from now on; where you have none, ask your lead for a link first."""
    with store_of(request).write() as connection:
        return {"ended": identities.unlink(connection, user.rater, actor=user.rater)}


def _in(request: Request, provider: Provider, claims: Claims, kept: Kept) -> Response:
    answer = to(request, kept.next.removeprefix("/"))
    with store_of(request).write() as connection:
        account = identities.account_of(connection, claims)
        if account is not None and account.status != "active":
            raise UserError("your account is paused; ask who leads the project when you may go on")
        invitation = kept.invitation or None
        key = (
            account.id
            if account
            else identities.first_time(
                connection, claims, invitation=invitation, domains=provider.domains
            )
        )
        cookies.begin_session(connection, request, answer, key)
    return answer


def _connected(request: Request, claims: Claims, kept: Kept) -> Response:
    user = identify(request)
    if user is None or user.rater != kept.connect:
        raise UserError("you are not signed in here as who began this")
    with store_of(request).write() as connection:
        identities.link(connection, claims, user.rater)
    return to(request, "account")


def _provider(request: Request) -> Provider:
    if request.app.state.sso is None:
        raise Denied(404, "this server has no single sign-on")
    return request.app.state.sso


def _back(request: Request) -> str:
    return f"{proxy.public_url(request)}/sso/back"


@dataclass(frozen=True)
class Kept:
    """What the browser has kept since the person went there; it is theirs to change, so it is read with care."""

    way: Way
    invitation: str
    connect: str
    next: str

    def words(self) -> str:
        return json.dumps(asdict(self)).encode("ascii").hex()


def _kept(request: Request) -> Kept | None:
    try:
        said = json.loads(bytes.fromhex(cookies.read(request, COOKIE) or ""))
        kept = Kept(Way(**said.pop("way")), **said)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    values = (*vars(kept.way).values(), kept.invitation, kept.connect, kept.next)
    fits = all(isinstance(v, str) for v in values) and (not kept.next or PATH.fullmatch(kept.next))
    return kept if fits else None
