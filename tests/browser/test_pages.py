"""The pages around rating, as an owner, a lead and a rater use them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from heedful.store.membership import people
from heedful.store.tables import schema
from workspace import make_project, make_task

expect = pytest.importorskip("playwright.sync_api").expect
PASSWORD = "correct horse 9"


def ready(page: Any) -> None:
    """Whatever the page fetches is there."""
    page.wait_for_function("() => !document.querySelector('[aria-busy]')")


def said(page: Any, words: str) -> None:
    page.locator("#say").get_by_text(words).wait_for()


def at(site: Any, page: Any, path: str) -> None:
    """The whole address: a pattern for its end fits `/login?next=` as well."""
    page.wait_for_url(site.url + path)


def fill(page: Any, **fields: str) -> None:
    for label, value in fields.items():
        page.get_by_label(label).fill(value)


def test_the_first_owner(empty):
    """From the link in the terminal to an account; the link is worth nothing afterwards, says so before anybody has
    typed a password, and what to do."""
    page = empty.window()
    page.goto("/")
    page.get_by_text("Nobody is here yet").wait_for()
    with empty.store.write() as connection:
        token = people.first_start(connection)
    page.goto(f"/setup?token={token}")
    fill(page, Login="ada@example.org", Password=PASSWORD)
    page.get_by_role("textbox", name="Name if you like").fill("Ada")
    page.get_by_role("button", name="Make my account").click()
    page.get_by_role("heading", name="Projects").wait_for()
    page.goto("/account")
    expect(page.locator("main")).to_contain_text(", owner.")
    (row,) = empty.rows(schema.rater_pii)
    assert (row.login, row.name) == ("ada@example.org", "Ada") and PASSWORD not in row.password_hash
    empty.expect("410")
    late = empty.window()
    late.goto(f"/setup?token={token}")
    late.get_by_role("heading", name="This link has been used").wait_for()
    late.get_by_text("heedful people reset LOGIN").wait_for()


def test_signing_in_and_out(site):
    """A wrong password, a right one, back to where one wanted to go, and out again."""
    site.expect("401")
    project = make_project(site.store)
    page = site.window()
    page.goto(f"/lead/{project}/raters")
    assert "/login?next=" in page.url
    fill(page, Login="lead", Password="not the password")
    page.get_by_role("button", name="Sign in").click()
    said(page, "login or password is wrong")
    assert site.rows(schema.session) == []
    fill(page, Login=" LEAD ", Password=PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    at(site, page, f"/lead/{project}/raters")
    ready(page)
    page.get_by_role("button", name="Sign out").click()
    at(site, page, "/login")
    assert site.rows(schema.session) == []
    page.goto("/account")
    assert "/login?next=" in page.url


def test_a_link_to_elsewhere_is_not_followed(site):
    """Mutation caught: ?next= that leads to another site after signing in."""
    page = site.window()
    page.goto("/login?next=//elsewhere.test/")
    fill(page, Login="rater", Password=PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="What would you like to judge?").wait_for()


def test_an_invitation(site):
    """An owner makes a link, somebody new opens it elsewhere, and can rate and nothing more."""
    site.expect("403")
    page = site.signed_in("owner", "/people")
    page.get_by_role("button", name="Make a link").click()
    secret = page.locator("#links")
    secret.get_by_role("row").wait_for()
    link = re.search(r"http\S+", secret.inner_text())
    assert link
    guest = site.window()
    guest.goto(link[0])
    fill(guest, Login="bao", Password=PASSWORD)
    guest.get_by_role("button", name="Make my account").click()
    guest.get_by_role("heading", name="What would you like to judge?").wait_for()
    expect(guest.get_by_role("link", name="People")).to_have_count(0)
    guest.goto("/people")
    guest.get_by_text("This page is for leads.").wait_for()
    page.reload()
    row = page.get_by_role("row").filter(has_text="bao")
    row.wait_for()
    expect(row.get_by_role("combobox", name="role")).to_have_value("rater")
    row.get_by_role("spinbutton", name="Daily limit").fill("7")
    row.get_by_role("spinbutton", name="Daily limit").press("Tab")
    said(page, "Saved.")
    (bao,) = [r for r in site.rows(schema.rater_pii) if r.login == "bao"]
    (rater,) = [r for r in site.rows(schema.rater) if r.id == bao.rater]
    assert rater.settings == {"daily_limit": 7} and rater.role == "rater"
    site.expect("Forget who .* is")
    page.get_by_role("row").filter(has_text="bao").get_by_role("button", name="Erase").click()
    said(page, "is forgotten.")
    assert "bao" not in {r.login for r in site.rows(schema.rater_pii)}


def test_withdrawn_invitations_are_worth_nothing(site):
    site.expect("400")
    page = site.signed_in("lead", "/people")
    page.get_by_role("button", name="Make a link").click()
    page.locator("#links tr").wait_for()
    link = re.search(r"http\S+", page.locator("#links").inner_text())
    assert link
    roles = page.get_by_role("combobox", name="As", exact=True)
    expect(roles.locator("option")).to_have_count(1)
    page.get_by_text("All invitations").click()
    page.get_by_role("button", name="Withdraw").first.click()
    said(page, "Withdrawn.")
    site.expect("410")
    guest = site.window()
    guest.goto(link[0])
    guest.get_by_role("heading", name="This link is not valid").wait_for()


def test_tokens_and_a_new_password(site):
    """A token is shown once and works until it is revoked; a new password ends other sessions."""
    elsewhere = site.signed_in("rater", "/account")
    page = site.signed_in("rater", "/account")
    page.get_by_label("Name").fill("script")
    page.get_by_role("checkbox", name="rate").check()
    page.get_by_role("button", name="Make a token").click()
    secret = page.locator("#secret")
    secret.wait_for()
    token = re.search(r"hf_\S+", secret.inner_text())
    assert token
    asked = {"Authorization": f"Bearer {token[0]}"}
    other = site.window()
    assert other.request.get("/api/me", headers=asked).json()["scopes"] == ["rate", "read"]
    page.get_by_role("row").filter(has_text="script").get_by_role("button", name="Revoke").click()
    said(page, "script is revoked.")
    assert other.request.get("/api/me", headers=asked).status == 401
    expect(page.locator("#tokens").get_by_text("revoked")).to_have_count(1)

    fill(page, **{"Old password": "wrong, surely", "New password": "battery staple 8"})
    site.expect("403", "401")
    page.get_by_role("button", name="Change it").click()
    said(page, "the old password is wrong")
    page.get_by_label("Old password").fill(PASSWORD)
    page.get_by_label("New password").fill("battery staple 8")
    with page.expect_navigation():
        page.get_by_role("button", name="Change it").click()
    page.get_by_role("heading", name="Your account").wait_for()
    elsewhere.reload()
    assert "/login" in elsewhere.url
    fill(elsewhere, Login="rater", Password=PASSWORD)
    elsewhere.get_by_role("button", name="Sign in").click()
    said(elsewhere, "login or password is wrong")
    fill(elsewhere, Login="rater", Password="battery staple 8")
    elsewhere.get_by_role("button", name="Sign in").click()
    at(site, elsewhere, "/account")


def hold(page: Any, method: str, pattern: str) -> list[Any]:
    """Requests that wait for `release`, in the order in which the page made them."""
    held: list[Any] = []
    page.route(pattern, lambda r: held.append(r) if r.request.method == method else r.continue_())
    return held


def release(page: Any, route: Any) -> None:
    """Until the page has the answer."""
    with page.expect_event("requestfinished", lambda r: r == route.request):
        route.continue_()


def test_what_is_said_is_on_the_page(site):
    """Mutation caught: "revoked" said while the list below it still offers to revoke."""
    page = site.signed_in("rater", "/account")
    page.get_by_label("Name").fill("script")
    page.get_by_role("button", name="Make a token").click()
    revoke = page.get_by_role("row").filter(has_text="script").get_by_role("button", name="Revoke")
    revoke.wait_for()
    held = hold(page, "GET", "**/api/tokens")
    revoke.click()
    site.until(page, lambda: held)
    assert [t.revoked_at is None for t in site.rows(schema.api_token)] == [False]
    expect(page.locator("#say")).to_be_empty()
    release(page, held[0])
    said(page, "script is revoked.")
    assert page.locator("#tokens").get_by_text("revoked").count() == 1


def test_an_old_list_does_not_replace_a_newer_one(site):
    """Answers overtake each other. Mutation caught: the last to arrive is drawn, not the last asked for."""
    page = site.window("rater")
    held = hold(page, "GET", "**/api/tokens")
    page.goto("/account")
    site.until(page, lambda: held)
    page.get_by_label("Name").fill("script")
    page.get_by_role("button", name="Make a token").click()
    first, second = site.until(page, lambda: held if len(held) == 2 else None)
    release(page, second)
    row = page.locator("#tokens").get_by_role("row")
    expect(row).to_have_count(1)
    first.fulfill(json=[])  # as the server had answered it
    page.evaluate("() => new Promise((done) => setTimeout(done, 300))")
    expect(row).to_have_count(1)


def test_what_is_typed_while_a_change_is_saved_stays(site):
    """The limit is on its way, the next field has the focus. Mutation caught: rows drawn again under the hands."""
    page = site.signed_in("owner", "/people")
    row = page.get_by_role("row").filter(has_text="other")
    row.wait_for()
    page.wait_for_load_state("networkidle")
    held = hold(page, "PATCH", "**/api/raters/*")
    row.get_by_role("spinbutton", name="Daily limit").fill("7")
    page.keyboard.press("Tab")
    page.keyboard.type("12.5")
    site.until(page, lambda: held)
    release(page, held[0])
    said(page, "Saved.")
    page.wait_for_load_state("networkidle")
    cost = row.get_by_role("spinbutton", name="Cost an hour")
    expect(cost).to_be_focused()
    expect(cost).to_have_value("12.5")
    page.unroute("**/api/raters/*")
    page.keyboard.press("Tab")
    wanted = {"daily_limit": 7, "cost_per_hour": 12.5}
    rater = site.people["other"]
    site.until(
        page, lambda: [r.settings for r in site.rows(schema.rater) if r.id == rater] == [wanted]
    )


def test_a_new_project(site):
    """An empty one has every page, too."""
    page = site.signed_in("lead", "/lead")
    page.get_by_text("There is no project yet.").wait_for()
    page.get_by_label("Name").fill("poems")
    page.get_by_role("button", name="Create").click()
    page.get_by_role("heading", name="poems").wait_for()
    (made,) = site.rows(schema.project)
    assert made.name == "poems" and page.url.endswith(f"/lead/{made.id}/screen")
    for part in (
        "Overview",
        "Raters",
        "Agreement",
        "Labels and models",
        "Needs review",
        "Settings",
    ):
        page.get_by_role("link", name=part, exact=True).click()
        expect(page.locator("[aria-current=page]").last).to_have_text(part)
        ready(page)
    page.goto("/lead")
    page.get_by_role("link", name="poems").wait_for()


def test_a_form_before_its_script_keeps_what_was_typed(site):
    """Mutation caught: the browser sends it by itself, into the page's address, and the page begins anew."""
    held: list[Any] = []
    page = site.window("lead")
    page.route("**/static/lead/projects.js", lambda route: held.append(route))
    page.goto("/lead", wait_until="commit")
    page.get_by_label("Name").fill("poems")
    page.get_by_role("button", name="Create").click()
    page.wait_for_timeout(50)
    expect(page.get_by_label("Name")).to_have_value("poems")
    assert page.url == f"{site.url}/lead"
    held[0].continue_()
    page.wait_for_load_state()
    page.get_by_role("button", name="Create").click()
    page.get_by_role("heading", name="poems").wait_for()


