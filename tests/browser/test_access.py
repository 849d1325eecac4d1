"""No serious barrier on any page, light or dark: axe-core looks at each as it stands before people."""

from __future__ import annotations

from typing import Any

import pytest

from heedful.data.clips import Clip, as_text
from heedful.store.kinds import KINDS, SCREEN
from heedful.store.membership import people, profiles
from heedful.store.project import consent, critiques, projects, suggestions
from heedful.store.rating import talk
from heedful.web import runs
from heedful.web.plays import Plays
from heedful.web.routes.lead import PARTS
from workspace import answer, claim, make_project, make_task

axe_playwright = pytest.importorskip("axe_playwright_python.sync_playwright")

ALL = {"resultTypes": ["violations"]}
CONTRAST = ALL | {"runOnly": ["color-contrast"]}
CLIPS = [as_text(Clip("tetris", seed, 0, (1, 2), 500, ("..1/.11", "1../11."))) for seed in (0, 1)]
SLIDERS = {"axes": [{"name": "truth", "low": 0, "high": 100}]}
QUESTIONS = [
    {"name": "better", "kind": "pair"},
    {"name": "axes", "kind": "rate", "options": {"axes": [{"name": "helpful"}, {"name": "honest"}]}},
    {"name": "rules", "kind": "rules", "options": {"rules": [{"code": "polite", "text": "It is polite."}]}},
]  # fmt: skip
# All that Tab ought to come to; of a group of radio buttons one.
STOPS = """() => {
  const shown = (e) => e.checkVisibility({ visibilityProperty: true });
  const all = document.querySelectorAll(`a[href], summary, [tabindex="0"],
    :is(button, input, select, textarea):enabled`);
  window.stops = new Set([...all].filter((e) => shown(e) && e.tabIndex >= 0 && e.type !== "radio"));
  return window.stops.size;
}"""
SEEN = """() => {
  const e = document.activeElement;
  if (e === document.body) return null;
  window.stops.delete(e);
  const r = e.getBoundingClientRect();
  const there = document.elementFromPoint(r.left + Math.min(r.width / 2, 40), r.top + Math.min(r.height, 20) / 2);
  const style = getComputedStyle(e);
  const name = e.outerHTML.slice(0, 160);
  if (style.outlineStyle === "none" && style.boxShadow === "none") return `${name} has no ring`;
  if (there && (e.contains(there) || there.contains(e))) return "";
  return `${name} is covered by ${there?.outerHTML.slice(0, 80)}`;
}"""
LEFT = """() => [
  ...[...window.stops].filter((e) => e.isConnected && e.tabIndex >= 0)
    .map((e) => `${e.outerHTML.slice(0, 160)} is not reached`),
  ...[document.documentElement.scrollWidth].filter((n) => n > innerWidth + 1).map((n) => `${n} wide`),
]"""
TEXT = """A *response* with `code`, [a link](https://example.org), $x^2$ and \u202ea turn\u202c.

```py
print(1)
```

|a|b|
|-|-|
|1|2|"""


def barriers(page: Any) -> list[str]:
    """What axe-core calls serious or critical, in light and then in dark colours; all else is the same in both."""
    found = []
    for scheme, options in (("light", ALL), ("dark", CONTRAST)):
        page.emulate_media(color_scheme=scheme)
        for v in axe_playwright.Axe().run(page, options=options).response["violations"]:
            if v["impact"] in ("serious", "critical"):
                first = v["nodes"][0]
                found.append(
                    f"{scheme} {page.url}: {v['id']}: {first['html'][:200]} {first['failureSummary'][:300]}"
                )
    return found


