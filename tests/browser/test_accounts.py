"""Below a path prefix; where one is signed in; new passwords; raters who flag everything."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from heedful.store.membership import people
from heedful.web.app import create_app
from workspace import answer, claim, make_project, make_tasks

expect = pytest.importorskip("playwright.sync_api").expect


@contextmanager
def below(site: Any, prefix: str) -> Iterator[str]:
    """The site behind a proxy that takes a prefix off, of which the server knows nothing; its address."""
    app = create_app(site.store, workspace=site.workspace, talk=site.talk)

    async def proxied(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            if not scope["path"].startswith(f"{prefix}/"):
                site.problems.append(f"asked for {scope['path']}")
            path, raw = scope["path"][len(prefix) :], scope["raw_path"][len(prefix) :]
            scope = scope | {"path": path, "raw_path": raw}
        await app(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(proxied, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}{prefix}"
    finally:
        server.should_exit = True
        thread.join(10)


def test_everything_works_below_a_prefix(site):
    """Sign in, rate, lead, sign out. Mutation caught: a path from the root of the site, in a page or a script."""
    project = make_project(site.store)
    make_tasks(site.store, project, 2)
    with below(site, "/heedful") as url:
        site.url = url
        page = site.window()
        page.goto(f"{url}/rate/{project}")
        page.get_by_label("Login").fill("lead")
        page.get_by_label("Password").fill("correct horse 9")
        page.get_by_role("button", name="Sign in").click()
        page.locator("#desk").wait_for()
        page.keyboard.press("1")
        site.enter(page)
        site.judged(page)
        page.get_by_role("link", name="Projects").click()
        page.get_by_role("link", name="capitals").click()
        expect(page.locator("#figures dd").first).to_have_text("1")
        page.get_by_role("link", name="Settings").click()
        page.locator("#settings button").wait_for()
        page.get_by_role("link", name="Runs").click()
        page.get_by_text("No run yet").wait_for()
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url(f"{url}/login")
        for context in site._contexts:
            context.close()
        site._contexts.clear()


def test_an_alert_is_settled_on_the_overview(site):
    """Who it is and what they do; one click pauses them, one takes back what they have set aside."""
    project = make_project(site.store, flags_an_hour=2)
    make_tasks(site.store, project, 5)
    hasty = site.people["rater"]
    site.expect("403")  # of the page, once they are paused
    for _ in range(4):
        given = claim(site.store, project, hasty)
        assert given
        answer(site.store, given, hasty, {"flag": "no"})
    page = site.signed_in("lead", f"/lead/{project}")
    alert = page.locator("#alerts")
    expect(alert).to_contain_text("gone beyond the limit of flags an hour")
    expect(alert).to_contain_text("2 of them set nothing aside")
    alert.get_by_role("button", name="Pause them").click()
    expect(alert).to_contain_text("They are paused.")
    alert.get_by_role("button", name="Take back").click()
    expect(page.locator("#say")).to_contain_text("2 questions are asked again")
    page.goto(f"/lead/{project}/aside")
    page.locator("summary").click()
    page.get_by_role("button", name="Ask these again").click()
    expect(page.locator("#say")).to_contain_text("0 questions are asked again")
    rater = site.signed_in("rater", f"/rate/{project}")
    expect(rater.locator("main")).to_contain_text("account is paused")


def test_sessions_and_new_passwords(site):
    """One ends one's other session; the owner sees and ends anybody's, and gives a link to a new password."""
    other = site.signed_in("rater", "/rate")
    page = site.signed_in("rater", "/account")
    expect(page.locator("#sessions tr")).to_have_count(2)
    page.get_by_role("button", name="Sign out everywhere else").click()
    expect(page.locator("#sessions tr")).to_have_count(1)
    other.reload()
    assert "/login" in other.url
    owner = site.signed_in("owner", "/people")
    with site.store.read() as connection:
        name = people.by_login(connection, "rater").pseudonym
    row = owner.locator("#raters tr").filter(has_text=name)
    row.get_by_role("button", name="Sessions").click()
    expect(owner.locator("#access-rows tr")).to_have_count(1)
    owner.get_by_role("button", name="End all of them").click()
    expect(owner.locator("#access-rows")).to_have_text("Nowhere.")
    owner.get_by_role("button", name="Close").click()
    row.get_by_role("button", name="New password").click()
    expect(owner.locator("#link")).to_contain_text("/reset?token=")
    link = owner.locator("#link").inner_text().rsplit(" ", 1)[1]
    guest = site.window()
    guest.goto(link)
    guest.get_by_label("New password").fill("another horse 10")
    guest.get_by_role("button", name="Set it").click()
    guest.wait_for_url("**/login")
    guest.get_by_label("Login").fill("rater")
    guest.get_by_label("Password").fill("another horse 10")
    guest.get_by_role("button", name="Sign in").click()
    guest.wait_for_url("**/rate")
