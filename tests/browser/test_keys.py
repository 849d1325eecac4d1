"""Skipping, flagging, correcting and the keys of the rater's page; fingers that are faster than the line."""

from __future__ import annotations

import pytest

from heedful.store.tables import schema
from workspace import make_project, make_task

expect = pytest.importorskip("playwright.sync_api").expect

GOOD, BAD = "Lima is the capital of Peru.", "I don't know."


def test_skip_flag_and_correct(site):
    """What is set aside has its reason; a correction is a second revision and stands beside the first."""
    project = make_project(site.store)
    for i in range(3):
        make_task(site.store, project, responses=(GOOD, BAD), question=f"Q{i}?")
    page = site.rate(project)
    question = page.locator("#prompt .body")
    expect(page.locator("#undo")).to_be_disabled()
    asked = question.inner_text()
    page.keyboard.press("s")
    assert site.judged(page)[-1]["outcome"] == "skip"
    site.gone(page, asked)
    asked = question.inner_text()
    page.keyboard.press("f")
    dialog = page.get_by_role("dialog", name="What is wrong with this one?")
    dialog.wait_for()
    site.escape(page)
    page.keyboard.press("f")
    dialog.wait_for()
    page.keyboard.type("unsafe: s f u")
    page.get_by_role("button", name="Flag it").click()
    flagged = site.judged(page, 2)[-1]
    assert (flagged["outcome"], flagged["text"]) == ("flag", "unsafe: s f u")
    site.gone(page, asked)
    left = site.letter(page, GOOD) == "A"
    page.keyboard.press("8" if left else "1")  # the wrong one
    site.enter(page)
    assert site.judged(page, 3)[-1]["ranks"] == {GOOD: 2, BAD: 1}
    page.get_by_text("All done").wait_for()
    page.keyboard.press("u")
    checked = page.get_by_role("radio", checked=True)
    expect(checked).to_have_attribute("data-value", "8" if left else "1")
    page.keyboard.press("1" if left else "8")
    site.enter(page)
    first, second = site.judged(page, 4)[-2:]
    assert second["ranks"] == {GOOD: 1, BAD: 2} and second["task"] == first["task"]
    assert [first["revision"], second["revision"]] == [1, 2]
    page.get_by_text("All done").wait_for()


def test_undo_reaches_back_over_answers_and_skips(site):
    """Mutation caught: a letter typed beside a field that skips for good; a question lost on the way back and forth."""
    project = make_project(site.store)
    for i in range(4):
        make_task(site.store, project, responses=(GOOD, BAD), question=f"Q{i}?")
    page = site.rate(project)
    site.ahead(page)
    question, asked = page.locator("#prompt .body"), []
    for key in ("s", "8", "s"):
        asked.append(question.inner_text())
        page.keyboard.press(key)
        if key != "s":
            site.enter(page)
        site.gone(page, asked[-1])
    asked.append(question.inner_text())
    for text in reversed(asked[:3]):
        page.keyboard.press("u")
        expect(question).to_have_text(text)
    expect(page.locator("#undo")).to_be_disabled()
    page.keyboard.press("1")  # the first was a skip, and has an answer now
    site.enter(page)
    expect(question).to_have_text(asked[1])
    expect(page.get_by_role("radio", checked=True)).to_have_attribute("data-value", "8")
    page.keyboard.press("s")  # its answer stays
    expect(question).to_have_text(asked[2])
    page.keyboard.press("s")
    expect(question).to_have_text(asked[3])
    outcomes = [s["outcome"] for s in site.judged(page, 5)]
    assert outcomes == ["skip", "answer", "skip", "answer", "skip"]
    page.keyboard.press("?")
    page.get_by_label("Single keys act").uncheck()
    site.escape(page)
    page.keyboard.type("this is better")
    expect(question).to_have_text(asked[3])
    expect(page.locator("#submit")).to_be_disabled()
    page.reload()
    expect(page.locator("#single")).not_to_be_checked()
    assert len(site.judged(page, 5)) == 5


def test_a_key_held_down_answers_one_question(site):
    """Mutation caught: keys that repeat and go through one question after the other."""
    project = make_project(site.store)
    for i in range(5):
        make_task(site.store, project, question=f"Q{i}?")
    page = site.rate(project)
    page.keyboard.press("3")
    page.locator("#submit:enabled").wait_for()
    for n, key in enumerate(("Enter", "s")):
        question = page.locator("#prompt .body").inner_text()
        page.keyboard.down(key)
        for _ in range(3):
            page.keyboard.down(key)  # without up: a repetition
        site.judged(page, n + 1)
        site.gone(page, question)
        page.keyboard.down(key)
        page.keyboard.up(key)
    page.wait_for_timeout(200)  # in which nothing more comes
    assert [s["outcome"] for s in site.judged(page, 2)] == ["answer", "skip"]


