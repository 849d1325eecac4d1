"""Skipping, flagging, correcting and the keys of the rater's page; fingers that are faster than the line."""

from __future__ import annotations

from heedful.store import schema
from workspace import make_project, make_task

GOOD, BAD = "Lima is the capital of Peru.", "I don't know."


def test_skip_flag_and_correct(site):
    """What is set aside has its reason; a correction is a second revision and stands beside the first."""
    project = make_project(site.store)
    for i in range(3):
        make_task(site.store, project, responses=(GOOD, BAD), question=f"Q{i}?")
    page = site.rate(project)
    assert page.locator("#undo").is_disabled()
    page.keyboard.press("s")
    assert site.judged(page)[-1]["outcome"] == "skip"
    page.keyboard.press("f")
    dialog = page.get_by_role("dialog", name="What is wrong with this one?")
    dialog.wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    page.wait_for_function("() => document.activeElement === document.body")  # a frame later
    page.keyboard.press("f")
    dialog.wait_for()
    page.keyboard.type("unsafe: s f u")
    page.get_by_role("button", name="Flag it").click()
    flagged = site.judged(page, 2)[-1]
    assert (flagged["outcome"], flagged["text"]) == ("flag", "unsafe: s f u")
    left = site.letter(page, GOOD) == "A"
    page.keyboard.press("8" if left else "1")  # the wrong one
    page.keyboard.press("Enter")
    assert site.judged(page, 3)[-1]["ranks"] == {GOOD: 2, BAD: 1}
    page.get_by_text("All done").wait_for()
    page.keyboard.press("u")
    checked = page.get_by_role("radio", checked=True)
    assert checked.get_attribute("data-value") == ("8" if left else "1")
    page.keyboard.press("1" if left else "8")
    page.keyboard.press("Enter")
    first, second = site.judged(page, 4)[-2:]
    assert second["ranks"] == {GOOD: 1, BAD: 2} and second["task"] == first["task"]
    assert [first["revision"], second["revision"]] == [1, 2]
    page.get_by_text("All done").wait_for()


def test_a_key_held_down_answers_one_question(site):
    """Mutation caught: a second Enter that skips a question, or keys that repeat going through them all."""
    project = make_project(site.store)
    for i in range(5):
        make_task(site.store, project, question=f"Q{i}?")
    page = site.rate(project)
    seen = page.locator("#prompt .body").inner_text()
    page.keyboard.press("3")
    for _ in range(3):
        page.keyboard.down("Enter")  # without up: the later ones are repetitions
    page.evaluate("document.getElementById('submit').click()")
    site.judged(page, 1)
    page.keyboard.up("Enter")
    page.keyboard.down("s")
    for _ in range(3):
        page.keyboard.down("s")
    page.keyboard.up("s")
    site.until(page, lambda: len(site.rows(schema.judgment)) == 2)
    page.wait_for_function("q => document.querySelector('#prompt .body').innerText !== q", arg=seen)
    assert [s["outcome"] for s in site.judged(page, 2)] == ["answer", "skip"]
    assert "2 today" in site.until(
        page, lambda: (t := page.locator("#progress").inner_text()) * ("2 today" in t)
    )


def test_the_keys_are_explained(site):
    """While the dialog is open its keys are nobody's answer."""
    project = make_project(site.store)
    make_task(site.store, project)
    page = site.rate(project)
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    dialog.wait_for()
    page.keyboard.press("s")
    page.keyboard.press("3")
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert page.get_by_role("radio", checked=True).count() == 0
    page.keyboard.press("g")
    assert not page.locator("#guidelines").is_visible()
    page.keyboard.press("r")
    assert page.locator("#raw").get_attribute("aria-pressed") == "true"
    page.keyboard.press("d")
    assert page.locator(".panel ins, .panel del").count() > 0
    assert site.rows(schema.judgment) == []


def test_undo_overtakes_the_next_question(site):
    """Mutation caught: a question that arrives late takes the place of the answer that is being corrected."""
    project = make_project(site.store, order="priority")
    for i in range(3):
        make_task(site.store, project, question=f"Q{i}?")
    page = site.rate(project)
    question = page.locator("#prompt .body")
    page.wait_for_load_state("networkidle")
    held = []
    page.route("**/next", lambda route: held.append(route))
    seen = []
    for n, key in enumerate("12"):
        seen.append(question.inner_text())
        page.keyboard.press(key)
        page.keyboard.press("Enter")
        site.judged(page, n + 1)
    site.until(page, lambda: held)  # the third question is on its way
    page.keyboard.press("u")
    assert question.inner_text() == seen[1]
    with page.expect_response("**/next"):
        held.pop().continue_()
    page.unroute("**/next")
    page.wait_for_load_state("networkidle")
    assert question.inner_text() == seen[1]
    page.keyboard.press("7")
    page.keyboard.press("Enter")
    corrected = site.judged(page, 3)[-1]
    assert (corrected["revision"], corrected["said"]) == (2, {"value": 7})
    page.get_by_role("radio", checked=True).wait_for(state="detached")
    assert question.inner_text() not in seen
    page.keyboard.press("3")
    page.keyboard.press("Enter")
    assert site.judged(page, 4)[-1]["revision"] == 1
    page.get_by_text("All done").wait_for()
