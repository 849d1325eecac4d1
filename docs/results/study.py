"""A study from an empty folder to the next round's questions: PYTHONPATH=tests python docs/results/study.py OUT

`heedful init` and `heedful serve` run as a lead would run them; Chromium, driven by Playwright, does what the lead
does: project, screen of three questions, guidelines, import with a look first, gold questions, invitations, alerts, a
disagreement, export, a training round. Six raters join by their links; a laptop and a phone answer by keys and taps,
the others by the requests that their page would send (`study_raters.py`). OUT gets the workspace, study.json and, with
--pictures, screenshots. What an error looks like in the browser (console, dialogs, statuses from 400 on) ends up in
`problems`.

The lead's minutes are a model plus a measurement: so many seconds a click, field, character, key, word read and page
(`study_lead.SECONDS`), and the seconds that the pages themselves took. What to ask and how to say it in the guidelines
is thought of elsewhere.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect, sync_playwright
from study_lead import LAPTOP, SECONDS, Lead
from study_raters import PASSWORD, PHONE, Person, World

# Where the system has none: that of `playwright install chromium`.
CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
]
PATIENCE = 300.0  # seconds that a page may take on a busy machine
ROUNDS = 3600.0  # seconds of training
GUIDE = """# Which answer helps more?

Read both answers **to the end**, then check the sum: $a \\times b$.