def test_a_double_click_answers_once(site):
    """Mutation caught: the second click takes the next question away before anybody has seen it."""
    project = make_project(site.store)
    for i in range(4):
        make_task(site.store, project, question=f"Q{i}?")
    page = site.rate(project)
    site.ahead(page)
    page.keyboard.press("3")
    page.locator("#submit:enabled").wait_for()
    page.evaluate("() => [1, 2].forEach(() => document.getElementById('submit').click())")
    site.judged(page, 1)
    site.until(page, lambda: len(site.rows(schema.assignment)) == 3)  # answered, shown, ahead
    given = sorted(site.rows(schema.assignment), key=lambda a: a.id)
    prompts = {p.id: p.content[0]["content"] for p in site.rows(schema.prompt)}
    asked = {t.id: prompts[t.prompt] for t in site.rows(schema.task)}
    expect(page.locator("#prompt .body")).to_have_text(asked[given[1].task])


def test_the_keys_are_explained(site):
    """While the dialog is open its keys are nobody's answer. Mutation caught: the buttons that have keys are not in one
    row, as when another part of the page lays out what is called as they are."""
    project = make_project(site.store)
    make_task(site.store, project)
    page = site.rate(project)
    tools = [page.locator(one).bounding_box() for one in (".tools a", "#undo", "#help-open")]
    assert len({round(box["y"], -1) for box in tools if box}) == 1
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    dialog.wait_for()
    page.keyboard.press("s")
    page.keyboard.press("3")
    site.escape(page)
    expect(page.get_by_role("radio", checked=True)).to_have_count(0)
    page.keyboard.press("g")
    expect(page.locator("#guidelines")).to_be_hidden()
    page.keyboard.press("r")
    expect(page.locator("#raw")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("d")
    expect(page.locator(".panel ins, .panel del")).not_to_have_count(0)
    assert site.rows(schema.judgment) == []


def test_undo_overtakes_the_next_question(site):
    """Mutation caught: a question that arrives late takes the place of the answer that is being corrected."""
    project = make_project(site.store, order="priority")
    for i in range(3):
        make_task(site.store, project, question=f"Q{i}?")
    page = site.rate(project)
    question = page.locator("#prompt .body")
    site.ahead(page)
    held = []
    page.route("**/next", lambda route: held.append(route))
    seen = []
    for n, key in enumerate("12"):
        seen.append(question.inner_text())
        page.keyboard.press(key)
        site.enter(page)
        site.judged(page, n + 1)
        if not n:
            site.gone(page, seen[0])
    site.until(page, lambda: held)  # the third question is on its way
    page.keyboard.press("u")
    expect(question).to_have_text(seen[1])
    with page.expect_response("**/next"):
        held.pop().continue_()
    page.unroute("**/next")
    page.locator("#progress").get_by_text("2 today").wait_for()  # it came, and changed nothing
    expect(question).to_have_text(seen[1])
    page.keyboard.press("7")
    site.enter(page)
    corrected = site.judged(page, 3)[-1]
    assert (corrected["revision"], corrected["said"]) == (2, {"value": 7})
    page.get_by_role("radio", checked=True).wait_for(state="detached")
    for earlier in seen:
        expect(question).not_to_have_text(earlier)
    page.keyboard.press("3")
    site.enter(page)
    assert site.judged(page, 4)[-1]["revision"] == 1
    page.get_by_text("All done").wait_for()


def test_a_flag_is_for_the_question_that_is_seen(site):
    """Mutation caught: the dialog opens over an answered question, and its words go to the one that comes next."""
    project = make_project(site.store)
    for i in range(3):
        make_task(site.store, project, question=f"Q{i}?")
    page = site.rate(project)
    site.ahead(page)
    held = []
    page.route("**/next", lambda route: held.append(route))
    question = page.locator("#prompt .body")
    asked = question.inner_text()
    page.keyboard.press("1")
    site.enter(page)
    site.gone(page, asked)
    asked = question.inner_text()
    page.keyboard.press("2")
    site.enter(page)
    site.judged(page, 2)
    page.keyboard.press("f")  # the third question is on its way
    dialog = page.get_by_role("dialog", name="What is wrong with this one?")
    expect(dialog).to_be_hidden()
    site.until(page, lambda: held)
    held.pop().continue_()
    page.unroute("**/next")
    site.gone(page, asked)
    page.keyboard.press("f")
    expect(dialog).to_be_visible()


def test_enter_submits_after_a_look_at_the_differences(site):
    """And the focus and a live region tell that the next question is there.

    Mutation caught: Enter that presses the button that was clicked last; a focus left on a button that is switched off.
    """
    project = make_project(site.store)
    for i in range(2):
        make_task(site.store, project, responses=(GOOD, BAD), question=f"Q{i}?")
    page = site.rate(project)
    page.locator("#diff").click()
    expect(page.locator("#diff")).to_have_attribute("aria-pressed", "true")
    asked = page.locator("#prompt .body").inner_text()
    page.keyboard.press("1")
    site.enter(page)
    assert site.judged(page)[-1]["outcome"] == "answer"
    site.gone(page, asked)
    page.keyboard.press("1")
    page.locator("#submit:enabled").click()
    expect(page.locator("#now")).to_have_text("Sent. Question 2.")
