"""What is shown: hostile text does nothing, long text is read, and it fits phones and scripts of all directions."""

from __future__ import annotations

import re
from typing import Any

import pytest

from heedful.store.database.db import new_id
from heedful.store.kinds import KINDS
from heedful.store.project import projects
from heedful.store.rating import judging
from heedful.store.tables import schema
from heedful.web.plays import Plays
from workspace import claim, make_project, make_task

expect = pytest.importorskip("playwright.sync_api").expect
HOSTILE = [
    "<img src=x onerror=alert(1)> <img src=https://elsewhere.test/x.png>",
    "[x](javascript:alert(1)) ![y](https://elsewhere.test/y.png)",
    "<svg onload=alert(1)><script>alert(1)</script>",
    r"$\href{javascript:alert(1)}{x}$ and $\includegraphics{https://elsewhere.test/z.png}$",
    "```\n# never closed <b onclick=alert(1)>",
    "</div></article><style>*{display:none}",
]


def rename(connection: Any, rater: str, pseudonym: str) -> None:
    change = schema.rater.update().where(schema.rater.c.id == rater)
    connection.execute(change.values(pseudonym=pseudonym))


def test_what_models_and_people_write_is_only_read(site):
    """Every text of others, on the rater's page: no script, no request, nothing hidden, and stored as it was."""
    project = make_project(site.store)
    with site.store.write() as connection:
        projects.write_guidelines(connection, project, "\n\n".join(HOSTILE), actor=None)
        rename(connection, site.people["rater"], HOSTILE[0])
    for text in HOSTILE:
        make_task(site.store, project, responses=(text, "Harmless words."), question=text)
    page = site.rate(project)
    for n in range(len(HOSTILE)):
        question = page.locator("#prompt .body").inner_text()
        for name in ("html", "raw", "diff"):
            if name != "html":
                page.keyboard.press(name[0])
            harmless = page.locator(".panel", has_text="Harmless")
            expect(harmless.locator(".body")).to_be_visible()
            assert harmless.bounding_box()["width"] > 200
            inner = ".panel, .prompt, .guidelines, .top"
            assert (
                page.locator(inner).locator("img:not(.brand img), script, style, iframe").count()
                == 0
            )
            assert (
                page.locator("a[href^='javascript'], [onerror], [onload], [onclick]").count() == 0
            )
            if name == "raw":
                assert page.locator(".panel pre.source").all_inner_texts().count("Harmless words.")
        page.keyboard.press("1")
        site.enter(page)
        said = site.judged(page, n + 1)[-1]
        assert len(set(said["ranks"]) & set(HOSTILE)) == 1
        site.gone(page, question)
    assert {r.text for r in site.rows(schema.completion)} == {*HOSTILE, "Harmless words."}


def test_what_raters_write_is_only_read(site):
    """The same on the pages of those who lead, and in a critique that its rater corrects."""
    project = make_project(site.store)
    text = "\n\n".join(HOSTILE)
    with site.store.write() as connection:
        rename(connection, site.people["rater"], HOSTILE[2])
        projects.write_guidelines(connection, project, text, actor=None)
    for _ in range(2):
        make_task(
            site.store, project, "critique", (text, "Lima."), question=text + new_id(), overlap=2
        )
    rater = site.people["rater"]
    given = [claim(site.store, project, rater) for _ in range(1)]
    with site.store.write() as connection:
        judging.submit(connection, given[0], rater, {"flag": text}, key=new_id())
    critique = claim(site.store, project, rater)
    remark = {"response": 0, "start": None, "end": None, "text": text}
    with site.store.write() as connection:
        judging.submit(connection, critique, rater, {"critiques": [remark]}, key=new_id())
    page = site.signed_in("rater", f"/rate/{project}?assignment={critique}")
    expect(page.locator(".remarks textarea")).to_have_value(text)
    expect(page.locator("pre.source")).to_have_count(2)
    lead = site.window("owner")
    for part in ("aside", "raters", "agreement", "labels", "settings"):
        lead.goto(f"/lead/{project}/{part}", wait_until="networkidle")
        lead.wait_for_function("() => !document.querySelector('[aria-busy]')")
        assert lead.locator("main img, main script, main style, a[href^='javascript']").count() == 0
        expect(lead.locator(".parts")).to_be_visible()
    lead.goto(f"/lead/{project}/aside")
    expect(lead.locator(".question li")).to_contain_text(HOSTILE[5])
    lead.goto("/people")
    lead.get_by_role("rowheader", name=HOSTILE[2]).first.wait_for()