def test_what_a_lead_reads(site):
    """Each page of a project says what is in the database."""
    project = site.worked_in()
    names = {r.id: r.pseudonym for r in site.rows(schema.rater)}
    page = site.signed_in("lead", f"/lead/{project}")
    ready(page)
    figures = page.locator("#figures > div").all_inner_texts()
    assert any(f.split("\n")[:2] == ["Answers that count", "8"] for f in figures)
    assert any(f.split("\n")[:2] == ["Needs review", "1"] for f in figures)
    ways = dict(r.rsplit("\t", 1) for r in page.locator("#ways tr").all_inner_texts())
    assert ways["stored in all"] == "9"

    page.goto(f"/lead/{project}/raters")
    row = page.locator("#rows tr").filter(has_text=names[site.people["rater"]])
    expect(row.locator("td").nth(0)).to_have_text("4")
    expect(row.locator("td").nth(1)).to_have_text("0 skipped, 1 flagged")
    expect(row.locator("td").nth(4)).to_contain_text("75 %")  # agrees with the other on 3 of 4

    page.goto(f"/lead/{project}/agreement")
    ready(page)
    expect(page.locator("#measures tr").filter(has_text="pair")).not_to_have_count(0)
    expect(page.locator("article.question").first).to_contain_text("What is 0?")
    expect(page.locator("article.question .katex")).not_to_have_count(0)

    page.goto(f"/lead/{project}/labels")
    page.get_by_role("heading", name="pair, 8 answers").wait_for()
    ready(page)
    page.locator("#models summary").click()
    rows = page.locator("#models tbody tr").all_inner_texts()
    assert [r.split("\t")[:2] for r in sorted(rows)] == [["big", "88 %"], ["small", "13 %"]]
    page.locator("#elo summary").click()
    told = page.locator("#elo tbody tr").all_inner_texts()
    assert [r.split("\t")[:2] for r in told] == [["big", "1140"], ["small", "860"]]
    page.get_by_role("combobox", name="Of").select_option(label=names[site.people["other"]])
    page.get_by_role("heading", name="pair, 4 answers").wait_for()


