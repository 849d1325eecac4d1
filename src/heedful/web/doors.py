"""Routes that let a request in before they read what it sends.

FastAPI reads and parses a body first and asks its dependencies afterwards: whoever is nobody would have the server
read megabytes. Here a route's dependencies come first, who it is and what they may; then the body, as much as the
route declares; then a place in a lane, if others have to wait for what it does; and then FastAPI.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from heedful.web import lanes
from heedful.web.bodies import BODY, SMALL, BoundedRequest

READS = {"GET", "HEAD", "OPTIONS"}
ANSWERED = "heedful.answered"  # in a request's scope: what was asked first, and the answers
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
T = TypeVar("T")


@dataclass(frozen=True)
class Terms:
    """What a route allows: bytes of a body, and the lane in which it works."""

    body: int = SMALL
    lane: lanes.Name | None = None


def terms(body: int = SMALL, lane: lanes.Name | None = "writes") -> Callable[[Endpoint], Endpoint]:
    """Declare a route's terms, beside it. Without them a body is small, and what writes is in the lane of writes."""

    def declare(endpoint: Endpoint) -> Endpoint:
        endpoint.terms = Terms(body, lane)  # type: ignore[attr-defined]
        return endpoint

    return declare


def first(ask: Callable[[Request], T]) -> Callable[[Request], Coroutine[Any, Any, T]]:
    """A dependency that is asked before a body is read, in a thread, and raises where it lets nobody in; FastAPI is
    given what it has said."""

    async def answered(request: Request) -> T:
        return request.scope[ANSWERED][ask]

    answered.ask = ask  # type: ignore[attr-defined]
    return answered


class Door(APIRoute):
    """A route that asks who it is first, then reads; `APIRouter(route_class=Door)`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        asks = [_asked_first(dependency) for dependency in self.dependant.dependencies]
        # A coroutine takes no thread while it waits, and says itself where it does.
        writes = not (
            set(self.methods or ()) <= READS or inspect.iscoroutinefunction(self.endpoint)
        )
        usual = Terms(SMALL, "writes" if writes else None)

        async def enter(request: Request) -> Response:
            allowed: Terms = getattr(self.endpoint, "terms", usual)
            if asks:
                request.scope[ANSWERED] = await run_in_threadpool(
                    lambda: {ask: ask(request) for ask in asks}
                )
            request.scope[BODY].limit = allowed.body
            let_in = BoundedRequest(request.scope, request.receive)
            if self.body_field is not None:
                try:
                    await (
                        let_in.body()
                    )  # before the lane: whoever sends slowly takes nobody's place
                except ClientDisconnect:
                    raise HTTPException(400, "the body did not arrive") from None
            async with lanes.place(allowed.lane) if allowed.lane else nullcontext():
                return await handle(let_in)

        return enter


def _asked_first(dependency: Dependant) -> Callable[[Request], Any]:
    """What a dependency asks; `TypeError` for one that was not made by `first`."""
    try:
        return dependency.call.ask  # type: ignore[union-attr]
    except AttributeError:
        raise TypeError(
            f"{dependency.call} could not be asked before the body is read; see doors.first"
        ) from None
