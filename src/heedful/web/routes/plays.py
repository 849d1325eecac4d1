"""Playing environments: a rater's turn; and for leads, asking for plays and which of two is better."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from heedful.store.intake import plays as asking
from heedful.store.project import projects
from heedful.store.rating import plays
from heedful.store.rating.judging import Conflict
from heedful.web.doors import Door, terms
from heedful.web.episodes import response_html
from heedful.web.routes.talk import TURNS
from heedful.web.security import Lead, SignedIn, slow_down, still, store_of

router = APIRouter(route_class=Door, tags=["plays"])
P = "/api/projects/{project}/plays"
Overlap = Annotated[int, Field(ge=1, le=100)]
_going: set[str] = set()  # assignments whose environment is being asked


class Said(BaseModel):
    said: str | None = Field(None, min_length=1, max_length=20_000)


class Wanted(BaseModel):
    env: str = Field(max_length=400)
    tasks: int = Field(20, ge=1, le=1000)
    first: int = Field(1, ge=1, lt=2**31)
    overlap: Overlap = 1
    max_turns: int = Field(8, ge=1, le=1000)


class Compared(BaseModel):
    overlap: Overlap = 1


@router.post("/api/assignments/{assignment_id}/play")
@terms(body=300_000)
async def play(assignment_id: str, body: Said, request: Request, user: SignedIn) -> dict[str, Any]:
    """Say something in the environment, or without `said` look at where it stands: {turns, html: all that was said and
    heard since the prompt, tools: [{name, arguments, description}], over, reward: once it is}."""

    def prepare() -> plays.Ready:
        slow_down(request, (f"talk:{user.rater}", TURNS))
        with store_of(request).read() as connection:
            return plays.ready(connection, assignment_id, user.rater, body.said)

    ready = await run_in_threadpool(prepare)
    if ready.last and "play" in ready.last:
        return _told(len(ready.said), ready.last)
    if assignment_id in _going:
        raise Conflict("the environment is still answering")
    _going.add(assignment_id)
    try:
        said = [*ready.said, *([] if body.said is None else [body.said])]
        about = {"play": assignment_id, "prompt": ready.prompt, "said": said, **ready.options}
        led = await request.app.state.plays.ask(**about)
        if body.said is not None:
            # Kept even if the page has gone by now: the same turn is there when it comes back.
            keep = run_in_threadpool(_keep, request, user, assignment_id, body.said, ready, led)
            await asyncio.shield(keep)
    finally:
        _going.discard(assignment_id)
    return _told(len(said), led)


def _keep(
    request: Request, user: Any, key: str, said: str, ready: plays.Ready, led: dict[str, Any]
) -> None:
    still(request, user)
    kept = {name: led[name] for name in ("text", "log", "play") if name in led}
    if "play" not in kept:
        kept.pop("log")  # of the whole of it, which the last turn alone need have
    with store_of(request).write() as connection:
        plays.keep(connection, key, user.rater, len(ready.said), said, kept)


def _told(turns: int, led: Mapping[str, Any]) -> dict[str, Any]:
    over, tools = "play" in led, [tool["function"] for tool in led.get("tools", ())]
    return {
        "turns": turns,
        "html": response_html(led["log"], {"whole": True}) if led["log"] else "",
        "tools": [
            {
                "name": str(tool["name"]),
                "arguments": [*tool.get("parameters", {}).get("properties", {})],
                "description": str(tool.get("description", "")),
            }
            for tool in tools
        ],
        "over": over,
        "reward": led["play"]["episode"]["reward"] if over else None,
    }


@router.get(P)
def offered(project: str, request: Request, _user: Lead) -> dict[str, Any]:
    """{envs}: the environments that people can be asked to play here."""
    with store_of(request).read() as connection:
        projects.settings_of(connection, project)
    return {"envs": [*request.app.state.plays.names]}


@router.post(P, status_code=201)
@terms(lane=None)
async def ask(project: str, body: Wanted, request: Request, _user: Lead) -> dict[str, int]:
    """{tasks}: how many questions are new, each of which asks to play one of the environment's own tasks."""
    store = store_of(request)
    await run_in_threadpool(offered, project, request, _user)  # whether there is such a project
    asked = {"seed": 0, "first": body.first, "tasks": body.tasks}
    led = await request.app.state.plays.ask(body.env, **asked)
    how = {"first": body.first, "overlap": body.overlap, "max_turns": body.max_turns}
    new = await run_in_threadpool(
        lambda: asking.ask(store, project, body.env, led["prompts"], **how)
    )
    return {"tasks": new}


@router.post(f"{P}/compare", status_code=201)
def compare(project: str, body: Compared, request: Request, _user: Lead) -> dict[str, int]:
    """{tasks}: how many questions are new, each of which asks which of two plays of one task is better."""
    with store_of(request).read() as connection:
        projects.settings_of(connection, project)
    return {"tasks": asking.compare(store_of(request), project, overlap=body.overlap)}