def test_judging_a_disagreement(site):
    """The lead's own answer stands beside the raters'."""
    project = site.worked_in()
    page = site.signed_in("lead", f"/lead/{project}/agreement")
    page.get_by_role("button", name="Judge it myself").first.click()
    page.wait_for_url("**/rate/**assignment=**")
    page.locator("#desk").wait_for()
    expect(page.locator("#prompt")).to_contain_text("What is 0?")
    page.keyboard.press("1")
    site.enter(page)
    mine = site.judged(page, 10)[-1]
    assert mine["rater"] == site.people["lead"]
    page.get_by_role("link", name="Back to the project").click()
    reviewed = page.locator("article.question").filter(has_text="What is 0?")
    reviewed.get_by_text("(review)").wait_for()
    expect(reviewed.get_by_role("button", name="Judge it myself")).to_have_count(0)


def test_what_was_set_aside(site):
    """Asked again, or never again."""
    project = site.worked_in()
    page = site.signed_in("lead", f"/lead/{project}/aside")
    flagged = page.locator("article.question")
    expect(flagged).to_contain_text("What is unclear?")
    expect(flagged).to_contain_text("cannot be *understood*")

    def states() -> list[str]:
        mine = [r for r in site.rows(schema.task_slot) if r.task == task]
        return [r.state for r in mine]

    (task,) = [j["task"] for j in site.judged(page, 9) if j["outcome"] == "flag"]
    assert states() == ["parked"]
    page.get_by_role("button", name="Ask it again", exact=True).click()
    said(page, "It is asked again.")
    assert page.get_by_text("Nothing here.").count() == 1  # by then
    assert states() == ["open"]
    page.get_by_label("Show").select_option("all")
    page.get_by_role("button", name="Never ask it again").click()
    said(page, "Closed.")
    assert states() == ["closed"]


