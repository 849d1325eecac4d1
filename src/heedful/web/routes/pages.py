"""General pages: start, sign in, join, account, people, the description of the interface."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from sqlalchemy import func, select
from starlette.responses import RedirectResponse, Response

from heedful.errors import UserError
from heedful.store.membership import identities, invitations, rights
from heedful.store.membership.rights import Role
from heedful.store.tables.schema import rater
from heedful.web import proxy
from heedful.web.doors import Door
from heedful.web.respond import page
from heedful.web.security import (
    NOT_HERE,
    PAUSED,
    PAUSED_HERE,
    Denied,
    User,
    for_pages,
    identify,
    store_of,
)

router = APIRouter(route_class=Door, include_in_schema=False)


def visitor(request: Request) -> User | None:
    """The user who views a page, also for the templates. Not for tokens: their scopes say nothing of pages."""
    user = identify(request)
    if user is None or user.scopes is not None:
        request.state.user = None
        return None
    request.state.user = user
    if user.status != "active":
        raise Denied(403, PAUSED)
    request.state.user = for_pages(request, user)
    return request.state.user


def to_login(request: Request) -> Response:
    """To the login, and back afterwards."""
    return to(request, f"login?next={quote(request.url.path)}")


def to(request: Request, path: str) -> Response:
    """To another page, whatever stands before the paths of this site."""
    return RedirectResponse(proxy.root(request) + path, 303)


def not_leading(request: Request) -> Any:
    """The response for users who may not see a page of the workspace's leads; None for those who may."""
    user = visitor(request)
    if user is None:
        return to_login(request)
    return None if user.leads else not_yours(request, "This page is for leads.")


def not_yours(request: Request, text: str) -> Response:
    """A page that says why there is none."""
    return page(request, "message.html", status=403, title="Not yours", text=text)


def not_in_project(request: Request, project: str, least: Role) -> Any:
    """The response for users who are less than this in a project, or if there is none; None for the others."""
    user = visitor(request)
    if user is None:
        return to_login(request)
    with store_of(request).read() as connection:
        standing = rights.standing(connection, project, user.rater, user.role)
    if standing is None and (least == "rater" or user.leads):
        text = "There is no such project."
        return page(request, "message.html", status=404, title="Nothing here", text=text)
    if standing is not None and standing.may(least):
        return None
    if standing is not None and standing.paused:
        return not_yours(request, PAUSED_HERE[0].upper() + PAUSED_HERE[1:] + ".")
    if least == "rater":
        return not_yours(request, NOT_HERE["rater"][0].upper() + NOT_HERE["rater"][1:] + ".")
    return not_yours(request, "This page is for leads.")


@router.get("/")
def start(request: Request) -> Any:
    user = visitor(request)
    if user:
        return to(request, "lead" if user.leads or user.reviews else "rate")
    with store_of(request).read() as connection:
        owners = select(func.count()).select_from(rater).where(rater.c.role == "owner")
        if connection.execute(owners).scalar_one():
            return to(request, "login")
    return page(
        request,
        "message.html",
        title="Nobody is here yet",
        text="The terminal in which `heedful serve` runs shows a link that makes the owner's account.",
    )


@router.get("/login")
def login(request: Request) -> Any:
    user = identify(request)
    if user and user.scopes is None and user.status == "active":
        return to(request, "")
    return page(request, "login.html", sso=_sso(request, next=request.query_params.get("next", "")))


def _sso(request: Request, **query: str) -> str | None:
    """The way to the other server by which people sign in, if there is one."""
    return f"sso?{urlencode(query)}" if request.app.state.sso is not None else None


@router.get("/setup")
@router.get("/join")
def join(request: Request, token: str = "") -> Any:
    request.state.user = None
    owner = request.url.path == "/setup"
    try:
        with store_of(request).read() as connection:
            invitations.of_token(connection, token)
    except UserError as error:
        return page(request, "message.html", status=410, **_worthless(str(error), owner=owner))
    return page(request, "join.html", token=token, owner=owner, sso=_sso(request, invitation=token))


def _worthless(why: str, *, owner: bool) -> dict[str, str]:
    """What a link says by which nobody can make an account any more, before somebody has thought of a password."""
    if why == invitations.USED:
        return {
            "title": "This link has been used",
            "text": "It works once, and the owner's account has been made with it: sign in with that. For a new "
            "password, `heedful people reset LOGIN` in the terminal prints a link."
            if owner
            else "It works once, and an account has been made with it. If that is yours, sign in; if not, ask whoever "
            "sent you the link for another one.",
        }
    return {
        "title": "This link is not valid",
        "text": "The newest link that `heedful serve` has shown in the terminal makes the owner's account; there is "
        "none once somebody has it."
        if owner
        else "It has expired or was withdrawn, or a part of it is missing. Ask whoever sent you the link for another "
        "one.",
    }


@router.get("/reset")
def reset(request: Request, token: str = "") -> Any:
    request.state.user = None
    return page(request, "reset.html", token=token)


@router.get("/account")
def account(request: Request) -> Any:
    user = visitor(request)
    if user is None:
        return to_login(request)
    with store_of(request).read() as connection:
        connected = identities.linked(connection, user.rater)
    sso = _sso(request, connect="yes")
    return page(request, "account.html", sso=sso, connected=connected)


@router.get("/people")
def people(request: Request) -> Any:
    mails = request.app.state.mailer is not None
    return not_leading(request) or page(request, "people.html", mails=mails)


@router.get("/docs")
def docs(request: Request) -> Any:
    """The HTTP interface, as a list made from its OpenAPI description."""
    visitor(request)
    paths = request.app.openapi()["paths"]
    rows = [
        {
            "method": method.upper(),
            "path": path,
            "text": (operation.get("description") or operation.get("summary", "")).split("\n")[0],
            "tag": (operation.get("tags") or [""])[0],
        }
        for path, methods in paths.items()
        for method, operation in methods.items()
    ]
    return page(request, "docs.html", rows=rows)
