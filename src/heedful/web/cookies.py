"""The cookies of a session and of a known browser."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import Request, Response
from sqlalchemy import Connection

from heedful.store import access, people
from heedful.web import proxy
from heedful.web.security import COOKIE, DEVICE


def begin_session(connection: Connection, request: Request, response: Response, rater: str) -> str:
    """Sign somebody in, in this browser, which is known from now on; returns the CSRF token."""
    token, csrf = people.begin_session(
        connection,
        rater,
        user_agent=request.headers.get("user-agent"),
        address=proxy.shortened(proxy.address(request)),
    )
    _keep(request, response, COOKIE, token, people.SESSION_DAYS)
    if device := access.remember_device(connection, rater, request.cookies.get(DEVICE)):
        _keep(request, response, DEVICE, device, access.DEVICE_DAYS)
    return csrf


def path(request: Request) -> str:
    """The path prefix of `--url`, if it has one: another program may have the rest of the site."""
    return urlsplit(request.app.state.base_url or "").path or "/"


def _keep(request: Request, response: Response, name: str, token: str, days: int) -> None:
    response.set_cookie(
        name,
        token,
        max_age=int(days * people.DAY),
        path=path(request),
        httponly=True,
        samesite="lax",
        secure=proxy.public_url(request).startswith("https://"),
    )