def test_settings_and_guidelines(site):
    """What is saved is what raters then get. A formula that is none stays as it was written, and breaks no rule of the
    page's."""
    project = make_project(site.store)
    for name in ("one", "two"):
        (site.workspace / name).mkdir()
        (site.workspace / name / "config.json").write_text("{}")
    page = site.signed_in("lead", f"/lead/{project}/settings")
    ready(page)
    page.get_by_text("of two, one").wait_for()  # the newest first
    page.get_by_label("Daily limit of answers per rater").fill("1")
    page.get_by_label("Order of questions").select_option("priority")
    page.get_by_label("Models to talk to").fill("one\n\n two \n")
    page.get_by_role("button", name="Save").click()
    said(page, "Saved.")
    (row,) = site.rows(schema.project)
    kept = row.settings
    assert (kept["daily_limit"], kept["order"], kept["gold_rate"]) == (1, "priority", 0.0)
    assert list(kept["models"]) == ["one", "two"]
    page.get_by_label("What raters read").fill("# Be *fair*\n\n<b>$x^2$</b> $\\frac{1$")
    page.get_by_role("button", name="Write a new version").click()
    page.locator("#preview h1 em").wait_for()
    expect(page.locator("#preview .katex")).to_have_count(1)
    expect(page.locator("#preview b")).to_have_count(0)
    expect(page.locator("#preview .math").last).to_have_text("\\frac{1")
    page.reload()
    page.locator("#preview h1").wait_for()
    expect(page.get_by_label("What raters read")).to_have_value(
        "# Be *fair*\n\n<b>$x^2$</b> $\\frac{1$"
    )
    for i in range(2):
        make_task(site.store, project, question=f"Q{i}?")
    rater = site.rate(project)
    expect(rater.locator("#guidelines h1")).to_have_text("Be fair")
    rater.keyboard.press("1")
    site.enter(rater)
    rater.get_by_text("Enough for today").wait_for()


