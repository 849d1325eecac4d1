"""The playground: whoever leads a project talks to a model, and a thumb for a reply is a judgment."""

from __future__ import annotations

import random
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from heedful.errors import UserError
from heedful.store.lead import playground
from heedful.store.membership import profiles
from heedful.store.project import projects
from heedful.web.doors import Door, terms
from heedful.web.playground import Reply
from heedful.web.render import to_html
from heedful.web.routes.talk import TURNS
from heedful.web.security import Lead, slow_down, still, store_of

router = APIRouter(route_class=Door, prefix="/api/projects/{project}/playground", tags=["lead"])


class Turn(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1, max_length=20_000)


class Say(BaseModel):
    model: str = Field(max_length=400)
    messages: list[Turn] = Field(min_length=1, max_length=200)
    for_me: bool = False


class Thumb(BaseModel):
    thumb: Literal[1, -1]


@router.post("")
@terms(body=5_000_000, lane=None)
async def say(project: str, body: Say, request: Request, user: Lead) -> dict[str, str | None]:
    """The model's reply to the conversation, {reply, text, html}: sampled as the project's conversations are; `for_me`
    behind your own profile in this project, and then without a `reply` to judge, since nobody else is to read it."""

    def prepare() -> tuple[projects.Settings, dict[str, Any] | None]:
        request.app.state.models.refuse([body.model])
        slow_down(request, (f"talk:{user.rater}", TURNS))
        with store_of(request).read() as connection:
            mine = profiles.of(connection, project, user.rater) if body.for_me else None
            return projects.settings_of(connection, project), mine

    settings, mine = await run_in_threadpool(prepare)
    talk = request.app.state.talk
    if talk is None:
        raise UserError("this server has no models to talk to")
    messages = [{"role": m.role, "content": m.content} for m in body.messages]
    if body.for_me and mine is None:
        raise UserError(
            "you have no profile here: answer questions, or write one under Your answers"
        )
    if mine:
        messages = [{"role": "system", "content": mine["sentence"]}, *messages]
    if messages[-1]["role"] != "user":
        raise UserError("the last message must be the user's: a model replies to it")
    how = {"max_tokens": settings.talk_tokens, "temperature": settings.talk_temperature}
    seed = random.SystemRandom().randrange(2**31)
    told: dict[str, Any] = {}
    async for event in talk.replies([body.model], messages, seeds=[seed], **how):
        if isinstance(event, int):
            await run_in_threadpool(still, request, user)
        else:
            (told,) = event
    origin = {
        "model": body.model, "token_ids": told["tokens"], "logprobs": told["logprobs"], "sampling": how,
        "seed": seed, "finish_reason": told["finish_reason"], "engine": "torch",
    }  # fmt: skip
    reply = Reply(project, user.rater, messages, told["text"], origin)
    key = None if mine else request.app.state.played.add(reply)
    return {"reply": key, "text": reply.text, "html": to_html(reply.text)}


@router.put("/{reply}")
def thumb(project: str, reply: str, body: Thumb, request: Request, user: Lead) -> dict[str, int]:
    """Thumb up (1) or down (-1) for a reply: kept as a judgment of the kind thumbs, from which `kto` and `bco` learn.

    Another thumb turns it: a new revision.
    """
    given = request.app.state.played.of(reply, project, user.rater)
    with store_of(request).write() as connection:
        if given.lease is None:
            lease = playground.judge(
                connection,
                project,
                user.rater,
                given.messages,
                given.text,
                given.origin,
                body.thumb,
            )
        else:
            lease = given.lease
            playground.turn(connection, lease, user.rater, body.thumb)
    given.lease = lease  # once it is committed
    return {"thumb": body.thumb}
