"""The cookies of a session and of a known browser."""

from __future__ import annotations

from fastapi import Request, Response
from sqlalchemy import Connection

from heedful.store.membership import access, people
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
    if device := access.remember_device(connection, rater, read(request, DEVICE)):
        _keep(request, response, DEVICE, device, access.DEVICE_DAYS)
    return csrf


def read(request: Request, cookie: str) -> str | None:
    """What the browser keeps."""
    return request.cookies.get(proxy.cookie(request, cookie)[0])


def forget(request: Request, response: Response, cookie: str) -> None:
    """Have the browser keep it no longer."""
    name, path = proxy.cookie(request, cookie)
    response.delete_cookie(name, path=path)


def _keep(request: Request, response: Response, cookie: str, token: str, days: int) -> None:
    name, path = proxy.cookie(request, cookie)
    response.set_cookie(
        name,
        token,
        max_age=int(days * people.DAY),
        path=path,
        httponly=True,
        samesite="lax",
        secure=proxy.public_url(request).startswith("https://"),
    )
