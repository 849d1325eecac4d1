"""No serious barrier on any page, light or dark: axe-core looks at each as it stands before people."""

from __future__ import annotations

from typing import Any

import pytest

from heedful.store.kinds import KINDS
from heedful.store.membership import people
from workspace import make_project, make_task

axe_playwright = pytest.importorskip("axe_playwright_python.sync_playwright")

ALL = {"resultTypes": ["violations"]}
CONTRAST = ALL | {"runOnly": ["color-contrast"]}
PARTS = ("", "raters", "agreement", "labels", "aside", "members", "files", "settings")
SLIDERS = {"axes": [{"name": "truth", "low": 0, "high": 100}]}
TEXT = """A *response* with `code`, [a link](https://example.org), $x^2$ and \u202ea turn\u202c.

```py
print(1)
```

|a|b|
|-|-|
|1|2|"""


def barriers(page: Any) -> list[str]:
    """What axe-core calls serious or critical, in light and then in dark colours; all else is the same in both."""
    found = []
    for scheme, options in (("light", ALL), ("dark", CONTRAST)):
        page.emulate_media(color_scheme=scheme)
        for v in axe_playwright.Axe().run(page, options=options).response["violations"]:
            if v["impact"] in ("serious", "critical"):
                first = v["nodes"][0]
                found.append(
                    f"{scheme} {page.url}: {v['id']}: {first['html'][:200]} {first['failureSummary'][:300]}"
                )
    return found


@pytest.mark.parametrize(
    "kind",
    [
        kind if kind in ("pair", "rank", "rate") else pytest.param(kind, marks=pytest.mark.long)
        for kind in (*KINDS, "sliders")
    ],
)
def test_rating(site, kind):
    """Each kind of question, empty and answered."""
    name = "rate" if kind == "sliders" else kind
    least, most = KINDS[name].responses
    n = max(least, min(3 if kind == "rank" else 2, most))
    options = SLIDERS if kind == "sliders" else KINDS[name].example_options
    project = make_project(site.store, models=("small", "large"))
    texts = [f"{TEXT}\n\n{i}" + "\n\nMore." * (30 * (i == 0)) for i in range(n)]
    question = "Long.\n\n" * 40 if n == 2 else TEXT
    make_task(site.store, project, name, texts, question=question, options=options)
    page = site.rate(project)
    found = barriers(page)
    if kind == "chat":
        page.get_by_role("textbox", name="Your message").fill("Hello!")
        page.get_by_role("button", name="Send").click()
        page.locator(".reply").nth(1).wait_for()
    elif kind == "critique":
        page.get_by_role("button", name="Remark on A").click()
    elif kind == "edit":
        page.get_by_role("textbox", name="The response as it should be").fill("Other words.")
    elif kind not in ("write", "sliders"):
        page.keyboard.press("1")
    assert found + barriers(page) == []


def test_around_rating(site):
    """Views and dialogs of the rater's page, the end of the work, and the list of projects."""
    site.expect("Failed to load resource")
    project = make_project(site.store)
    make_task(site.store, project, responses=("One two three.", "One four three."))
    page = site.signed_in("rater", "/rate")
    found = barriers(page)
    page.goto(f"/rate/{project}")
    page.locator("#desk").wait_for()
    for key in ("d", "r", "?"):
        page.keyboard.press(key)
        found += barriers(page)
    site.escape(page)
    page.keyboard.press("f")
    found += barriers(page)
    site.escape(page)
    page.route("**/judgments", lambda route: route.abort())
    page.keyboard.press("t")
    site.enter(page)
    page.locator("#outbox p").wait_for()
    found += barriers(page)
    page.unroute("**/judgments")
    page.get_by_text("All done").wait_for()
    assert found + barriers(page) == []


@pytest.mark.long
def test_leading(site):
    """All pages of a project that has been worked in, and those around projects."""
    project = site.worked_in()
    run = site.workspace / "runs" / "one"
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text(
        "".join(f'{{"step": {i}, "seconds": {i}, "loss": {2 / (i + 1)}}}\n' for i in range(5))
    )
    (run / "config.yaml").write_text("seed: 0\n")
    page = site.window("owner")
    found = []
    paths = [f"/lead/{project}/{part}".rstrip("/") for part in PARTS]
    for path in ("/lead", *paths, "/runs", "/people", "/account", "/docs", "/nowhere"):
        if path == "/nowhere":
            site.expect("404")
        page.goto(path)
        page.wait_for_function("() => !document.querySelector('[aria-busy]')")
        found += barriers(page)
    page.goto("/runs")
    page.get_by_role("link", name="runs/one").click()
    page.locator("#curves svg").first.wait_for()
    assert found + barriers(page) == []


def test_at_the_door(site):
    """Before one is signed in, and when it is refused."""
    site.expect("401")
    with site.store.write() as connection:
        token = people.invite(connection, "rater", actor=None)
    page = site.window()
    page.goto(f"/join?token={token}")
    found = barriers(page)
    page.goto("/login")
    found += barriers(page)
    page.get_by_label("Login").fill("rater")
    page.get_by_label("Password").fill("wrong words")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("login or password is wrong").wait_for()
    assert found + barriers(page) == []