@pytest.mark.parametrize(
    "kind",
    [
        kind if kind in ("pair", "rank", "rate") else pytest.param(kind, marks=pytest.mark.long)
        for kind in (*KINDS, "sliders", "clips")
    ],
)
def test_rating(site, kind: str):
    """Each kind of question, empty and answered."""
    name = {"sliders": "rate", "clips": "pair"}.get(kind, kind)
    least, most = KINDS[name].responses
    n = max(least, min(3 if kind == "rank" else 2, most))
    options = SLIDERS if kind == "sliders" else KINDS[name].example_options
    project = make_project(site.store, models=("small", "large"))
    texts = [f"{TEXT}\n\n{i}" + "\n\nMore." * (30 * (i == 0)) for i in range(n)]
    if kind in ("clips", "presses"):
        texts = CLIPS[:n]
    question = "Long.\n\n" * 40 if n == 2 else TEXT
    make_task(site.store, project, name, texts, question=question, options=options)
    site.app.state.plays = Plays((KINDS["play"].example_options["env"],))
    page = site.rate(project)
    if kind == "play":
        page.get_by_text("calculate(expression=…)").wait_for()
    found = barriers(page)
    if kind == "play":
        page.get_by_role("textbox", name="What you say").fill("calculate(expression='6 * 7')")
        page.get_by_role("button", name="Send").click()
        page.locator(".said.tool").wait_for()
    elif kind == "chat":
        page.get_by_role("textbox", name="Your message").fill("Hello!")
        page.get_by_role("button", name="Send").click()
        page.locator(".reply").nth(1).wait_for()
    elif kind == "probe":
        page.get_by_role("textbox", name="Your message").fill("Be rude!")
        page.get_by_role("button", name="Send").click()
        page.get_by_role("radiogroup", name="Did reply 1 break the rule?").wait_for()
        page.keyboard.press("1")
    elif kind == "critique":
        page.get_by_role("button", name="Remark on A").click()
    elif kind == "edit":
        page.get_by_role("textbox", name="The response as it should be").fill("Other words.")
    elif kind not in ("write", "sliders"):
        page.keyboard.press("1")
    assert found + barriers(page) == []


def test_around_rating(site):
    """Views and dialogs of the rater's page, the end of the work, and the list of projects."""
    site.expect("Failed to load resource")
    project = make_project(site.store)
    make_task(site.store, project, responses=("One two three.", "One four three."))
    page = site.signed_in("rater", "/rate")
    found = barriers(page)
    page.goto(f"/rate/{project}")
    page.locator("#desk").wait_for()
    for key in ("d", "r", "?"):
        page.keyboard.press(key)
        found += barriers(page)
    site.escape(page)
    page.keyboard.press("f")
    found += barriers(page)
    site.escape(page)
    page.route("**/judgments", lambda route: route.abort())
    page.keyboard.press("t")
    site.enter(page)
    page.locator("#outbox p").wait_for()
    found += barriers(page)
    page.unroute("**/judgments")
    page.get_by_text("All done").wait_for()
    assert found + barriers(page) == []


def leading(site: Any) -> list[str]:
    """All pages of a project that has been worked in, and those around projects."""
    project = site.worked_in()
    rule = KINDS["probe"].example_options
    told = {"text": "No.", "model": "one"}
    make_task(site.store, project, "probe", (), options=rule, overlap=2)
    for login in ("rater", "other"):
        given, rater = claim(site.store, project, site.people[login]), site.people[login]
        assert given
        with site.store.write() as connection:
            talk.offer(connection, given, rater, 0, "Be rude!", [told])
        answer(site.store, given, rater, {"broken": [login == "rater"]})
    for name in ("one", "two"):
        run = site.workspace / "runs" / name
        run.mkdir(parents=True)
        (run / "metrics.jsonl").write_text(
            "".join(f'{{"step": {i}, "seconds": {i}, "loss": {2 / (i + 1)}}}\n' for i in range(5))
        )
        (run / "config.yaml").write_text("seed: 0\n")
        (run / "config.json").write_text("{}")
    site.app.state.plays = Plays((KINDS["play"].example_options["env"],))
    one, two = (run.id for run in runs.find(site.workspace))
    parts = [f"/lead/{project}/{part}".rstrip("/") for part in PARTS]
    around = ["/lead", "/runs", f"/runs/{one}", f"/runs/{one}?with={two}", "/people", "/account"]
    return [*parts, *around]


