"""Responses of the server: JSON that can hold any text, pages, security headers."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.responses import HTMLResponse, JSONResponse

from heedful.web import texts
from heedful.web.proxy import root

HERE = Path(__file__).parent
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; frame-src 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Json(JSONResponse):
    """JSON in ASCII: models write lone surrogates, which UTF-8 cannot encode."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def sentence(text: str, status: int, headers: dict[str, str] | None = None) -> Json:
    """What went wrong, in one sentence."""
    return Json({"error": text}, status, headers)


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(request: Request, name: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page from templates/; `user` is the person signed in, or None."""
    user = getattr(request.state, "user", None)
    place = {"path": request.url.path, "root": root(request)}
    language = texts.language_of(request) if name in texts.TRANSLATED else "en"
    words = texts.catalogue(language)
    said = {"language": language, "words": words, "_": lambda text: words.get(text, text)}
    text = _templates().get_template(name).render(user=user, **place, **said, **values)
    return HTMLResponse(text.encode("utf-8", "replace").decode("utf-8"), status)
