"""When lines break and sessions end: no answer lost, none counted twice."""

from __future__ import annotations

from typing import Any

import pytest

from heedful.store.tables import schema
from workspace import make_project, make_tasks

expect = pytest.importorskip("playwright.sync_api").expect
LOST = "Failed to load resource"


def answer(page: Any, key: str = "1") -> None:
    """A question that is new on the screen: one that was answered stays there until the next comes."""
    expect(page.locator("#submit")).to_be_visible()
    expect(page.locator("#submit")).to_be_disabled()
    page.keyboard.press(key)
    page.locator("#submit:enabled").wait_for()
    page.keyboard.press("Enter")


def kept(page: Any, n: int) -> None:
    words = "1 answer is kept" if n == 1 else f"{n} answers are kept"
    page.locator("#outbox").get_by_text(words).wait_for()


def delivered(page: Any) -> None:
    page.locator("#outbox").wait_for(state="hidden")


def test_a_draft_survives_a_reload(site):
    """Choice and comment are there again, and nothing was sent."""
    project = make_project(site.store)
    make_tasks(site.store, project, 3)
    page = site.rate(project)
    question = page.locator("#prompt .body").inner_text()
    page.keyboard.press("7")
    page.get_by_role("textbox", name="Comment").fill("not yet sure")
    page.reload()
    page.locator("#desk").wait_for()
    expect(page.locator("#prompt .body")).to_have_text(question)
    expect(page.get_by_role("radio", checked=True)).to_have_attribute("data-value", "7")
    expect(page.get_by_role("textbox", name="Comment")).to_have_value("not yet sure")
    assert site.rows(schema.judgment) == []
    site.enter(page)
    assert site.judged(page)[0]["text"] == "not yet sure"
    assert page.evaluate("Object.keys(localStorage).length") <= 1  # the next question's, if any


def test_offline_and_back(site):
    """Two answers wait on the device, are sent once each, and the work goes on by itself."""
    site.expect(LOST)
    project = make_project(site.store)
    make_tasks(site.store, project, 3)
    page = site.rate(project)
    posts = []
    page.on("request", lambda r: posts.append(r) if r.url.endswith("/judgments") else None)
    site.ahead(page)
    page.context.set_offline(True)
    answer(page, "2")
    kept(page, 1)
    answer(page, "7")
    kept(page, 2)
    page.get_by_text("No connection").wait_for()
    assert site.rows(schema.judgment) == []
    page.context.set_offline(False)
    delivered(page)
    assert [s["said"]["value"] for s in site.judged(page, 2)] == [2, 7]
    page.locator("#desk").wait_for()
    answer(page, "4")
    assert {s["revision"] for s in site.judged(page, 3)} == {1}


def test_an_answer_outlives_the_page(site):
    """The server cannot be reached when it is given; the page is loaded anew before it can."""
    site.expect(LOST)
    project = make_project(site.store)
    make_tasks(site.store, project, 1)
    page = site.rate(project)
    page.route("**/judgments", lambda route: route.abort())
    answer(page)
    kept(page, 1)
    page.reload()
    kept(page, 1)
    assert site.rows(schema.judgment) == []
    page.unroute("**/judgments")
    page.reload()
    page.get_by_text("All done").wait_for()
    assert site.judged(page)[0]["revision"] == 1
    kept_here = """() => new Promise(done => { const r = indexedDB.open("heedful"); r.onsuccess = () =>
        r.result.transaction("answers").objectStore("answers").count().onsuccess = (e) => done(e.target.result); })"""
    site.until(page, lambda: page.evaluate(kept_here) == 0)


def test_a_lost_acknowledgement(site):
    """The server has it, the page does not know. Mutation caught: a new key for each attempt."""
    site.expect(LOST)
    project = make_project(site.store)
    make_tasks(site.store, project, 1)
    page = site.rate(project)
    keys = []

    def lose(route: Any) -> None:
        keys.append(route.request.headers["idempotency-key"])
        reply = route.fetch()
        if len(keys) == 1:
            assert reply.status == 201
            route.abort()
        else:
            assert reply.status == 200
            route.fulfill(response=reply)

    page.route("**/judgments", lose)
    answer(page)
    kept(page, 1)
    delivered(page)
    assert len(keys) == 2 and keys[0] == keys[1]
    assert site.judged(page)[0]["revision"] == 1