def rating(site: Any) -> list[str]:
    """Several questions on a screen, a play, what a model says, one's own answers and what one seems to like."""
    store, plural = site.store, site.workspace / "runs" / "plural"
    plural.mkdir(parents=True)
    (plural / "profiles.json").write_text("[]")
    pair = make_project(store, "pairs", profiles="runs/plural")
    told = make_task(store, pair, responses=(f"{TEXT}\n\nOne.", f"{TEXT}\n\nTwo."))
    with store.write() as connection:
        suggestions.add(connection, pair, "runs/reward", "v1", {told: [1, 2]})
        critiques.add(connection, pair, "runs/critic", "v1", {told: ["Vague.", "Wrong."]})
        shown = {"suggestions": "runs/reward", "critiques": "runs/critic"}
        shown |= {"suggestions_hidden": 0.0, "critiques_hidden": 0.0}
        projects.change(connection, pair, shown, actor=None)
        profiles.write(connection, pair, site.people["rater"], "I like short answers.")
    names = ("screens", "ranks", "plays", "probes")
    screen, ranks, play, probe = (make_project(store, name, models=("a",)) for name in names)
    make_task(store, probe, "probe", (), options=KINDS["probe"].example_options)
    make_task(store, screen, SCREEN, options={"questions": QUESTIONS})
    make_task(store, ranks, "rank", ("Lima.", "Cusco.", "Quito."))
    make_task(store, play, "play", (), options=KINDS["play"].example_options)
    site.app.state.plays = Plays((KINDS["play"].example_options["env"],))
    return [
        "/rate",
        *(f"/rate/{key}" for key in (pair, screen, ranks, play, probe)),
        f"/rate/{pair}/mine",
    ]


def opened(page: Any, path: str) -> None:
    """Whatever the page fetches is there."""
    page.goto(path)
    page.wait_for_load_state("networkidle")
    page.wait_for_function("() => !document.querySelector('[aria-busy]')")


def converse(page: Any) -> None:
    """A conversation in the playground, with a reply that can be judged."""
    page.get_by_label("Your message").fill("Hello!")
    page.get_by_role("button", name="Send").click()
    page.locator(".turn.assistant").wait_for()


@pytest.mark.long
def test_leading(site):
    """All that a lead sees, with a conversation, a run's curves, and what stands folded opened."""
    page, found = site.window("owner"), list[str]()
    for path in (*leading(site), "/docs", "/nowhere"):
        if path == "/nowhere":
            site.expect("404")
        opened(page, path)
        if path.endswith("/playground"):
            converse(page)
        page.evaluate("() => document.querySelectorAll('details').forEach((d) => (d.open = true))")
        found += barriers(page)
    assert found == []


@pytest.mark.long
@pytest.mark.parametrize("who", ["owner", "rater"])
def test_by_tab_at_200_percent(site, who: str):
    """A laptop's window at twice the size: Tab comes to all that a page has to press, choose or scroll, and to nothing
    that is behind a bar or has no ring (WCAG 2.1.1, 2.1.2, 2.4.7, 2.4.11, 1.4.10). Mutations caught: no room kept for
    the bar of Submit, a button that is none, a trap, a page that is wider than its window."""
    paths = leading(site) if who == "owner" else rating(site)
    page, found = site.window(who, viewport={"width": 683, "height": 384}), list[str]()
    for path in paths:
        opened(page, path)
        found += by_tab(page)
        if path.endswith("/playground"):
            converse(page)
            by_tab(page)  # from the message to the page's end, and from its beginning the next time
            found += by_tab(page)
    assert "\n".join(found) == ""


def by_tab(page: Any) -> list[str]:
    """What Tab does not come to, what it comes to and is not seen, and whether the page is too wide."""
    left, problems = page.evaluate(STOPS), dict[str, None]()
    for _ in range(2 * left + 20):
        page.keyboard.press("Tab")
        told = page.evaluate(SEEN)
        if told is None:
            break
        problems |= {told: None} if told else {}
    else:
        problems["Tab never comes to the end"] = None
    return [f"{page.url}: {told}" for told in [*problems, *page.evaluate(LEFT)]]


