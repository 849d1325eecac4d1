"""A lead decides who may come in and who is ready, raters learn and qualify, alerts are acted on: as people see it."""

from __future__ import annotations

from typing import Any

import pytest

from heedful.store.database.db import new_id
from heedful.store.intake import imported
from heedful.store.membership import members
from heedful.store.project import critiques, projects, suggestions
from heedful.store.rating import judging
from heedful.store.tables import schema
from heedful.types import Comparison, Message
from workspace import claim, make_project, make_task, make_tasks

expect = pytest.importorskip("playwright.sync_api").expect


def said(page: Any, words: str) -> None:
    page.locator("#say").get_by_text(words).wait_for()


def gold(site: Any, project: str, n: int) -> None:
    """Questions whose answer is the response "right"; all are explained."""
    asked = [(Message("user", f"Gold {i}?"),) for i in range(n)]
    why = "**Because** of that. <b>$x$</b>"
    both = ("right", "wrong")
    items = [Comparison(prompt, both, (1, 2), explanation=why) for prompt in asked]
    imported.comparisons(site.store, project, items, gold=True)


def choose(site: Any, page: Any, text: str) -> None:
    page.keyboard.press("1" if site.letter(page, text) == "A" else "8")
    site.enter(page)


@pytest.mark.long
def test_training_qualification_and_the_real_work(site):
    """The lesson shows the right letter and the reason, harmlessly; then the verdict; another try; then real questions.
    Mutations caught: the lesson before the answer has arrived, the next question behind it, a verdict in riddles."""
    project = make_project(
        site.store, training_questions=1, qualification_questions=2, qualification_share=1.0
    )
    gold(site, project, 5)
    make_task(site.store, project, question="Real?")
    page = site.rate(project)
    expect(page.locator("#trial")).to_have_text(
        "Training: question 1 of 1. You are told the right answer after yours."
    )
    letter = site.letter(page, "right")
    choose(site, page, "wrong")
    lesson = page.get_by_role("dialog", name="Not what was expected")
    expect(lesson).to_contain_text(f"{letter} is better.")
    expect(lesson.locator("strong")).to_have_text("Because")
    expect(lesson.locator(".katex")).to_have_count(1)
    expect(lesson.locator("b")).to_have_count(0)
    expect(lesson.get_by_role("button")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#trial")).to_contain_text(
        "Qualification: question 1 of 2. 2 of them must be right"
    )
    for text in ("right", "wrong"):
        question = page.locator("#prompt .body").inner_text()
        choose(site, page, text)
        site.gone(page, question)
    page.get_by_text("You answered 1 of 2 questions right; 2 were needed.").wait_for()
    expect(page.locator("#trial")).to_be_hidden()

    lead = site.signed_in("lead", f"/lead/{project}/members")
    name = {r.id: r.pseudonym for r in site.rows(schema.rater)}[site.people["rater"]]
    row = lead.get_by_role("row").filter(has_text=name)
    expect(row).to_contain_text("failed: 1 of 2 right")
    row.get_by_role("button", name="Another try").click()
    said(lead, "gets other questions")
    expect(row).to_contain_text("under way, 0 of 2, try 2")
    page.get_by_role("button", name="Look again").click()
    page.locator("#desk").wait_for()
    for _ in range(2):
        question = page.locator("#prompt .body").inner_text()
        choose(site, page, "right")
        site.gone(page, question)
    expect(page.locator("#prompt")).to_contain_text("Real?")
    expect(page.locator("#trial")).to_be_hidden()
    lead.reload()
    expect(row).to_contain_text("passed: 2 of 2 right, try 2")


def fits_a_phone(page) -> None:
    """No table is cut there, and a cell says which column it is of."""
    page.set_viewport_size({"width": 390, "height": 844})
    cut = "() => [...document.querySelectorAll('.scroll')].filter(s => s.scrollWidth > s.clientWidth).length"
    assert page.evaluate(cut) == 0


