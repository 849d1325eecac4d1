"""A lead looks through a project's questions, acts on some, and ends projects."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import select

from heedful.store.tables import schema
from workspace import make_project, make_tasks

expect = pytest.importorskip("playwright.sync_api").expect


def ready(page: Any) -> None:
    page.wait_for_function("() => !document.querySelector('[aria-busy]')")


def states(site: Any) -> list[str]:
    return sorted(row.state for row in site.rows(schema.task_slot, "state"))


def test_questions_are_found_opened_and_acted_upon(site):
    """By words, with the filter in the address; a selection and all that match; a history with who said what.

    Mutations caught: an action on what is shown where all that match were meant, and the other way round."""
    project = site.worked_in()
    site.expect("Withdraw.*3 questions", "Set aside.*2 questions")
    make_tasks(site.store, project, 60)
    page = site.signed_in("lead", f"/lead/{project}/questions")
    ready(page)
    items = page.locator("#questions > li")
    expect(items).to_have_count(50)
    expect(page.locator("#total")).to_have_text("65 questions match")
    page.get_by_role("button", name="Older questions").click()
    expect(items).to_have_count(65)
    page.get_by_label("Words").fill('"what is 1"')
    page.get_by_role("button", name="Find").click()
    ready(page)
    expect(page.locator("#total")).to_have_text("12 questions match")
    assert "text=" in page.url
    expect(items.first.locator("mark")).to_have_text("What is 1")  # whatever its case
    page.get_by_label("Words").fill("big")
    page.get_by_text("More filters").click()
    page.get_by_label("raters disagree").check()
    page.get_by_role("button", name="Find").click()
    expect(items).to_have_count(1)
    page.reload()
    ready(page)
    expect(items).to_have_count(1)
    expect(page.get_by_label("raters disagree")).to_be_checked()
    items.get_by_role("button", name="Open").click()
    events = items.locator(".events > li")
    expect(events).to_have_count(4)
    expect(events.last).to_contain_text("answered: ")
    page.get_by_label("raters disagree").uncheck()
    page.get_by_label("Words").fill('"What is 12 + 12" ')
    page.get_by_role("button", name="Find").click()
    ready(page)
    expect(page.locator("#total")).to_have_text("1 question matches")
    items.get_by_role("checkbox").check()
    page.get_by_role("button", name="Apply to 1").click()
    page.get_by_text("1 questions, 1 answers wanted changed.").wait_for()
    assert states(site).count("closed") == 1
    page.get_by_label("Words").fill('"What is 2"')
    page.get_by_label("State").select_option("open")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("#total")).to_have_text("11 questions match")
    ready(page)
    for i in range(3):
        items.nth(i).get_by_role("checkbox").check()
    page.get_by_role("button", name="Apply to 3").click()
    page.get_by_text("3 questions, 3 answers wanted changed.").wait_for()
    expect(page.locator("#total")).to_have_text("8 questions match")
    page.get_by_label("all that match").check()
    page.get_by_label("What to do").select_option("export")
    with page.expect_download() as given:
        page.get_by_role("button", name="Apply to 8").click()
    assert given.value.path().read_text() == ""  # nobody has answered these
    page.get_by_label("State").select_option("done")
    page.get_by_label("Words").fill("big")
    page.get_by_role("button", name="Find").click()
    ready(page)
    page.get_by_label("all that match").check()
    with page.expect_download() as given:
        page.get_by_role("button", name="Apply to 4").click()
    rows = [json.loads(line) for line in given.value.path().read_text().splitlines()]
    assert len(rows) == 8 and {"ranks", "rater"} <= set(rows[0])


def test_a_project_is_renamed_archived_and_deleted(site):
    """Raters see it no more; an owner brings it back. Mutation caught: a name that is not quite the project's."""
    project = make_project(site.store, "towns")
    page = site.signed_in("owner", f"/lead/{project}/settings")
    page.get_by_role("textbox", name="Name", exact=True).fill("villages")
    page.get_by_role("button", name="Rename").click()
    expect(page.get_by_role("heading", name="villages")).to_be_visible()
    rater = site.signed_in("rater", "/rate")
    expect(rater.get_by_role("heading", name="villages")).to_be_visible()
    page.get_by_role("button", name="Archive").click()
    page.wait_for_url("**/lead")
    ready(page)
    page.get_by_text("There is no project yet.").wait_for()
    rater.reload()
    expect(rater.get_by_role("heading", name="villages")).to_have_count(0)
    page.get_by_label("Show").select_option("archived")
    page.get_by_role("link", name="Open").click()
    ready(page)
    page.get_by_role("link", name="Settings").click()
    page.get_by_text("Delete it", exact=True).click()
    page.get_by_label("Type its name").fill("village")
    site.expect("400")
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_text("type its name exactly").wait_for()
    page.get_by_label("Type its name").fill("villages")
    page.get_by_role("button", name="Delete", exact=True).click()
    page.wait_for_url("**/lead")
    page.get_by_label("Show").select_option("deleted")
    page.get_by_role("button", name="Bring it back").click()
    page.get_by_text("villages is back.").wait_for()
    with site.store.read() as connection:
        row = connection.execute(select(schema.project)).one()
    assert (row.name, row.deleted_at) == ("villages", None)
