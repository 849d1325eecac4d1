"""The raters' pages in two languages: every catalogue has what the pages say, and the pages say nothing else."""

from __future__ import annotations

import re
from typing import Any

import pytest

from heedful.web import texts
from heedful.web.respond import HERE

SCRIPTS = [
    *sorted((HERE / "static" / "rate").rglob("*.js")),
    HERE / "static" / "account.js",
    HERE / "static" / "forms.js",
]
PAGES = [HERE / "templates" / name for name in (*texts.TRANSLATED, "base.html", "look.html")]
IN_PAGE = re.compile(r"""_\(("([^"]+)"|'([^']+)')\)""")
IN_SCRIPT = re.compile(r'\bt\("([^"]+)"')
NAMES = {
    "heedful",
    "English",
    "Deutsch",
    "read",
    "rate",
    "lead",
    "Enter",
    "Esc",
    "Ctrl",
}  # in any language
# Literals of scripts that begin as sentences do, and are none: keys, methods, headers, letters.
CODE = {
    "Enter", "Escape", "Tab", "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Content-Type", "Accept",
    "Idempotency-Key", "POST", "GET", "DELETE", "PATCH", "PUT", "AB", "ABCDEFGHIJKL", "X-CSRF-Token",
}  # fmt: skip


def said() -> set[str]:
    """All that pages and scripts ask the catalogue for."""
    pages = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)
    scripts = "\n".join(path.read_text(encoding="utf-8") for path in SCRIPTS)
    in_pages = {double or single for _, double, single in IN_PAGE.findall(pages)}
    return in_pages | set(IN_SCRIPT.findall(scripts)) | set(texts.SPOKEN)


@pytest.mark.parametrize("language", [name for name in texts.LANGUAGES if name != "en"])
def test_each_catalogue_has_what_is_said(language: str):
    """No more and no less, and with the same places for numbers and names.

    Mutations caught: a new sentence that nobody translated; {n} that the translation has lost."""
    words = texts.catalogue(language)
    assert said() - words.keys() == set()
    assert words.keys() - said() == set()
    for english, other in words.items():
        assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", other))
        assert other.strip()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_say_nothing_that_is_in_no_catalogue(path: Any):
    """Words between tags, and in attributes that people see or hear."""
    page = path.read_text(encoding="utf-8")
    page = page.replace("{% block page %}account{% endblock %}", "")
    page = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", " ", page, flags=re.DOTALL)
    seen = re.findall(r'(?:aria-label|placeholder|title|alt)="([^"]*)"', page)
    seen += re.sub(r"<script.*?</script>|<[^>]*>", " ", page, flags=re.DOTALL).split()
    words = {word.strip("·.,:;?!()") for text in seen for word in text.split()}
    assert {w for w in words if re.search(r"[A-Za-z]{2}", w)} - NAMES == set()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_say_nothing_that_is_in_no_catalogue(path: Any):
    """Every literal that begins as a sentence does goes through t(). Mutation caught: a bare "Submit again"."""
    code = re.sub(r"^\s*//.*$|(?<=[;,{]) // .*$", "", path.read_text(encoding="utf-8"), flags=re.M)
    code = re.sub(r'^import .*$|\bt\("[^"]+"', "", code, flags=re.M)
    found = set(re.findall(r'["`]([A-Z][a-z][^"`\n]*)["`]', code))
    assert found - CODE == set()


@pytest.mark.parametrize(
    "header, language",
    [
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr;q=0.9, de;q=0.5, en;q=0.7", "en"),
        ("en;q=0.1,de", "de"),
        ("", "en"),
        ("xx, *;q=0.5", "en"),
        ("de;q=nonsense", "en"),
        ("de;q=1.1.1", "en"),
    ],
)
def test_the_language_that_is_asked_for(header: str, language: str):
    assert texts.asked_for(header) == language


def test_a_page_in_german(person: Any):
    """The rater's page, not the lead's; a choice comes before what the browser asks for."""
    lead = person("lead").browser
    german = {"Accept-Language": "de", "Accept": "text/html"}
    page = lead.get("/rate", headers=german).text
    assert '<html lang="de">' in page and "Was möchten Sie beurteilen?" in page
    assert '<html lang="en">' in lead.get("/lead", headers=german).text
    lead.cookies.set(texts.COOKIE, "en")
    assert '<html lang="en">' in lead.get("/rate", headers=german).text
    lead.cookies.set(texts.COOKIE, "../../x")
    assert '<html lang="de">' in lead.get("/rate", headers=german).text
