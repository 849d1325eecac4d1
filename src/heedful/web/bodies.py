"""What a request may send: how many bytes, how slowly, and as JSON how many values and how deep.

Nobody reads a body before its route has let the request in (`web.doors`), and nothing reads on once it is too much.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from heedful.data.bounds import shape

BODY = "heedful.body"  # where a request's `Incoming` is in its scope
SMALL = 64_000  # bytes of a body where its route declares nothing else
GRACE, RATE = 15.0, 16_000  # a body may take so many seconds, and one more for so many bytes of it
MAX_VALUES, MAX_DEPTH = 20_000, 32  # of a JSON body
QUICK = 16_000  # bytes of JSON that are parsed at once; more in a thread, so that others are answered meanwhile

Receive = Callable[[], Awaitable[Any]]


class TooLong(HTTPException):
    """The body is too long. An `HTTPException`, the only kind that FastAPI lets pass while it reads a body."""

    def __init__(self, limit: int):
        super().__init__(413, f"the body is longer than {limit} bytes")


class Incoming:
    """A request's body as it arrives; `limit` is what its route allows."""

    def __init__(self, headers: list[tuple[bytes, bytes]], receive: Receive):
        self.limit = SMALL
        self.answered = False  # the response has begun: it is too late to refuse anything
        self._receive, self._received, self._began = receive, 0, 0.0
        self._refused = False
        named = {k.lower(): v for k, v in headers}
        declared = named.get(b"content-length", b"0")
        # What is no number, or one that no body can have, counts as too long.
        self._declared = int(declared) if declared.isdigit() and len(declared) < 18 else math.inf
        self._chunked = b"transfer-encoding" in named
        self.ended = False

    @property
    def unread(self) -> bool:
        """More may come than one would read only to have the connection for the next request."""
        return not self.ended and (self._refused or self._chunked or self._declared > SMALL)

    async def receive(self) -> Any:
        """The next message of ASGI. Raises `TooLong`, or an `HTTPException` where it comes too slowly."""
        if self.ended:
            return await self._receive()
        if self._declared > self.limit:
            return self._refuse(TooLong(self.limit))
        clock = asyncio.get_running_loop().time
        self._began = self._began or clock()
        try:
            async with asyncio.timeout_at(self._began + GRACE + self._received / RATE):
                message = await self._receive()
        except TimeoutError:
            return self._refuse(HTTPException(408, "the body arrives too slowly"))
        if message["type"] != "http.request":
            self.ended = True
            return message
        self._received += len(message.get("body", b""))
        if self._received > self.limit:
            return self._refuse(TooLong(self.limit))
        self.ended = not message.get("more_body", False)
        return message

    def _refuse(self, error: HTTPException) -> Any:
        self._refused = True
        if self.answered:
            return {"type": "http.disconnect"}
        raise error


class BoundedRequest(Request):
    """A request whose JSON is bounded, and parsed in a thread where that takes a while."""

    async def json(self) -> Any:
        """Raises `HTTPException` where there are too many values, too deep, or no JSON at all."""
        if not hasattr(self, "_value"):
            body = await self.body()
            self._value = (
                parsed(body) if len(body) <= QUICK else await run_in_threadpool(parsed, body)
            )
        return self._value


def parsed(body: bytes) -> Any:
    """The JSON of a body: finite numbers, whole ones of 64 bits, at most `MAX_VALUES` values, `MAX_DEPTH` deep."""
    found = shape(body, MAX_DEPTH)
    if found.values > MAX_VALUES:
        raise HTTPException(413, f"the body holds more than {MAX_VALUES} values")
    if found.depth > MAX_DEPTH:
        raise HTTPException(422, f"the body is nested more than {MAX_DEPTH} deep")
    try:
        text = body.decode("utf-8", "surrogatepass")
        return json.loads(text, parse_float=_finite, parse_int=_whole, parse_constant=_no_number)
    except json.JSONDecodeError:
        raise  # FastAPI says where
    except UnicodeDecodeError:
        raise HTTPException(422, "the body is not UTF-8") from None


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise HTTPException(422, f"{text[:20]} is too large a number")
    return value


def _whole(text: str) -> int:
    """Of 64 bits, as no database has more; what is longer is no float either."""
    value = int(text) if len(text) <= 20 else 2**63
    if not -(2**63) <= value < 2**63:
        raise HTTPException(422, f"{text[:20]}… is too large a number")
    return value


def _no_number(name: str) -> NoReturn:
    raise HTTPException(422, f"{name} is no JSON")