def test_saving_settings_keeps_what_is_being_typed(site):
    """An answer that comes late overwrites neither the guidelines nor a setting that was typed in the meantime."""
    project = make_project(site.store)
    page = site.signed_in("lead", f"/lead/{project}/settings")
    ready(page)
    held = hold(page, "PATCH", f"**/api/projects/{project}")
    page.get_by_role("button", name="Save").click()
    site.until(page, lambda: held)
    page.get_by_label("What raters read").fill("half a thought")
    page.get_by_label("Daily limit of answers per rater").fill("5")
    release(page, held[0])
    said(page, "Saved.")
    page.wait_for_load_state("networkidle")
    ready(page)
    expect(page.get_by_label("What raters read")).to_have_value("half a thought")
    expect(page.get_by_label("Daily limit of answers per rater")).to_have_value("5")


def test_files_out_and_in(site, tmp_path):
    """The rows of a download are those of the database; those of an upload become questions. A look that a change of
    the form has overtaken is not shown, and a file that was written to since says so.

    Mutations caught: the answer to an earlier look shown for the newest; focus that leaves the columns."""
    project = site.worked_in()
    page = site.signed_in("lead", f"/lead/{project}/files")
    with page.expect_download() as coming:
        page.get_by_role("button", name="Download").click()
    assert coming.value.suggested_filename == "comparisons.jsonl"
    rows = [json.loads(line) for line in coming.value.path().read_text().splitlines()]
    assert len(rows) == 8
    assert sorted(r["chosen"][:3] for r in map(flat, rows)) == ["big"] * 7 + ["sma"]
    page.get_by_text("8 rows in comparisons.jsonl.").wait_for()

    lines = [{"prompt": f"P{i // 2}", "completion": f"C{i}", "model": "m"} for i in range(4)]
    new = tmp_path / "samples.jsonl"
    new.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page.get_by_label("It holds").select_option("samples")
    page.get_by_label("Ask raters to").select_option("pair")
    page.get_by_label("Answers to each question").fill("3")
    page.get_by_label("File", exact=False).set_input_files(new)
    before = len(site.rows(schema.task))
    page.get_by_role("button", name="Look at it").click()
    page.get_by_text("4 responses, 2 prompts.").wait_for()
    assert page.locator("#look-rows .texts").first.locator("li").count() == 2
    assert len(site.rows(schema.task)) == before
    page.get_by_role("button", name="Import").click()
    page.locator("#added").get_by_text("Added").wait_for()
    tasks = site.rows(schema.task)
    assert len(tasks) == before + 2
    assert sorted(t.overlap for t in tasks)[-2:] == [3, 3]
    new.write_text('{"question": "Why?", "text": "So."}\n')
    page.get_by_label("File", exact=False).set_input_files(new)
    page.get_by_role("button", name="Look at it").click()
    page.locator("#look-counts").get_by_text("samples.jsonl:1").wait_for()
    expect(page.get_by_role("button", name="Import")).to_be_hidden()
    completion = page.locator("#look-columns").get_by_label("completion")
    completion.focus()
    completion.select_option("text")
    page.get_by_text(
        "no prompt has more than 1 different response; a task of the kind pair"
    ).wait_for()
    expect(completion).to_be_focused()
    held = hold(page, "POST", "**/import?*")
    page.locator("#look-columns").get_by_label("prompt").select_option("question")
    site.until(page, lambda: held)
    page.get_by_label("Ask raters to").select_option("")
    page.get_by_role("button", name="Look at it").click()
    site.until(page, lambda: len(held) == 2)
    for route in reversed(held):
        release(page, route)
        page.get_by_text("1 response, 1 prompt.").wait_for()
    page.unroute("**/import?*")
    page.wait_for_load_state("networkidle")
    expect(page.locator("#look-counts")).to_have_text("1 response, 1 prompt.")
    page.get_by_role("button", name="Import").click()
    page.locator("#added").get_by_text("Added").wait_for()
    assert len(site.rows(schema.task)) == before + 2
    new.write_text('{"prompt": "Why not?", "completion": "So."}\n')
    site.expect("ERR_UPLOAD_FILE_CHANGED")
    page.get_by_role("button", name="Look at it").click()
    said(page, "changed since it was chosen")


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """Messages become their text."""
    return {k: v[-1]["content"] if isinstance(v, list) else v for k, v in row.items()}