@pytest.mark.long
def test_around_a_question(site):
    """What people agree to, what a model suggests and says against responses, and one's own answers."""
    project = make_project(site.store)
    task = make_task(site.store, project)
    with site.store.write() as connection:
        consent.write(connection, project, f"# We keep all\n\n{TEXT}", actor=None)
        suggestions.add(connection, project, "runs/reward", "v1", {task: [1, 2]})
        critiques.add(connection, project, "runs/critic", "v1", {task: ["Vague.", "Wrong."]})
        shown = {"suggestions": "runs/reward", "critiques": "runs/critic"}
        shown |= {"suggestions_hidden": 0.0, "critiques_hidden": 0.0}
        projects.change(connection, project, shown, actor=None)
    page = site.signed_in("rater", f"/rate/{project}")
    page.get_by_role("heading", name="We keep all").wait_for()
    found = barriers(page)
    agree(page)
    page.locator("#suggestion").wait_for()
    page.keyboard.press("m")
    page.locator(".critic").first.wait_for()
    found += barriers(page)
    page.keyboard.press("1")
    site.enter(page)
    page.get_by_text("All done").wait_for()
    page.goto(f"/rate/{project}/mine")
    page.locator(".mine > li").wait_for()
    assert found + barriers(page) == []


@pytest.mark.long
def test_by_keys_alone(site):
    """Tab, Space, Enter and arrows: agreeing, clips that are played and looked through, which of two is closer.

    Mutations caught: a button of the newest pages that only a pointer reaches, arrows on a clip's slider that choose an
    answer."""
    project = make_project(site.store)
    make_task(site.store, project, "pair", CLIPS)
    with site.store.write() as connection:
        consent.write(connection, project, "We keep all.", actor=None)
    page = site.signed_in("rater", f"/rate/{project}")
    page.get_by_text("We keep all.").wait_for()
    agree(page)
    canvas = page.locator(".panel canvas").first
    canvas.wait_for()
    began = canvas.evaluate("c => c.toDataURL()")
    tab_to(page, "Frame")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("([c, s]) => c.toDataURL() !== s", arg=[canvas.element_handle(), began])
    tab_to(page, "Play")
    page.keyboard.press("Space")
    page.get_by_role("button", name="Pause").wait_for()
    tab_to(page, "A is much better")
    page.keyboard.press("ArrowRight")
    site.enter(page)
    assert site.judged(page)[0]["outcome"] == "answer"
    page.get_by_text("All done").wait_for()
    make_task(site.store, project, "triplet", ("Lima.", "Cusco.", "Quito."))
    tab_to(page, "Look again")
    page.keyboard.press("Enter")
    page.get_by_text("Is A closer to B or to C?").first.wait_for()
    tab_to(page, "B is closer")
    page.keyboard.press("ArrowRight")
    site.enter(page)
    assert len(site.judged(page, 2)[1]["scores"]) == 2


def tab_to(page: Any, name: str) -> None:
    """Press Tab until what has the focus is called so."""
    for _ in range(60):
        page.keyboard.press("Tab")
        focused = page.locator(":focus:not(body)")
        if focused.count() and name in (
            focused.get_attribute("aria-label") or focused.inner_text()
        ):
            return
    raise AssertionError(f"Tab does not reach {name!r}")


def agree(page: Any) -> None:
    tab_to(page, "agree")
    page.keyboard.press("Enter")


def test_at_the_door(site):
    """Before one is signed in, and when it is refused."""
    site.expect("401")
    with site.store.write() as connection:
        token = people.invite(connection, "rater", actor=None)
    page = site.window()
    page.goto(f"/join?token={token}")
    found = barriers(page)
    page.goto("/login")
    found += barriers(page)
    page.get_by_label("Login").fill("rater")
    page.get_by_label("Password").fill("wrong words")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("login or password is wrong").wait_for()
    assert found + barriers(page) == []