def test_a_database_that_cannot_take_it_now(site):
    """503: kept, asked again, stored once."""
    site.expect("503")
    project = make_project(site.store)
    make_tasks(site.store, project, 2)
    page = site.rate(project)
    refused = []

    def busy(route: Any) -> None:
        if refused:
            route.continue_()
            return
        refused.append(route.request.headers["idempotency-key"])
        body = '{"error": "the database cannot take this now"}'
        headers = {"Retry-After": "1", "Content-Type": "application/json"}
        route.fulfill(status=503, headers=headers, body=body)

    page.route("**/judgments", busy)
    answer(page)
    kept(page, 1)
    delivered(page)
    assert site.judged(page)[0]["revision"] == 1
    (row,) = site.rows(schema.judgment, "idempotency_key")
    assert [row.idempotency_key] == refused


def test_a_refused_answer_is_shown(site):
    """What the server will never take is not sent again and again, and not thrown away."""
    site.expect("400")
    project = make_project(site.store)
    make_tasks(site.store, project, 2)
    page = site.rate(project)
    body = '{"error": "no, because"}'
    page.route("**/judgments", lambda r: r.fulfill(status=400, body=body))
    answer(page, "3")
    page.get_by_text("An answer was refused: no, because").wait_for()
    expect(page.locator("#outbox code")).to_have_text('{"value":3}')
    page.unroute("**/judgments")
    page.get_by_role("button", name="Discard it").click()
    delivered(page)
    answer(page, "4")
    assert site.judged(page)[0]["said"] == {"value": 4}


def test_a_session_that_ends(site):
    """The answer waits for its rater to sign in again in another tab, and is sent once."""
    site.expect("401", "403")
    project = make_project(site.store)
    make_tasks(site.store, project, 2)
    page = site.rate(project)
    site.ahead(page)
    page.context.clear_cookies()
    answer(page, "6")
    kept(page, 1)
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Sign in").click()
    tab = opened.value
    tab.get_by_label("Login").fill("rater")
    tab.get_by_label("Password").fill("correct horse 9")
    tab.get_by_role("button", name="Sign in").click()
    tab.get_by_text("What would you like to judge?").wait_for()
    tab.close()
    delivered(page)
    assert site.judged(page)[0]["said"] == {"value": 6}
    answer(page, "5")
    assert site.judged(page, 2)[-1]["said"] == {"value": 5}


def test_somebody_else_signs_in(site):
    """Mutation caught: answers of one rater sent under another's name."""
    site.expect("401", "403")
    project = make_project(site.store)
    make_tasks(site.store, project, 3)
    page = site.rate(project)
    site.ahead(page)
    page.context.clear_cookies()
    site.sign_in(page.context, "other")
    answer(page)
    kept(page, 1)
    tab = page.context.new_page()
    tab.goto(f"/rate/{project}")
    tab.locator("#desk").wait_for()
    expect(tab.locator("#outbox")).to_be_hidden()
    answer(tab)
    assert [s["rater"] for s in site.judged(tab)] == [site.people["other"]]
    kept(page, 1)


def test_signed_in_again_with_nothing_to_send(site):
    """The page's CSRF token is an old one by then; looking again has to get along with that."""
    site.expect("401", "403")
    project = make_project(site.store)
    page = site.signed_in("rater", f"/rate/{project}")
    page.get_by_text("All done").wait_for()
    page.context.clear_cookies()
    page.get_by_role("button", name="Look again").click()
    page.get_by_text("You are signed out").wait_for()
    site.sign_in(page.context, "rater")
    make_tasks(site.store, project, 1)
    page.get_by_role("button", name="Look again").click()
    page.locator("#desk").wait_for()
    answer(page)
    assert len(site.judged(page)) == 1


def test_two_tabs(site):
    """One rater, two tabs, different questions; what both keep while offline is sent once."""
    site.expect(LOST)
    project = make_project(site.store)
    make_tasks(site.store, project, 4)
    one = site.rate(project)
    site.ahead(one)
    two = one.context.new_page()
    two.goto(f"/rate/{project}")
    two.locator("#desk").wait_for()
    site.ahead(two)
    one.context.set_offline(True)
    answer(one, "1")
    kept(one, 1)
    answer(two, "8")
    kept(two, 2)
    one.context.set_offline(False)
    delivered(one)
    delivered(two)
    said = site.judged(one, 2)
    assert {s["said"]["value"] for s in said} == {1, 8}
    assert {s["disposition"] for s in said} == {"counted"}
