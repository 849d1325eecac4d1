"""Words of the raters' pages in other languages: catalogues in `words/`, as gettext has them, English → the language.

Templates say `_("Submit")` and modules `t("Submit")`; a test reads both and compares them with every catalogue. A page
is in the language that whoever looks at it has chosen (the cookie `heedful_language`), or that their browser asks for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from fastapi import Request

COOKIE = "heedful_language"
FOLDER = Path(__file__).parent / "words"
# Pages that raters see; those of leads are in English.
TRANSLATED = (
    "account.html", "join.html", "login.html", "message.html", "mine.html", "projects.html", "rate.html", "reset.html",
)  # fmt: skip
# What routes and the database say to `_`, which no template spells out: titles and texts of messages, roles.
SPOKEN = (
    "Nothing here", "There is no such page.", "There is no such project.", "Not yours", "This page is for leads.",
    "Nobody is here yet", "Not allowed", "rater", "lead", "owner",
    "The terminal in which `heedful serve` runs shows a link that makes the owner's account.",
    "This link has been used", "This link is not valid",
    "It works once, and the owner's account has been made with it: sign in with that. For a new password, "
    "`heedful people reset LOGIN` in the terminal prints a link.",
    "It works once, and an account has been made with it. If that is yours, sign in; if not, ask whoever sent you the "
    "link for another one.",
    "The newest link that `heedful serve` has shown in the terminal makes the owner's account; there is none once "
    "somebody has it.",
    "It has expired or was withdrawn, or a part of it is missing. Ask whoever sent you the link for another one.",
)  # fmt: skip
LANGUAGES = {"en": "English", "de": "Deutsch"}
ASKED = re.compile(r"\s*([A-Za-z]{1,8})(?:-[A-Za-z0-9]+)*\s*(?:;\s*q=([\d.]{1,5}))?\s*")


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """What the English words are in a language; empty for English."""
    if language == "en":
        return {}
    return json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))


def language_of(request: Request) -> str:
    """Of the languages that there are, the one chosen, or the first that the browser asks for."""
    chosen = request.cookies.get(COOKIE)
    if chosen in LANGUAGES:
        return str(chosen)
    return asked_for(request.headers.get("accept-language", "")[:200])


def asked_for(header: str) -> str:
    """The language of the header Accept-Language that is wanted most; English, where none of them is there."""
    wanted: list[tuple[float, str]] = []
    for part in header.split(","):
        found = ASKED.fullmatch(part)
        if found is None:
            continue
        try:
            weight = float(found[2] or 1)
        except ValueError:
            continue
        wanted.append((-weight, found[1].lower()))
    return next((name for _, name in sorted(wanted, key=lambda w: w[0]) if name in LANGUAGES), "en")