@pytest.mark.long
def test_who_may_come_in(site):
    """Closed, a person and a group let in, one paused and let go on: what the page says is what raters get. Mutation
    caught: a group that somebody has chosen is not chosen any more once something else has been done."""
    site.expect("403")
    project = make_project(site.store, "poems")
    make_tasks(site.store, project, 2)
    names = {r.id: r.pseudonym for r in site.rows(schema.rater)}
    name = names[site.people["rater"]]
    people = site.signed_in("lead", "/people")
    people.get_by_label("Name", exact=True).fill("evening")
    people.get_by_role("button", name="Make a group").click()
    said(people, "evening is there.")
    people.get_by_label("Name", exact=True).fill("afternoon")
    people.get_by_role("button", name="Make a group").click()
    said(people, "afternoon is there.")
    people.get_by_role("combobox", name="Add somebody to evening").fill(names[site.people["other"]])
    people.get_by_role("button", name="Add to evening").click()
    said(people, "belongs to evening.")

    lead = site.signed_in("lead", f"/lead/{project}/members")
    lead.locator("#give select[name=group]").select_option(label="evening")
    lead.get_by_label("its members and groups only").check()
    said(lead, "Only members and groups come in now.")
    rater = site.signed_in("rater", "/rate")
    expect(rater.get_by_text("There is no project yet.")).to_be_visible()
    rater.goto(f"/rate/{project}")
    rater.get_by_text("open to its members only").wait_for()
    lead.get_by_role("button", name="Give it this project").click()
    said(lead, "The group has this project.")
    lead.get_by_label("Pseudonym").fill(name)
    lead.get_by_role("button", name="Add", exact=True).click()
    said(lead, f"{name} is a rater here.")
    for login in ("rater", "other"):
        site.signed_in(login, "/rate").get_by_role("link", name="poems").wait_for()
    row = lead.get_by_role("row").filter(has_text=name)
    row.get_by_role("button", name="Pause here").click()
    said(lead, f"{name} is paused in this project.")
    rater.goto(f"/rate/{project}")
    rater.get_by_text("paused in this project").wait_for()
    row.get_by_role("button", name="Let go on").click()
    said(lead, f"{name} may go on here.")
    row.get_by_role("combobox").select_option("reviewer")
    said(lead, f"{name} is a reviewer here.")
    rater.goto(f"/lead/{project}")
    expect(rater.get_by_role("navigation", name="Project").get_by_role("link")).to_have_text(
        ["Overview", "Agreement", "Needs review"]
    )
    for page in (lead, people):
        fits_a_phone(page)
    assert row.get_by_role("cell").first.get_attribute("data-title") == "Role by themselves"


def test_an_alert_is_acted_on(site):
    """Told with its numbers, paused with a click, undone with another; nothing of it for a reviewer."""
    project = make_project(site.store)
    make_tasks(site.store, project, 25)
    bad = site.people["rater"]
    for _ in range(20):
        lease = claim(site.store, project, bad)
        assert lease
        with site.store.write() as connection:
            judging.submit(connection, lease, bad, {"value": 1}, key=new_id(), active_ms=300)
    with site.store.write() as connection:
        members.change(connection, project, site.people["other"], actor=None, role="reviewer")
        projects.change(connection, project, {"access": "members"}, actor=None)
        members.change(connection, project, bad, actor=None, role="rater")
        members.change(connection, project, site.people["lead"], actor=None, role="lead")
    page = site.signed_in("lead", f"/lead/{project}")
    alert = page.locator("#watch .alert")
    expect(alert).to_contain_text(
        "answers too fast to have read: 100 % of the newest (75 % to 100 %, n 20)"
    )
    expect(alert).to_contain_text("prefers what stands first in 100 % of the pairs")
    alert.get_by_role("button", name="Pause").click()
    said(page, "is paused in this project; their answers stay.")
    assert [(m.rater, m.paused) for m in site.rows(schema.project_member) if m.rater == bad] == [
        (bad, True)
    ]
    raters = site.signed_in("lead", f"/lead/{project}/raters")
    expect(raters.locator("#rows tr")).to_contain_text("rater, paused here")
    fits_a_phone(raters)
    alert.get_by_role("button", name="go on").click()
    said(page, "may go on here.")
    assert not any(m.paused for m in site.rows(schema.project_member))
    other = site.signed_in("other", f"/lead/{project}")
    other.wait_for_function("() => !document.querySelector('[aria-busy]')")
    expect(other.locator("#watch")).to_have_count(0)


def test_many_are_invited(site):
    """A pasted list gives each a link of their own; the list says what has become of them."""
    project = make_project(site.store, "poems", access="members")
    page = site.signed_in("owner", "/people")
    page.get_by_label("Into the project").select_option(label="poems")
    page.get_by_label("For whom").fill("name,email\nAda,ada@e.org\nbao@e.org")
    page.get_by_role("button", name="Make a link").click()
    links = page.locator("#links tr")
    expect(links).to_have_count(2)
    expect(links.first.get_by_role("button")).to_have_accessible_name(
        "Copy the link for Ada, ada@e.org"
    )
    url = links.first.locator("code").inner_text()
    guest = site.window()
    guest.goto(url)
    guest.get_by_label("Login").fill("ada")
    guest.get_by_label("Password").fill("correct horse 9")
    guest.get_by_role("button", name="Make my account").click()
    guest.get_by_role("link", name="poems").wait_for()
    page.reload()
    page.get_by_text("All invitations").click()
    states = page.locator("#invitations tr")
    expect(states.filter(has_text="Ada")).to_contain_text("used")
    expect(states.filter(has_text="bao@e.org")).to_contain_text("open")
    states.filter(has_text="bao@e.org").get_by_role("button").click()
    said(page, "Withdrawn.")
    assert [m.role for m in site.rows(schema.project_member) if m.project == project] == ["rater"]


