"""A kind of question from another package: its one module draws it, and the lead's pages know it by its name."""

from __future__ import annotations

import pytest

from heedful.store import kinds
from plugin import install
from workspace import make_project, make_task

TEXTS = ("Lima.", "Lima, Peru.", "La Paz.")
expect = pytest.importorskip("playwright.sync_api").expect


@pytest.fixture(autouse=True)
def installed(monkeypatch, tmp_path_factory):
    """As after `pip install`: an entry point that leads to two files."""
    site = tmp_path_factory.mktemp("site")
    install(site)
    monkeypatch.syspath_prepend(site)
    for kind in kinds.installed():
        monkeypatch.setitem(kinds.KINDS, kind.name, kind)


DRAWN = """async ([name, task, example]) => {
  const module = await import(`/static/rate/kinds/${name}.js`);
  const widget = module.widget(task, () => {});
  document.getElementById("answer").replaceChildren(widget.node);
  const before = widget.value();
  widget.set(example);
  return [before, widget.value(), widget.key(new KeyboardEvent("keydown", { key: "F9" }))];
}"""


def test_every_page_says_what_its_kind_reads(site):
    """Drawn with an answer, each widget gives that answer back, in the words of the server; before, it has none.

    Mutation caught: a field that is read by one name and written by another, a key that one kind takes from all.
    """
    project = make_project(site.store)
    make_task(site.store, project)
    page = site.rate(project)
    for name, kind in kinds.KINDS.items():
        shown = TEXTS[: kind.responses[0]]
        turn = {"said": "?", "replies": [{"text": "a"}, {"text": "b"}], "chosen": 0}
        turns = [turn] * (kind.example.get("turns") or 1) if kind.talks else []
        task = {
            "kind": name,
            "options": kinds.check_options(name, kind.example_options),
            "responses": [{"label": "ABC"[i], "text": t} for i, t in enumerate(shown)],
            "turns": turns,
        }
        before, after, took = page.evaluate(DRAWN, [name, task, kind.example])
        assert (after, took) == (kind.example, False), name
        assert before is None or kind.talks or name == "critique", (
            name
        )  # a comment may be all of it


@pytest.mark.parametrize("way", ["keyboard", "mouse"])
def test_a_kind_of_another_package(site, way):
    """Mutation caught: a list of kinds kept by hand, in the server or in a page, in which this one is missing."""
    project = make_project(site.store)
    make_task(site.store, project, "odd_one", TEXTS, overlap=2)
    page = site.rate(project)
    odd = site.letter(page, "La Paz.")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("A, B or C differs")
    site.escape(page)
    if way == "keyboard":
        page.keyboard.press(str("ABC".index(odd) + 1))
        site.enter(page)
    else:
        page.get_by_role("radio", name=f"{odd} differs").click()
        page.get_by_role("button", name="Submit").click()
    (said,) = site.judged(page)
    assert said["said"] == {"odd": "ABC".index(odd)}
    assert said["scores"] == {(t, "odd"): float(t == "La Paz.") for t in TEXTS}
    page.get_by_text("All done").wait_for()
    page.keyboard.press("u")  # what was said is drawn again
    expect(page.get_by_role("radio", name=f"{odd} differs")).to_have_attribute(
        "aria-checked", "true"
    )
    other = site.rate(project, "other")
    other.keyboard.press(str("ABC".index(site.letter(other, "Lima.")) + 1))
    site.enter(other)
    site.judged(other, 2)
    lead = site.signed_in("lead", f"/lead/{project}/agreement")
    expect(lead.locator("#measures")).to_contain_text("odd one out")
    expect(lead.locator("#tasks")).to_contain_text("odd: ")
    lead.goto(f"/lead/{project}/labels")
    expect(lead.locator("#labels")).to_contain_text("odd one out, 2 answers")
    lead.goto(f"/lead/{project}/files")
    lead.locator("#import [name=what]").select_option("samples")
    expect(lead.locator("#import [name=ask] option")).to_contain_text(["odd one out"])