def test_a_response_is_read_to_its_end_first(site):
    """Mutation caught: an answer that can be sent before."""
    project = make_project(site.store)
    long = "\n\n".join(f"Paragraph {i} of many." for i in range(80))
    make_task(site.store, project, responses=(long, long + "\n\nThe end."))
    page = site.rate(project)
    page.keyboard.press("2")
    page.get_by_text("Read every response to its end first.").wait_for()
    page.keyboard.press("Enter")
    expect(page.locator("#submit")).to_be_disabled()
    a = page.get_by_role("region", name="Response A")
    a.focus()
    a.evaluate("node => (node.scrollTop = node.scrollHeight)")
    page.wait_for_function("() => document.querySelectorAll('.more:not([hidden])').length === 1")
    expect(page.locator("#submit")).to_be_disabled()  # B has not been read by a leap in A
    page.keyboard.press("Home")
    b = page.get_by_role("region", name="Response B").element_handle()
    for _ in range(20):  # screen by screen both scroll together
        page.keyboard.press("PageDown")
        page.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
    expect(page.locator("#submit")).to_be_enabled()
    page.wait_for_function("n => n.scrollTop + n.clientHeight >= n.scrollHeight - 4", arg=b)
    assert site.rows(schema.judgment) == []
    site.enter(page)
    site.judged(page)


def test_panels_scroll_apart_if_told_so(site):
    """Then one has to be read after the other."""
    project = make_project(site.store)
    long = "\n\n".join(f"Paragraph {i} of many." for i in range(80))
    make_task(site.store, project, responses=(long, long + " "))
    page = site.rate(project)
    page.get_by_role("button", name="Scroll together").click()
    page.keyboard.press("2")
    for name, done in (("A", False), ("B", True)):
        page.get_by_role("region", name=f"Response {name}").hover()
        page.mouse.wheel(0, 20_000)
        page.wait_for_function(
            f"() => document.querySelectorAll('.more:not([hidden])').length === {0 if done else 1}"
        )
        expect(page.locator("#submit")).to_be_enabled(enabled=done)


WIDE = {
    "rate": {"axes": [{"name": "truthfulness of it all"}, {"name": "x", "high": 100}]},
    "rules": {"rules": [{"code": "a", "text": "Is it as brief as it can be, and kind?"}]},
    "probe": {"rules": [{"code": "a", "text": "averylongrulewithoutanyspace" * 6}]},
    "play": KINDS["play"].example_options,
}


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_phone(site, kind):
    """Nothing is wider than the screen, and the button to send is in reach."""
    site.app.state.plays = Plays((KINDS["play"].example_options["env"],))
    n, options = min(4, KINDS[kind].responses[1]), WIDE.get(kind)
    project = make_project(site.store, "a-project-with-a-long-name")
    wide = (
        "averylongwordwithoutanyspace" * 6
        + "\n\n```\n"
        + "code " * 60
        + "\n```\n\n|a|b|\n|-|-|\n|1|2|"
    )
    texts = [f"{wide} {i}" for i in range(n)]
    make_task(site.store, project, kind, texts, question=wide, options=options)
    page = site.rate(
        project, viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True
    )
    page.locator("#submit").wait_for()
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    box = page.locator("#submit").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    assert box["y"] + box["height"] <= 800
    assert page.evaluate("visualViewport.scale") == 1


@pytest.mark.parametrize("said", ["مرحبا بالعالم، هذا جواب", "שלום עולם"])
def test_right_to_left(site, said):
    """Each response has the direction of its own first letter."""
    project = make_project(site.store)
    make_task(site.store, project, responses=(said, "Hello."), question="سؤال")
    page = site.rate(project)
    for node in page.locator(".panel .body").all():
        wanted = "ltr" if "Hello" in node.inner_text() else "rtl"
        assert node.evaluate("n => getComputedStyle(n).direction") == wanted
    direction = "n => getComputedStyle(n).direction"
    assert page.locator("#prompt .body").evaluate(direction) == "rtl"
    assert re.search(said, page.locator("#responses").inner_text())


def test_one_at_a_time_on_a_phone_and_all_the_window_on_a_laptop(site):
    """Mutation caught: a response behind a tab or behind the scale taken for read; panels of a fixed height."""
    project = make_project(site.store)
    texts = [f"{name}: " + "so it goes on. " * 300 for name in ("one", "other")]
    make_task(site.store, project, responses=texts, overlap=2)
    page = site.rate(
        project, viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True
    )
    expect(page.locator(".panel:visible")).to_have_count(1)
    page.get_by_role("radio").first.click()
    page.evaluate("scrollTo(0, 1e6)")
    expect(page.get_by_role("tab", name="Response A")).not_to_have_class("tab unread")
    expect(page.locator("#submit")).to_be_disabled()
    page.get_by_role("tab", name="Response B").click()
    page.evaluate("scrollTo(0, 1e6)")
    expect(page.locator("#submit")).to_be_enabled()
    body, foot = (page.locator(x).bounding_box() for x in (".panel:visible .body", "#foot"))
    assert body["y"] + body["height"] <= foot["y"] + 4 and foot["y"] + foot["height"] <= 800
    page = site.rate(project, "other", viewport={"width": 1366, "height": 768})
    body, send = (page.locator(x).bounding_box() for x in (".panel .body >> nth=0", "#submit"))
    assert body["height"] > 0.38 * 768 and send["y"] + send["height"] <= 768
    assert page.evaluate("document.scrollingElement.scrollHeight") <= 768