def test_a_suggestion_is_words_beside_the_question(site):
    """Where it is switched on: words by place, nothing chosen by it; the lead reads its effect and switches it off.

    Mutations caught: an answer that is filled in, a line that stays with the next question, a source told to raters."""
    project = make_project(site.store)
    tasks = [make_task(site.store, project, question=f"{i}?") for i in range(3)]
    with site.store.write() as connection:
        suggestions.add(connection, project, "runs/reward", "v1", {t: [1, 2] for t in tasks[:2]})
        shown = {"suggestions": "runs/reward", "suggestions_hidden": 0.0}
        projects.change(connection, project, shown, actor=None)
    page, seen = site.rate(project), 0
    for _ in tasks:
        question = page.locator("#prompt .body").inner_text()
        line = page.locator("#suggestion")
        if question == "2?":
            expect(line).to_be_hidden()
        else:
            better = site.letter(page, "Lima.")
            expect(line).to_have_text(f"A model suggests: {better} is better. It may be wrong.")
            seen += 1
        assert "runs/reward" not in page.content()
        expect(page.locator("#submit")).to_be_disabled()
        choose(site, page, "Lima.")
        site.gone(page, question)
    assert seen == 2
    lead = site.signed_in("lead", f"/lead/{project}/raters")
    agrees = lead.locator("#effects tr", has_text="Say what it suggests")
    expect(agrees).to_contain_text("100 %")
    expect(agrees).to_contain_text("n 2")
    lead.goto(f"/lead/{project}/settings")
    choice = lead.get_by_label("Suggestions that raters see")
    expect(choice).to_have_value("runs/reward")
    choice.select_option("nobody's")
    lead.locator("#settings").get_by_role("button", name="Save").click()
    lead.get_by_text("Saved.").wait_for()
    with site.store.read() as connection:
        assert projects.settings_of(connection, project).suggestions == ""


def test_a_critique_is_there_for_who_asks(site):
    """By a button or by `m`, as plain words beside the response, until then nowhere; the lead reads who asked.

    Mutations caught: words that run as HTML, in the page before they were asked for, beside the other response, gone
    after an undo, a button where nothing can be asked, an asking that is not told to the lead."""
    project = make_project(site.store)
    tasks = [make_task(site.store, project, question=f"{i}?") for i in range(3)]
    words = "No <b>capital</b>."
    with site.store.write() as connection:
        said = {t: [words, "Vague."] for t in tasks[:2]}
        critiques.add(
            connection, project, "runs/critic", "v1", {**said, tasks[1]: [None, "Vague."]}
        )
        changed = {"critiques": "runs/critic", "critiques_hidden": 0.0}
        projects.change(connection, project, changed, actor=None)
    page = site.rate(project)
    for _ in tasks:
        question = page.locator("#prompt .body").inner_text()
        buttons = page.locator(".panel-tools button", has_text="Critique")
        notes = page.locator(".critic")
        expect(buttons).to_have_count(2 - int(question[0]))
        assert "Vague" not in page.content() and "runs/critic" not in page.content()
        if question == "0?":
            page.keyboard.press("m")
            expect(notes.filter(has_text=words)).to_be_visible()
            letter = site.letter(page, "Lima.")
            panel = page.locator(".panel", has_text="Lima.")
            expect(panel.locator(".critic")).to_contain_text(
                f"A model's critique of {letter} It may be wrong."
            )
            expect(buttons.first).to_be_hidden()
        elif question == "1?":
            buttons.click()
            expect(notes).to_contain_text("Vague.")
            expect(notes).to_be_focused()
        choose(site, page, "Lima.")
        site.gone(page, question)
    for _ in tasks:
        page.keyboard.press("u")
    expect(
        page.locator(".critic:visible").first
    ).to_be_visible()  # the first question again, with what was asked
    lead = site.signed_in("lead", f"/lead/{project}/raters")
    expect(lead.locator("#critic-effects tr", has_text="Asked for one")).to_contain_text("100 %")
    lead.goto(f"/lead/{project}/questions")
    lead.locator("#questions > li", has_text="0?").get_by_role("button", name="Open").click()
    expect(lead.get_by_text("asked what runs/critic says against A")).to_be_visible()
    lead.goto(f"/lead/{project}/settings")
    expect(lead.get_by_label("Critiques of responses that raters can ask for")).to_have_value(
        "runs/critic"
    )
    choice = lead.get_by_label("Critiques of responses that raters can ask for")
    choice.select_option("nobody's")
    lead.locator("#settings").get_by_role("button", name="Save").click()
    lead.get_by_text("Saved.").wait_for()
    with site.store.read() as connection:
        assert projects.settings_of(connection, project).critiques == ""