def test_a_run_that_goes_on(site):
    """A line that is logged while one looks appears by itself; two runs' curves stand in one picture, in two colours.
    Mutation caught: a metric of the second run alone, in the first one's colour."""
    folder = site.workspace / "runs" / "reward"
    folder.mkdir(parents=True)
    log = folder / "metrics.jsonl"
    log.write_text('{"step": 1, "seconds": 0.5, "loss": 0.7, "kl": null}\n')
    page = site.signed_in("lead", "/runs")
    row = page.get_by_role("row").filter(has_text="runs/reward")
    row.wait_for()
    expect(row.locator(".state")).to_have_text("running")
    row.get_by_role("link").first.click()
    page.get_by_text("Step 1, after 0.5 seconds.").wait_for()
    with open(log, "a") as file:
        file.write('{"step": 2, "seconds": 1.5, "loss": 0.4}\n')
    page.get_by_text("Step 2, after 1.5 seconds.").wait_for()
    expect(page.locator("#curves circle")).to_have_count(2)
    (folder / "config.json").write_text("{}")
    page.locator("#state.finished").wait_for()
    other = site.workspace / "runs" / "dpo"
    other.mkdir()
    (other / "metrics.jsonl").write_text('{"step": 1, "seconds": 1, "loss": 0.6, "margin": 0.1}\n')
    page.goto("/runs")
    for name in ("runs/reward", "runs/dpo"):
        page.get_by_label(f"Choose {name}").check()
    page.get_by_role("button", name="Curves of the chosen runs together").click()
    both = page.locator("#curves .card").filter(has_text="loss")
    expect(both.locator(".legend li")).to_have_text(["runs/reward", "runs/dpo"])
    alone = page.locator("#curves .card").filter(has_text="margin")
    expect(alone.locator(".line")).to_have_class(re.compile(r"\bs1\b"))
    page.goto("/runs")
    page.get_by_role("link", name="runs/reward").first.click()
    report = "<h1>Report</h1><script>document.title = parent.document ? 'x' : 'y'</script>"
    (folder / "report.html").write_text(f"<!doctype html><html lang=en>{report}</html>")
    site.expect("Blocked a frame")
    page.reload()
    framed = page.frame_locator("iframe.report")
    framed.get_by_role("heading", name="Report").wait_for()
    assert framed.locator("html").evaluate("() => [origin, document.title]") == ["null", ""]
