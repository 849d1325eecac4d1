"""Chat-then-compare: a rater speaks, two models reply, the better reply goes on.

Both replies leave the server together, when both are whole: which one is faster would tell which is which.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from heedful.errors import UserError
from heedful.store.database import limits
from heedful.store.database.db import Unavailable
from heedful.store.rating import talk
from heedful.store.rating.judging import Conflict
from heedful.web.doors import Door, terms
from heedful.web.render import to_html
from heedful.web.security import Denied, SignedIn, User, slow_down, still, store_of

router = APIRouter(route_class=Door, prefix="/api/assignments/{assignment_id}/turns", tags=["talk"])

TURNS = limits.Limit(20, 3.0)  # a turn costs two models' time
_replying: set[str] = set()  # assignments whose models are replying


class Said(BaseModel):
    said: str = Field(min_length=1, max_length=20_000)


class Choice(BaseModel):
    place: int
    strength: float | None = None


@router.post("", response_class=StreamingResponse)
@terms(body=300_000)
async def say(
    assignment_id: str, body: Said, request: Request, user: SignedIn
) -> StreamingResponse:
    """Server-sent events: `progress` {"tokens"}, then `offer` {"replies": [{text, html}, …]}, or `error` {"error"}."""
    store = store_of(request)

    def prepare() -> talk.Ready:
        slow_down(request, (f"talk:{user.rater}", TURNS))
        with store.read() as connection:
            return talk.ready(connection, assignment_id, user.rater, body.said)

    ready = await run_in_threadpool(prepare)
    if request.app.state.talk is None:
        raise UserError("this server has no models to talk to")
    if assignment_id in _replying:
        raise Conflict("the models are still replying")
    return StreamingResponse(
        _events(request, assignment_id, user, body.said, ready),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


@router.post("/choose")
def choose(assignment_id: str, body: Choice, request: Request, user: SignedIn) -> dict[str, int]:
    """The reply at `place` on the screen is better, and the conversation goes on with it."""
    with store_of(request).write() as connection:
        turns = talk.choose(connection, assignment_id, user.rater, body.place, body.strength)
    return {"turns": turns}


async def _events(
    request: Request, assignment_id: str, user: User, message: str, ready: talk.Ready
) -> AsyncIterator[bytes]:
    """Errors are events too: the status has been sent."""
    _replying.add(assignment_id)
    try:
        yield _event("progress", {"tokens": 0})
        seeds = [random.SystemRandom().randrange(2**31) for _ in ready.models]
        replies: list[dict[str, Any]] = []
        stream = request.app.state.talk.replies(
            ready.models,
            ready.messages,
            max_tokens=ready.max_tokens,
            temperature=ready.temperature,
            seeds=seeds,
        )
        async for event in stream:
            if isinstance(event, int):
                await run_in_threadpool(still, request, user)
                yield _event("progress", {"tokens": event})
            else:
                replies = event
        sampling = {"temperature": ready.temperature, "max_tokens": ready.max_tokens}
        candidates = [
            reply | {"model": model, "seed": seed, "sampling": sampling, "engine": "torch"}
            for reply, model, seed in zip(replies, ready.models, seeds, strict=True)
        ]

        def keep() -> list[str]:
            still(request, user)
            with store_of(request).write() as connection:
                return talk.offer(
                    connection, assignment_id, user.rater, ready.place, message, candidates
                )

        # Kept even if the page has gone by now: the same turn is there when it comes back.
        texts = await asyncio.shield(run_in_threadpool(keep))
        replies = await run_in_threadpool(lambda: [{"text": t, "html": to_html(t)} for t in texts])
        yield _event("offer", {"replies": replies})
    except (UserError, Conflict) as error:
        text = str(error)
        for model in ready.models:  # its name would unblind the rater
            text = re.sub(rf"(?<!\w){re.escape(model)}(?!\w)", "…", text)
        yield _event("error", {"error": text})
    except Denied as error:
        yield _event("error", {"error": error.sentence})
    except Unavailable:
        text = "the database cannot take this now; say it again"
        yield _event("error", {"error": text})
    finally:
        _replying.discard(assignment_id)


def _event(name: str, value: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(value)}\n\n".encode("ascii")
