"""The HTTP side: routes, errors in OpenAI's form, streams. Who speaks is the affair of a `Desk`."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from transformers import PreTrainedTokenizerBase

from heedful.endpoint import answers, forms
from heedful.endpoint.answers import Envelope, Said
from heedful.endpoint.errors import Refused
from heedful.endpoint.forms import Asked, ChatForm, CompletionForm
from heedful.endpoint.stream import Streamed, events
from heedful.endpoint.words import echoed
from heedful.errors import UserError
from heedful.waiting import all_of

log = logging.getLogger("heedful")
MOST_BYTES = 32 << 20  # of a request
Heard = Callable[[int, int], None]  # which choice, the token


class Speaker(Protocol):
    """Who answers. `heard` is called with each token as it is drawn, where that can be told."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...

    async def speak(self, asked: Asked, heard: Heard | None = None) -> list[Said]:
        """`asked.n` choices; `Refused` for what cannot be answered."""
        ...


class Desk(Protocol):
    """Who answers a request with these headers, and under which names models are asked for."""

    @property
    def models(self) -> tuple[str, ...]: ...

    def speaker(self, headers: Mapping[str, str], model: str) -> Speaker:
        """`Refused` where nobody does."""
        ...

    def check(self, headers: Mapping[str, str]) -> None:
        """`Refused` where the key is wrong."""
        ...


def create_app(desk: Desk, *extra: Route) -> Starlette:
    """`/v1/models`, `/v1/chat/completions`, `/v1/completions`, and routes of one's own."""

    async def models(request: Request) -> Response:
        desk.check(request.headers)
        rows = [_model(name) for name in desk.models]
        if (name := request.path_params.get("name")) is None:
            return JSONResponse({"object": "list", "data": rows})
        if name not in desk.models:
            raise unknown_model(name, desk.models)
        return JSONResponse(_model(name))

    async def chat(request: Request) -> Response:
        return await _answer(desk, request, ChatForm)

    async def completions(request: Request) -> Response:
        return await _answer(desk, request, CompletionForm)

    return Starlette(
        routes=[
            Route("/v1/models", models),
            Route("/v1/models/{name:path}", models),
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/completions", completions, methods=["POST"]),
            Route("/health", lambda request: JSONResponse({"status": "ok"})),
            *extra,
        ],
        exception_handlers={
            Refused: _refused,
            UserError: _refused,
            HTTPException: _refused,
            Exception: _broken,
        },
    )


def unknown_model(name: str, models: tuple[str, ...]) -> Refused:
    """OpenAI's answer to a model that is not there."""
    return Refused(
        f"The model `{name}` does not exist; there is {', '.join(models)}",
        status=404,
        param="model",
        code="model_not_found",
    )


async def _answer(
    desk: Desk,
    request: Request,
    kind: type[ChatForm] | type[CompletionForm],
) -> Response:
    desk.check(request.headers)
    form = forms.read(kind, await _body(request))
    speaker = desk.speaker(request.headers, form.model)
    asked, tokenizer = form.asked(), speaker.tokenizer
    chat = isinstance(form, ChatForm)
    envelope = Envelope(
        "chat.completion" if chat else "text_completion", form.model or desk.models[0]
    )
    render = _chat_choices if chat else _text_choices
    if form.stream:
        return await _streamed(speaker, asked, form, envelope)
    groups = await all_of(speaker.speak(one) for one in asked)
    choices = [
        c
        for one, group in zip(asked, groups, strict=True)
        for c in render(tokenizer, one, group, form)
    ]
    body = envelope.around(choices) | {"usage": answers.usage(groups)}
    if chat and form.return_token_ids:
        body["prompt_token_ids"] = list(groups[0][0].prompt)
    return JSONResponse(body)


def _chat_choices(
    tokenizer: PreTrainedTokenizerBase, asked: Asked, group: list[Said], form: Any
) -> list[dict[str, Any]]:
    ids = bool(form.return_token_ids)
    return [answers.chat_choice(tokenizer, i, said, ids=ids) for i, said in enumerate(group)]


def _text_choices(
    tokenizer: PreTrainedTokenizerBase, asked: Asked, group: list[Said], form: Any
) -> list[dict[str, Any]]:
    before = echoed(tokenizer, asked.prompt) if asked.echo else ""
    return [
        answers.text_choice(
            tokenizer,
            asked.number * asked.n + i,
            said,
            wanted=asked.logprobs,
            before=before,
            ids=bool(form.return_token_ids),
        )
        for i, said in enumerate(group)
    ]


async def _streamed(
    speaker: Speaker,
    asked: list[Asked],
    form: ChatForm | CompletionForm,
    envelope: Envelope,
) -> Response:
    """Once something has been said, or nothing will be: what is refused is no stream."""
    streamed = Streamed(speaker, asked)
    try:
        await streamed.begun()
    except BaseException:
        streamed.stop()
        raise
    lines = events(streamed, form, speaker.tokenizer, envelope)
    return StreamingResponse(_safe(lines, streamed), media_type="text/event-stream")


async def _safe(lines: AsyncIterator[str], streamed: Streamed) -> AsyncIterator[str]:
    """What goes wrong in the middle is told in the stream; a client that has gone is not spoken to."""
    try:
        async for line in lines:
            yield line
    except Refused as error:
        yield f"data: {json.dumps(error.body())}\n\n"
    except Exception:
        log.exception("an endpoint's stream")
        yield f"data: {json.dumps(BROKEN.body())}\n\n"
    finally:
        streamed.stop()


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > MOST_BYTES:
                raise Refused(f"a request has at most {MOST_BYTES} bytes", status=413)
    except ClientDisconnect:
        raise Refused("the request is not whole") from None
    return bytes(body)


BROKEN = Refused(
    "the server failed; its log says why", status=500, kind="server_error", code="server_error"
)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "heedful"}


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, UserError):
        error = Refused(str(error))
    if isinstance(error, HTTPException):  # no such path, or another method
        error = Refused(
            f"{request.method} {request.url.path}: {error.detail}", status=error.status_code
        )
    assert isinstance(error, Refused)
    return JSONResponse(error.body(), error.status)


async def _broken(request: Request, error: Exception) -> Response:
    # What libraries say names files of the server, so its log has it.
    return JSONResponse(BROKEN.body(), 500)
