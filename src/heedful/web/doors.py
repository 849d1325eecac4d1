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
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


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


class Door(APIRoute):
    """A route that asks who it is first, then reads; `APIRouter(route_class=Door)`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle, dependant = super().get_route_handler(), self.dependant
        # A coroutine takes no thread while it waits, and says itself where it does.
        writes = not (
            set(self.methods or ()) <= READS or inspect.iscoroutinefunction(self.endpoint)
        )
        usual = Terms(SMALL, "writes" if writes else None)
        for dependency in dependant.dependencies:
            _asks_for_the_request_alone(dependency)

        async def enter(request: Request) -> Response:
            allowed: Terms = getattr(self.endpoint, "terms", usual)
            if dependant.dependencies:
                await run_in_threadpool(_ask, dependant.dependencies, request)
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


def _ask(dependencies: list[Dependant], request: Request) -> dict[str, Any]:
    """What dependencies return, by the names under which they are asked for. They raise where they let nobody in."""
    values: dict[str, Any] = {}
    for one in dependencies:
        assert one.call and one.name
        given = _ask(one.dependencies, request)
        if one.request_param_name:
            given[one.request_param_name] = request
        values[one.name] = one.call(**given)
    return values


def _asks_for_the_request_alone(dependency: Dependant) -> None:
    """Raises `TypeError` for a dependency that could not be asked before the body is read."""
    more = (
        dependency.path_params, dependency.query_params, dependency.header_params, dependency.cookie_params,
        dependency.body_params, dependency.response_param_name, dependency.background_tasks_param_name,
    )  # fmt: skip
    if any(more) or inspect.iscoroutinefunction(dependency.call):
        raise TypeError(
            f"{dependency.call} must be no coroutine, and ask for the request and other dependencies alone"
        )
    for below in dependency.dependencies:
        _asks_for_the_request_alone(below)
