"""Several questions on one screen, in a browser: answered by keyboard, on a phone, and built by a form."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from heedful.store.tables import schema
from workspace import make_project, make_task

QUESTIONS = [
    {"name": "overall", "kind": "pair", "title": "Which is better?"},
    {
        "name": "axes",
        "kind": "rate",
        "title": "How good is each?",
        "options": {"axes": [{"name": "helpful"}, {"name": "true"}]},
    },
    {
        "name": "flags",
        "kind": "rules",
        "title": "Rules",
        "options": {"rules": [{"code": "polite", "text": "It is polite."}]},
        "required": False,
    },
    {"name": "reason", "kind": "note", "title": "Why?", "required": False},
]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def asked(site: Any, n: int = 1) -> str:
    project = make_project(site.store)
    for i in range(n):
        options = {"questions": QUESTIONS}
        make_task(site.store, project, "screen", options=options, question=f"What is {i}?")
    return project


def current(page: Any) -> str:
    return page.locator(".qcard.current").get_attribute("data-name")


def test_by_keyboard_digits_act_on_the_marked_question(site: Any):
    """↓ and ↑ go from one to the next, Enter shows what is open, then submits; what is optional stays absent.

    Mutations caught: a focus that stays beside the choice that was made, a digit
    that answers another question, half an answer that is dropped without a word, an
    optional question that is sent as answered, an answer that undo does not bring back."""
    page = site.rate(asked(site, 2))
    page.wait_for_timeout(100)
    assert current(page) == "overall"
    page.keyboard.press("2")
    page.keyboard.press("Enter")  # goes where something is open
    assert (
        current(page) == "axes"
        and page.locator("#why").inner_text() == "Still open: How good is each?"
    )
    for key in "5142":
        page.keyboard.press(key)
    page.keyboard.press("Space")  # presses what has the focus: the choice that was just made
    page.keyboard.press("ArrowDown")
    assert current(page) == "flags"
    page.keyboard.press("1")
    assert page.locator("#submit").is_disabled()
    assert page.locator("#why").inner_text() == "Finish or clear: Rules"
    page.keyboard.press("2")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert current(page) == "overall"
    page.keyboard.press("3")
    site.enter(page)
    (said,) = site.judged(page)
    assert said["said"] == {
        "overall": {"value": 3},
        "axes": {"scores": {"helpful": [5, 1], "true": [4, 2]}},
        "flags": {"rules": {"polite": [True, False]}},
    }
    page.locator("#undo:enabled").click()
    page.get_by_role("button", name="Clear: Rules").click()
    page.get_by_role("textbox", name="Why?").fill("B does not answer")
    site.ahead(page)
    page.locator("#submit:enabled").click()
    again = site.judged(page, 2)[-1]
    assert set(again["said"]) == {"overall", "axes", "reason"} and again["revision"] == 2
    with site.store.read() as connection:
        q = schema.question_answer.c
        named = select(q.question).where(q.judgment == latest(connection)).order_by(q.place)
        assert connection.execute(named).scalars().all() == ["overall", "axes", "reason"]


def latest(connection: Any) -> str:
    newest = select(schema.judgment.c.id).order_by(schema.judgment.c.revision.desc()).limit(1)
    return connection.execute(newest).scalar_one()


def test_on_a_phone_the_questions_stand_beneath_the_tabs_and_a_draft_is_kept(site: Any):
    """Mutation caught: a reload that loses what was answered of a screen that is not complete."""
    project = asked(site)
    page = site.rate(project, **PHONE)
    page.get_by_role("tab", name="Response B").click()
    responses, questions = page.locator("#responses"), page.locator(".questions")
    assert questions.bounding_box()["y"] > responses.bounding_box()["y"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("radio", name="A is better", exact=True).click()
    page.reload()
    page.locator("#desk").wait_for()
    chosen = page.get_by_role("radio", name="A is better", exact=True)
    assert chosen.get_attribute("aria-checked") == "true"


def test_a_screen_is_built_by_a_form_and_seen_at_once(site: Any):
    """From a starter: a question added, one moved, one taken away; kept as it is seen. No barriers for anybody.

    Mutation caught: a form whose preview, or what is kept, is not what is on it."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    project = make_project(site.store)
    page = site.signed_in("lead", f"/lead/{project}/screen")
    page.get_by_label("Begin with").select_option("webgpt")
    page.get_by_role("button", name="Take it").click()
    page.locator("#sample-answer .qcard").nth(3).wait_for()
    page.locator("#add-kind").select_option("rate")
    page.get_by_role("button", name="Add a question").click()
    last = page.locator(".design").last
    last.get_by_label("What raters read above it").fill("How true is each?")
    last.get_by_label("Name", exact=True).fill("truth")
    last.get_by_label("High end means").fill("all of it")
    page.get_by_role("button", name="Move up: How true is each?").click()
    page.get_by_role("button", name="Remove: Which is more coherent?").click()
    preview = page.locator("#sample-answer .qcard")
    site.until(page, lambda: preview.count() == 4 and "all of it" in preview.nth(2).inner_text())
    assert preview.nth(2).locator("h2").inner_text() == "How true is each?"
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved. What is imported").wait_for()
    with site.store.read() as connection:
        settings = connection.execute(select(schema.project.c.settings)).scalar_one()
    assert [q["name"] for q in settings["questions"]] == ["overall", "support", "rate", "reason"]
    assert settings["questions"][2]["options"]["axes"][0]["high_label"] == "all of it"
    assert axe.run(page).response["violations"] == []
    page.locator("#add-kind").select_option("write")
    page.get_by_role("button", name="Add a question").click()
    page.get_by_text("These cannot share a screen").wait_for()
    site.expect("beforeunload", "^$")