1. An answer with the right result beats one with a wrong result.
2. Steps that can be followed beat a bare number.
3. Say *why* in a few words if it was close.
"""
TEAM = {
    "ada": "honest", "bao": "honest", "cleo": "honest",
    "dan": "poor", "eve": "poor", "mallory": "hostile",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--until", choices=("training",), help="leave the training round out")
    options = parser.parse_args()
    out: Path = options.out
    if out.exists():
        parser.error(f"{out} is there; the study begins with an empty folder")
    out.mkdir(parents=True)
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    workspace, world = out / "work", World(options.prompts, seed=0)
    port = free_port()
    heedful("init", str(workspace))
    tiny_model(workspace / "runs" / "tiny")
    with serving(workspace, port, out / "server.log") as link, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        problems: list[str] = []

        def window(**how: Any) -> Page:
            context = browser.new_context(reduced_motion="reduce", **({"viewport": LAPTOP} | how))
            context.set_default_timeout(1000 * PATIENCE)
            context.on("page", lambda page: watch(page, problems))
            return context.new_page()

        expect.set_options(timeout=1000 * PATIENCE)
        lead = Lead(window(permissions=["clipboard-read", "clipboard-write"]), options.pictures)
        try:
            study(lead, world, out, link, window, train=options.until is None)
        except BaseException:
            for i, page in enumerate(
                page for context in browser.contexts for page in context.pages
            ):
                page.screenshot(path=out / f"failed-{i}.png", full_page=True)
            raise
        browser.close()
    log = (out / "server.log").read_text()
    problems += re.findall(r"^(?:Traceback.*|.*\bERROR\b.*)$", log, re.MULTILINE)
    result = {
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, at a load of {os.getloadavg()[1]:.0f}",
        "prompts": options.prompts,
        "seconds": round(time.monotonic() - began),
        "seconds_for_each": SECONDS,
        "steps": [asdict(s) | {"minutes": round(s.minutes(), 2)} for s in lead.steps],
        "minutes": round(sum(s.minutes() for s in lead.steps), 1),
        **lead.facts,
        "raters": world.told,
        "problems": problems,
    }
    (out / "study.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps({k: result[k] for k in ("minutes", "raters", "problems")}, indent=1))
    if problems:
        raise SystemExit("something went wrong on the way: see problems")


def study(lead: Lead, world: World, out: Path, link: str, window: Any, *, train: bool) -> None:
    page = lead.page
    with lead.step("start the server, make an account") as step:
        step.commands += 2
        page.goto(link)
        lead.fill(page.get_by_label("Login"), "lead@example.org")
        lead.fill(page.get_by_label("Password"), PASSWORD)
        lead.button("Make my account")
        page.wait_for_url("**/lead")
        lead.ready()
    lead.picture("start")
    set_up(lead, world, out)
    team = invite(lead, world, window)
    qualify(lead, team)
    rate(lead, team)
    look_after(lead)
    exported(lead, out)
    if train:
        rounds(lead, team, out / "work" / "runs" / "round-one")


def set_up(lead: Lead, world: World, out: Path) -> None:
    page = lead.page
    with lead.step("project with three questions on a screen"):
        lead.fill("Name", "sums")
        lead.choose("Asks", value="axes")
        lead.button("Create")
        page.wait_for_url("**/screen")
        lead.ready()
        lead.button("Remove: What is wrong, and where?")
        lead.button("Remove: Does each keep the rules?")
        lead.fill(page.locator(".design").nth(1).get_by_label("Low end means").first, "not at all")
        expect(page.locator("#sample-answer .qcard")).to_have_count(3)
        lead.button("Save")
        page.get_by_text("Saved. What is imported").wait_for()
    lead.picture("screen")
    with lead.step("guidelines"):
        lead.go("Settings")
        lead.fill(page.get_by_label("What raters read"), GUIDE)
        lead.button("Write a new version")
        page.locator("#preview h1").wait_for()
    lead.picture("settings")
    with lead.step(f"import of {len(world.prompts)} prompts with two responses each"):
        path = out / "answers.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=";").writerows(world.rows())
        lead.go("Files")
        lead.click(page.locator("#import"))
        lead.upload(path)
        lead.choose("It holds", value="samples")
        lead.choose("Ask raters to", value="screen")
        lead.fill("Answers to each question", "2")
        lead.button("Look at it")
        page.locator("#look-counts.wrong").wait_for()
        lead.choose(page.locator("#look-columns").get_by_label("prompt"), value="sum")
        expect(page.locator("#look-counts")).to_contain_text("completion")
        lead.choose(page.locator("#look-columns").get_by_label("completion"), value="reply")
        page.get_by_text(
            f"{2 * len(world.prompts)} responses, {len(world.prompts)} prompts."
        ).wait_for()
    lead.picture("look")
    with lead.step("the import itself"):
        lead.button("Import")
        page.locator("#added").get_by_text("Added").wait_for()
    with lead.step("gold questions with explanations"):
        path = out / "gold.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in world.gold()))
        lead.click(page.locator("#import"))
        lead.upload(path)
        lead.choose("It holds", value="comparisons")
        lead.click(page.get_by_label("these are gold questions"))
        lead.button("Look at it")
        page.locator("#look-rows tr").first.wait_for()
        lead.button("Import")
        page.locator("#added").get_by_text("Added").wait_for()
    lead.picture("files")
    with lead.step("members only, training and qualification"):
        lead.go("Members")
        lead.click(page.get_by_label("its members and groups only"))
        lead.said("Only members and groups come in now.")
        lead.fill("Training questions, whose answer is explained", "2")
        lead.fill("Qualification questions", "4")
        lead.fill("Of these must be right, in percent", "75")
        lead.button("Save")
        lead.said("Saved.")
    lead.picture("members-before")


def invite(lead: Lead, world: World, window: Any) -> list[Person]:
    """Six links of their own, copied; who has one makes an account with it, on a laptop or a phone."""
    page = lead.page
    project = page.url.split("/lead/")[1].split("/")[0]
    with lead.step("six raters invited, their links copied"):
        lead.go("People")
        lead.choose("Into the project", label="sums")
        names = "\n".join(f"{name.title()} <{name}@example.org>" for name in TEAM)
        lead.fill(page.get_by_label("For whom"), names)
        lead.button("Make a link")
        links = page.locator("#links tr")
        expect(links).to_have_count(len(TEAM))
        lead.button("Copy all")
        copied = page.evaluate("() => navigator.clipboard.readText()")
    lead.picture("people")
    urls = re.findall(r"http\S+/join\S+", copied)
    assert len(urls) == len(TEAM), copied
    team = []
    for (name, kind), url in zip(TEAM.items(), urls, strict=True):
        own = window(**PHONE) if name in ("bao", "dan") else window()
        own.goto(url)
        if name == "bao":
            lead.picture("join", own)
        own.get_by_label("Login").fill(name)
        own.get_by_label("Password").fill(PASSWORD)
        own.get_by_role("button", name="Make my account").click()
        own.get_by_role("link", name="sums").wait_for()
        if name == "ada":
            lead.picture("rater-start", own)
        own.get_by_role("link", name="Begin").click()
        own.locator("#desk").wait_for()
        team.append(Person(name, kind, project, own, world))
    return team


def qualify(lead: Lead, team: list[Person]) -> None:
    """All learn and are examined; whoever fails gets another try."""
    page = lead.page
    lead.picture("training-laptop", team[0].page)
    for person in team:
        person.learn_in_the_browser() if person.name in ("ada", "bao") else person.learn()
    lead.picture("first-question", team[0].page)
    with lead.step("who failed gets another try"):
        lead.go("Projects")
        lead.click(page.get_by_role("link", name="sums"))
        lead.ready()
        lead.go("Members")
        while (again := page.get_by_role("button", name="Another try")).count():
            before = again.count()
            lead.click(again.first)
            lead.said("gets other questions")
            expect(again).to_have_count(before - 1)
    lead.picture("members")
    for person in team:
        if not person.learn():
            with lead.step(f"{person.name} is let in"):
                page.reload()
                lead.ready()
                lead.button("Let them in")
                lead.said("may go on to the real work")


def rate(lead: Lead, team: list[Person]) -> None:
    """By keys and taps in two browsers, by requests for the others; an alert has the hostile one paused."""
    page = lead.page
    for person in team[:2]:
        person.page.reload()
        person.page.locator("#desk").wait_for()
    team[0].by_keys(6)
    lead.picture("rating", team[0].page)
    team[1].by_taps(4)
    lead.picture("rating-touch", team[1].page)
    for person in team[::-1]:
        person.answer(40 if person.kind == "hostile" else 5)
    with lead.step("an alert, and the hostile rater is paused"):
        lead.go("Overview")
        alert = page.locator("#watch .alert").filter(has_text=team[-1].pseudonym())
        expect(alert).to_contain_text("answers too fast to have read")
        expect(alert).to_contain_text("stands first")
        lead.facts["alert"] = re.sub(r"\s+", " ", alert.inner_text())
        lead.picture("alerts")
        lead.click(alert.get_by_role("button", name="Pause"))
        lead.said("is paused in this project")
    assert team[-1].refused()
    while sum([person.answer(100) for person in team[:-1]]):
        pass
    team[0].page.reload()
    team[0].page.locator("#empty").wait_for()
    lead.picture("all-done", team[0].page)


def look_after(lead: Lead) -> None:
    page = lead.page
    page.reload()
    lead.ready()
    lead.picture("overview")
    for name in ("Raters", "Labels and models", "Questions"):
        page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()
        lead.ready()
        lead.picture(name.split()[0].lower())
    with lead.step("a disagreement is judged"):
        lead.go("Agreement")
        lead.picture("agreement")
        lead.click(page.get_by_role("button", name="Judge it myself").first)
        page.wait_for_url("**/rate/**assignment=**")
        page.locator("#desk").wait_for()
        lead.picture("judging")
        for body in page.locator("#responses .panel .body").all():
            body.evaluate("(b) => b.scrollTop = b.scrollHeight")
        lead.read(page.locator("#prompt .body").inner_text())
        lead.read(page.locator("#responses").inner_text())
        for key in ("2", "ArrowDown", *"5242"):
            lead.press(key)
        page.locator("#submit:enabled").wait_for()
        lead.press("Enter")
        page.locator("#empty").wait_for()
        lead.go("Projects")
        lead.click(page.get_by_role("link", name="sums"))
        lead.ready()


def exported(lead: Lead, out: Path) -> None:
    page = lead.page
    with lead.step("all is exported"):
        lead.go("Files")
        for what in ("judgments", "comparisons"):
            lead.choose("What", value=what)
            with page.expect_download() as given:
                lead.button("Download")
            given.value.save_as(out / f"{what}.jsonl")
            page.get_by_text(f"rows in {what}.jsonl").wait_for()
    judgments, comparisons = (
        [json.loads(line) for line in (out / f"{what}.jsonl").read_text().splitlines()]
        for what in ("judgments", "comparisons")
    )
    lead.facts["exported"] = {"judgments": len(judgments), "comparisons": len(comparisons)}
    columns = {"overall.ranking", "axes.helpful", "axes.truthful", "reason.text"}
    assert columns <= {name for row in judgments for name in row}


def rounds(lead: Lead, team: list[Person], run: Path) -> None:
    """A round is trained on what raters say of the model's answers; the next round's questions are on a screen."""
    page = lead.page
    with lead.step("a training round is started"):
        lead.go("Training")
        form = page.locator("#round")
        lead.fill(form.get_by_label("Name of the run"), "round-one")
        lead.fill(form.get_by_label("Rounds"), "2")
        lead.fill(form.get_by_label("Prompts a round"), "12")
        lead.click(form.get_by_text("More", exact=True))
        lead.fill(form.get_by_label("Tokens of a response"), "16")
        lead.choose(form.get_by_label("Device"), value="cpu")
        lead.button("Start", form)
        lead.said("round-one has begun.")
    state = page.locator("#jobs .state").first
    seen: list[str] = []  # questions of the rounds, as the first rater has them on the screen

    def turn() -> bool:
        own = team[0].page
        own.reload()
        own.locator("#desk:not([hidden]), #empty:not([hidden])").first.wait_for()
        if not own.locator("#desk").is_visible():
            return state.inner_text() != "running"
        # Others are gold questions, and imported ones that are asked again the other way round.
        if re.search("Split|easy to see", own.locator("#responses").inner_text()):
            team[0].answer(1)
            return False
        seen.append(own.locator("#prompt .body").inner_text())
        lead.picture(f"round-question-{len(seen)}", own)
        lead.picture(f"training-{len(seen)}")
        for person in team[:-1]:
            person.answer(100)
        return False

    until(turn)
    for r in (1, 2):
        asked = (run / f"round-{r}" / "sampled.jsonl").read_text(encoding="utf-8")
        assert any(json.dumps(text, ensure_ascii=False) in asked for text in seen), (
            f"of round {r} none was seen"
        )
    assert (run / "round-2" / "policy" / "config.json").exists()
    with lead.step("the rounds are followed to their end"):
        lead.go("Training")
        expect(state).to_have_text("finished")
    lead.facts["rounds"] = [
        {name: len((run / f"round-{r}" / f"{name}.jsonl").read_text().splitlines())
         for name in ("sampled", "comparisons", "all_comparisons", "held_out_comparisons")}
        for r in (1, 2)
    ]  # fmt: skip
    lead.picture("training-done")
    page.get_by_role("navigation").get_by_role("link", name="Runs", exact=True).click()
    lead.ready()
    lead.picture("runs")


# ── around it ────────────────────────────────────────────────────────────────────────────────────


def until(what: Any) -> Any:
    end = time.monotonic() + ROUNDS
    while not (value := what()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(1)
    return value


def watch(page: Page, problems: list[str]) -> None:
    page.on("pageerror", lambda e: problems.append(f"error in the page {page.url}: {e}"))
    page.on("dialog", lambda d: (problems.append(f"a dialog: {d.message}"), d.accept()))
    page.on(
        "console", lambda m: m.type == "error" and problems.append(f"console: {m.text} {page.url}")
    )
    page.on("response", lambda r: r.status >= 400 and problems.append(f"{r.status} {r.url}"))


def heedful(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "heedful", *words], check=True)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def tiny_model(folder: Path) -> None:
    import tiny
    from heedful.models.new import new_model

    tok = tiny.tokenizer()
    model = new_model("llama", tok, hidden_size=32, layers=2, heads=2, context=1024, seed=0)
    model.save_pretrained(folder)
    tok.save_pretrained(folder)


@contextmanager
def serving(workspace: Path, port: int, log: Path) -> Iterator[str]:
    """The server as a process of its own; gives the link that makes the owner's account."""
    command = [sys.executable, "-m", "heedful", "serve", str(workspace), "--port", str(port)]
    with log.open("w") as err:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True)
        try:
            assert server.stdout
            link = re.search(r"http\S+/setup\S+", server.stdout.readline())
            assert link, "the server told no link"
            yield link[0]
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)


if __name__ == "__main__":
    main()
