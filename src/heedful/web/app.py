"""The application: routes, what errors become, and headers on every answer."""

from __future__ import annotations

import importlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from heedful import __version__, disk
from heedful.disk import DiskError
from heedful.errors import UserError
from heedful.store.database.db import Store, Unavailable
from heedful.store.rating.judging import Conflict
from heedful.web import examples
from heedful.web.bodies import BODY, Incoming
from heedful.web.figures import Counting, Figures
from heedful.web.mail import Mailer
from heedful.web.models import Models
from heedful.web.playground import Replies
from heedful.web.plays import Plays
from heedful.web.proxy import Prefix, networks
from heedful.web.respond import HEADERS, HERE, Json, page, sentence
from heedful.web.security import Denied
from heedful.web.sso import Provider
from heedful.web.tallies import Tallies

ROUTES = (
    "pages",
    "people",
    "access",
    "sso",
    "invitations",
    "members",
    "rate",
    "consent",
    "profiles",
    "jobs",
    "lead",
    "questions",
    "reliability",
    "runs",
    "talk",
    "plays",
    "probes",
    "playground",
    "transfer",
    "hooks",
)
RETRY = {"Retry-After": "2"}
log = logging.getLogger("heedful")


def create_app(
    store: Store,
    *,
    workspace: Path | None = None,
    talk: Any = None,
    base_url: str | None = None,
    trusted_proxies: Sequence[str] = (),
    models: Models | None = None,
    plays: Plays | None = None,
    mailer: Mailer | None = None,
    sso: Provider | None = None,
    allow_private_webhooks: bool = False,
    counts_apart: bool = False,
) -> FastAPI:
    """The raters' app on an open store. `talk` answers in tasks of the kind chat (see web.talk); `base_url` is the
    address that people type, whose path the proxy may take off or pass on; `models` are what a lead may name for it,
    `plays` the environments that people may play; `counts_apart`: the workspace's figures in a process of their own."""
    app = FastAPI(
        title="heedful",
        version=__version__,
        description="People compare, rank, edit and criticise what models say.",
        default_response_class=Json,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,  # to an address that leaves out what a proxy has taken off
        lifespan=_lifespan,
    )
    app.state.store, app.state.workspace, app.state.talk = store, workspace, talk
    app.state.mailer, app.state.sso, app.state.played = mailer, sso, Replies()
    app.state.base_url, app.state.allow_private_webhooks = base_url, allow_private_webhooks
    app.state.tallies = Tallies(workspace)
    counting = Counting(store, app.state.tallies)
    app.state.figures = Figures(counting, workspace if counts_apart else None)
    app.state.proxies, app.state.models = networks(trusted_proxies), models or Models(workspace)
    app.state.plays = plays or Plays()
    for name in ROUTES:
        app.include_router(importlib.import_module(f"heedful.web.routes.{name}").router)
    describe = app.openapi
    app.openapi = lambda: examples.into(describe())
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    _errors(app)
    app.add_middleware(Guard)
    if prefix := urlsplit(base_url or "").path:
        app.add_middleware(Prefix, prefix=prefix)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    from heedful.web.deliver import Deliverer

    deliverer = Deliverer(app.state.store, allow_private=app.state.allow_private_webhooks)
    deliverer.start()
    try:
        yield
    finally:
        deliverer.stop()
        if app.state.talk is not None:
            await app.state.talk.close()
        await app.state.plays.close()
        await app.state.figures.close()


def _errors(app: FastAPI) -> None:
    # Coroutines: others would need a thread, of which there may be none left when this is what is to be said.
    @app.exception_handler(UserError)
    async def _(_request: Request, error: UserError) -> Json:
        return sentence(str(error), 400)

    @app.exception_handler(Denied)
    async def _(request: Request, error: Denied) -> Any:
        headers = {"Retry-After": str(int(error.wait) + 1)} if error.wait else None
        if error.status in (401, 403) and "text/html" in request.headers.get("accept", ""):
            title = "Sign in" if error.status == 401 else "Not allowed"
            return page(
                request, "message.html", status=error.status, title=title, text=error.sentence
            )
        return sentence(error.sentence, error.status, headers)

    @app.exception_handler(Conflict)
    async def _(_request: Request, error: Conflict) -> Json:
        return sentence(str(error), 409)

    @app.exception_handler(Unavailable)
    async def _(_request: Request, error: Unavailable) -> Json:
        return sentence(
            "the database cannot take this now; nothing was lost, try again", 503, RETRY
        )

    @app.exception_handler(DiskError)
    @app.exception_handler(OSError)
    async def _(_request: Request, error: Exception) -> Json:
        if isinstance(error, OSError) and disk.trouble(error) is None:
            raise error
        log.error("%s", error)
        return sentence("the disk cannot take this now; nothing was lost, try again", 503, RETRY)

    @app.exception_handler(DataError)
    async def _(_request: Request, _error: DataError) -> Json:
        # Such as an id with NUL, which PostgreSQL refuses in any query.
        return sentence("the request holds a value that the database cannot take", 400)

    @app.exception_handler(sqlite3.OperationalError)
    async def _(_request: Request, error: sqlite3.OperationalError) -> Json:
        return sentence(
            "the database cannot take this now; nothing was lost, try again", 503, RETRY
        )

    @app.exception_handler(RequestValidationError)
    async def _(_request: Request, error: RequestValidationError) -> Json:
        first = error.errors()[0]
        location = ".".join(str(p) for p in first["loc"] if p != "body")
        return sentence(f"{location or 'the request'}: {first['msg']}", 422)

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> Any:
        if error.status_code == 404 and "text/html" in request.headers.get("accept", ""):
            return page(
                request,
                "message.html",
                status=404,
                title="Nothing here",
                text="There is no such page.",
            )
        return sentence(str(error.detail), error.status_code, dict(error.headers or {}))


class Guard:
    """Adds security headers to every response, errors included, and counts what arrives (`web.bodies`)."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        extra = dict(HEADERS)
        if not scope["path"].startswith("/static/"):
            extra["Cache-Control"] = "no-store"
        body = scope[BODY] = Incoming(scope["headers"], receive)

        async def guarded_send(message: Any) -> None:
            if message["type"] == "http.response.start":
                body.answered = True
                present = {k.lower() for k, _ in message["headers"]}
                # Who still sends what nobody will read is not read to the end: the connection closes.
                closing = {"Connection": "close"} if body.unread else {}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (k.lower().encode(), v.encode())
                        for k, v in (extra | closing).items()
                        if k.lower().encode() not in present
                    ),
                ]
            await send(message)

        try:
            await self.app(scope, body.receive, guarded_send)
        except Exception:
            if not body.answered:
                text = "the server failed; its log says why"
                await sentence(text, 500)(scope, receive, guarded_send)
            raise
