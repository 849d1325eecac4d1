"""Each kind of question, answered by keyboard alone and by mouse, as it then stands in the database."""

from __future__ import annotations

from typing import Any

import pytest

from heedful.store.tables import schema
from workspace import make_project, make_task

GOOD, BAD, ODD = (
    "Lima is the capital of Peru.",
    "I don't know. 🦙 Perhaps Cusco.",
    "It is *La Paz*.",
)
AXES = [{"name": "truth"}, {"name": "style", "low_label": "stiff", "high_label": "easy"}]
RULES = [{"code": "short", "text": "Be short."}, {"code": "kind", "text": "Be kind."}]
WAYS = ("keyboard", pytest.param("mouse", marks=pytest.mark.long))
expect = pytest.importorskip("playwright.sync_api").expect


def tab_to(page: Any, role: str, name: str) -> None:
    """Press Tab until the control has the focus; everything must be reachable so."""
    wanted = page.get_by_role(role, name=name, exact=True)
    for _ in range(80):
        if wanted.evaluate("node => node === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"no way by Tab to {role} {name}")


def send(page: Any, way: str) -> None:
    if way == "mouse":
        page.get_by_role("button", name="Submit").click()
    else:
        page.locator("#submit:enabled").wait_for()
        page.keyboard.press("Enter")


def write(page: Any, way: str, name: str, text: str) -> None:
    """Into a text field, in place of what is there."""
    if way == "mouse":
        page.get_by_role("textbox", name=name, exact=True).fill(text)
    else:
        tab_to(page, "textbox", name)
        page.keyboard.press("Control+a")
        page.keyboard.type(text)


def submit_written(page: Any, way: str) -> None:
    if way == "mouse":
        send(page, way)
    else:
        page.locator("#submit:enabled").wait_for()
        page.keyboard.press("Control+Enter")


def pick(page: Any, way: str, group: str, option: str, key: str) -> None:
    """One choice of a grid; by keyboard the next empty cell takes the digit."""
    if way == "keyboard":
        page.keyboard.press(key)
    else:
        page.get_by_role("radiogroup", name=group).get_by_role(
            "radio", name=option, exact=True
        ).click()


def only(site: Any, page: Any) -> dict[str, Any]:
    (said,) = site.judged(page)
    assert (said["outcome"], said["revision"], said["disposition"]) == ("answer", 1, "counted")
    assert said["rater"] == site.people["rater"]
    page.get_by_text("All done").wait_for()
    return said


@pytest.mark.parametrize("way", WAYS)
def test_every_step_of_a_pair(site, way):
    """Mutation caught: a side for the response, a step mirrored, one response's answer on another."""
    project = make_project(site.store)
    for i in range(10):
        make_task(site.store, project, responses=(f"good {i}", f"bad {i}"), question=f"Q{i}?")
    page = site.rate(project)
    names = [f"A is {s}" for s in ("much better", "better", "somewhat better", "a little better")]
    names += [n.replace("A is", "B is") for n in reversed(names)]
    names += ["Tie: equally good", "Both are bad"]
    for i, key in enumerate("12345678tb"):
        first = page.get_by_role("region", name="Response A").inner_text().strip()
        second = page.get_by_role("region", name="Response B").inner_text().strip()
        assert first.split()[1] == second.split()[1] and first != second
        question = page.locator("#prompt .body").inner_text()
        assert question == f"Q{first.split()[1]}?"
        option = page.get_by_role("radio", name=names[i], exact=True)
        if way == "keyboard":
            page.keyboard.press(key)
        else:
            option.click()
        expect(option).to_have_attribute("aria-checked", "true")
        send(page, way)
        said = site.judged(page, i + 1)[-1]
        if key in "tb":
            assert said["outcome"] == {"t": "tie", "b": "both_bad"}[key]
            assert said["ranks"] == {first: 1, second: 1}
        else:
            wins = int(key) <= 4
            assert said["ranks"] == {first: 1 if wins else 2, second: 2 if wins else 1}
            assert said["strength"] == pytest.approx(abs(2 * int(key) - 9) / 7)
        site.gone(page, question)
    page.get_by_text("All done").wait_for()
    expect(page.locator("#progress")).to_contain_text("10 today")  # the last one, too


@pytest.mark.parametrize("way", WAYS)
def test_a_pair_with_a_comment(site, way):
    """The arrows choose, and how long it took comes along."""
    project = make_project(site.store)
    make_task(site.store, project, responses=(GOOD, BAD))
    page = site.rate(project)
    left = site.letter(page, GOOD) == "A"
    if way == "keyboard":
        for _ in range(2):
            page.keyboard.press("ArrowLeft" if left else "ArrowRight")
    else:
        page.get_by_role("radio", name=f"{'A' if left else 'B'} is somewhat better").click()
    write(page, way, "Comment", "weil es stimmt 🦙")
    submit_written(page, way)
    said = only(site, page)
    assert said["ranks"] == {GOOD: 1, BAD: 2} and said["strength"] == pytest.approx(3 / 7)
    assert said["text"] == "weil es stimmt 🦙"
    assert 0 <= said["active_ms"] <= said["wall_ms"] + 250


@pytest.mark.parametrize("way", [*WAYS, "digits", "drag"])
def test_a_ranking(site, way):
    """Mutation caught: ranks by the order of the rows instead of by response."""
    responses = [GOOD, BAD, ODD, "Quito."]
    best = [ODD, "Quito.", GOOD, BAD]
    project = make_project(site.store)
    make_task(site.store, project, "rank", responses)
    page = site.rate(project)
    letters = {text: site.letter(page, text) for text in responses}
    if way == "digits":  # in the order of the screen, from anywhere
        for text in sorted(responses, key=letters.__getitem__):
            page.keyboard.press(str(best.index(text) + 1))
    for rank, text in enumerate(best):
        row = page.locator(f".rankrow:has(strong:text-is('{letters[text]}'))")
        if way == "keyboard":
            tab_to(page, "listitem", f"Response {letters[text]}, not ranked")
            page.keyboard.press(str(rank + 1))
        elif way == "mouse":
            row.get_by_role("combobox").select_option(str(rank + 1))
        elif way == "drag":
            drag(page, row, page.locator(".ranks > li").nth(rank))  # the line, below those before
    send(page, way if way == "mouse" else "keyboard")
    assert only(site, page)["ranks"] == {text: i + 1 for i, text in enumerate(best)}


def drag(page: Any, row: Any, onto: Any) -> None:
    """With the hand, in small steps, from the grip of a row to the upper edge of another."""
    start, end = row.locator(".grip").bounding_box(), onto.bounding_box()
    page.mouse.move(start["x"] + 4, start["y"] + start["height"] / 2)
    page.mouse.down()
    page.mouse.move(start["x"] + 4, end["y"] + 3, steps=25)
    page.mouse.up()


def ranks_on_screen(page: Any) -> dict[str, str]:
    rows = page.locator(".rankrow").all()
    return {r.locator("strong").inner_text(): r.locator("select").input_value() for r in rows}


def test_a_ranking_says_nothing_of_others(site):
    """Mutation caught: a click, a drag or an arrow that ranks all; a tie that ends at the next arrow."""
    project = make_project(site.store)
    make_task(site.store, project, "rank", [GOOD, BAD, ODD, "Quito."])
    page = site.rate(project)
    texts = {site.letter(page, t): t for t in (GOOD, BAD, ODD, "Quito.")}
    page.locator(".rankrow .snippet").nth(2).click()
    assert set(ranks_on_screen(page).values()) == {""}
    expect(page.locator("#submit")).to_be_disabled()
    drag(page, page.locator(".rankrow:has(strong:text-is('C'))"), page.locator(".ranks > li").first)
    assert ranks_on_screen(page) == {"C": "1", "A": "", "B": "", "D": ""}
    expect(page.locator("#submit")).to_be_enabled()  # the best of four is an answer
    tab_to(page, "listitem", "Response A, not ranked")
    page.keyboard.press("ArrowUp")
    expect(page.locator(":focus")).to_have_attribute("aria-label", "Response A, rank 2")
    tab_to(page, "listitem", "Response B, not ranked")
    page.keyboard.press("2")
    tab_to(page, "listitem", "Response C, rank 1")
    page.keyboard.press("ArrowDown")
    assert ranks_on_screen(page) == {"A": "1", "B": "1", "C": "2", "D": ""}
    page.keyboard.press("ArrowDown")  # over the line, and back
    page.keyboard.press("ArrowUp")
    send(page, "keyboard")
    assert only(site, page)["ranks"] == {texts["A"]: 1, texts["B"]: 1, texts["C"]: 2}


@pytest.mark.parametrize("way", WAYS)
def test_ratings(site, way):
    """Mutation caught: axes or responses in another order than the cells."""
    project = make_project(site.store)
    make_task(site.store, project, "rate", [GOOD, BAD], options={"axes": AXES})
    page = site.rate(project)
    values = {(GOOD, "truth"): 5, (BAD, "truth"): 1, (GOOD, "style"): 4, (BAD, "style"): 3}
    texts = {site.letter(page, t): t for t in (GOOD, BAD)}
    for axis in ("truth", "style"):
        for letter in "AB":
            value = values[texts[letter], axis]
            group = f"{axis}, response {letter}"
            pick(page, way, group, f"{axis}: {value}", str(value))
    send(page, way)
    assert only(site, page)["scores"] == values


@pytest.mark.parametrize("way", WAYS)
def test_ratings_on_a_fine_scale(site, way):
    """Sliders; one whose middle is meant has to be touched, too."""
    project = make_project(site.store)
    axes = [{"name": "truth", "low": 0, "high": 100}]
    make_task(site.store, project, "rate", [GOOD, BAD], options={"axes": axes})
    page = site.rate(project)
    for text, key, share in ((GOOD, "End", 1.0), (BAD, "Home", 0.5)):
        name = f"truth, response {site.letter(page, text)}"
        if way == "keyboard":
            tab_to(page, "slider", name)
            page.keyboard.press(key)
        else:
            slider = page.get_by_role("slider", name=name)
            box = slider.bounding_box()
            edge = box["width"] - 3 if share == 1.0 else box["width"] / 2
            page.mouse.click(box["x"] + edge, box["y"] + box["height"] / 2)
    send(page, way)
    scores = only(site, page)["scores"]
    assert scores[GOOD, "truth"] == 100
    assert scores[BAD, "truth"] == (0 if way == "keyboard" else 50)


@pytest.mark.parametrize("way", WAYS)
def test_thumbs(site, way):
    project = make_project(site.store)
    make_task(site.store, project, "thumbs", [GOOD, BAD, ODD])
    page = site.rate(project)
    texts = {site.letter(page, t): t for t in (GOOD, BAD, ODD)}
    wanted = {GOOD: ("Good", "1", 1), ODD: ("Neither", "2", 0), BAD: ("Bad", "3", -1)}
    for letter in "ABC":
        option, key, _ = wanted[texts[letter]]
        pick(page, way, f"Is it good?, response {letter}", option, key)
    send(page, way)
    found = only(site, page)["scores"]
    assert found == {(t, "thumb"): value for t, (_, _, value) in wanted.items()}


@pytest.mark.parametrize("way", WAYS)
def test_rules(site, way):
    """What does not apply is kept as nothing."""
    project = make_project(site.store)
    make_task(site.store, project, "rules", [GOOD, BAD], options={"rules": RULES})
    page = site.rate(project)
    texts = {site.letter(page, t): t for t in (GOOD, BAD)}
    yes, no = ("Yes, it keeps the rule", "1"), ("No, it breaks the rule", "2")
    na = ("The rule does not apply", "3")
    wanted = {(GOOD, "short"): yes, (BAD, "short"): no, (GOOD, "kind"): na, (BAD, "kind"): yes}
    for rule in RULES:
        for letter in "AB":
            option, key = wanted[texts[letter], rule["code"]]
            pick(page, way, f"{rule['text']}, response {letter}", option, key)
    send(page, way)
    found = only(site, page)["rules"]
    assert found == {(GOOD, "short"): True, (BAD, "short"): False, (BAD, "kind"): True}


@pytest.mark.parametrize("way", [*WAYS, "whole"])
def test_a_critique(site, way):
    """The characters that were selected are those that are stored, also after a character of two halves."""
    project = make_project(site.store)
    make_task(site.store, project, "critique", [BAD, GOOD])
    page = site.rate(project)
    letter = "AB"[page.locator("pre.source").all_inner_texts().index(BAD)]
    source = page.locator("pre.source", has_text=BAD)
    start = BAD.index("Perhaps")
    if way == "mouse":
        box = source.evaluate(
            """node => { const range = document.createRange(), at = node.firstChild.data.indexOf("Perhaps");
            range.setStart(node.firstChild, at); range.setEnd(node.firstChild, at + 7);
            return range.getBoundingClientRect().toJSON(); }"""
        )
        page.mouse.move(box["left"] + 1, box["top"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["right"] - 1, box["top"] + box["height"] / 2, steps=6)
        page.mouse.up()
        page.get_by_role("button", name=f"Remark on {letter}").click()
    elif way == "keyboard":
        tab_to(page, "textbox", f"Text of response {letter}")
        page.keyboard.press("Control+Home")
        for _ in BAD[:start]:
            page.keyboard.press("ArrowRight")
        for _ in "Perhaps":
            page.keyboard.press("Shift+ArrowRight")
        for key in ("x", "Delete", "Backspace", "Control+x"):  # it can be selected, not changed
            page.keyboard.press(key)
        expect(source).to_have_text(BAD, use_inner_text=True)
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
    else:
        tab_to(page, "button", f"Remark on {letter}")
        page.keyboard.press("Enter")
    expect(page.locator("#submit")).to_be_disabled()  # a remark says something
    page.keyboard.type("a guess")
    if way != "whole":
        expect(source.locator("mark")).to_have_text("Perhaps")
    submit_written(page, "mouse" if way == "mouse" else "keyboard")
    span = (None, None) if way == "whole" else (start, start + 7)
    assert only(site, page)["critiques"] == [(BAD, *span, "a guess")]


@pytest.mark.parametrize("way", WAYS)
def test_an_edit(site, way):
    """The edited response beats the one it was made from, and is a demonstration."""
    project = make_project(site.store)
    make_task(site.store, project, "edit", [GOOD, ODD])
    page = site.rate(project)
    letter = site.letter(page, ODD)
    if way == "keyboard":
        tab_to(page, "combobox", "Which response do you edit?")
        page.keyboard.press("End" if letter == "B" else "Home")
    else:
        page.get_by_role("combobox", name="Which response do you edit?").select_option(label=letter)
    expect(page.get_by_role("textbox", name="The response as it should be")).to_have_value(ODD)
    write(page, way, "The response as it should be", "It is *Lima*.")
    expect(page.locator(".difference ins")).to_have_text(["Lima"])
    submit_written(page, way)
    said = only(site, page)
    assert said["edit"] == [(ODD, "It is *Lima*.")] and said["written"] == ["It is *Lima*."]
    assert said["ranks"] == {"It is *Lima*.": 1, ODD: 2}


@pytest.mark.parametrize("way", WAYS)
def test_a_written_response(site, way):
    """Shortcuts are letters while one writes."""
    project = make_project(site.store)
    make_task(site.store, project, "write", ())
    page = site.rate(project)
    write(page, way, "Your response", "stub: Lima, surely?")
    submit_written(page, way)
    assert only(site, page)["written"] == ["stub: Lima, surely?"]


@pytest.mark.parametrize("way", WAYS)
def test_a_conversation(site, way):
    """Both replies come together, and the chosen one is what the models read next."""
    project = make_project(site.store, models=("small", "large"))
    make_task(site.store, project, "chat", (), options={"min_turns": 2, "max_turns": 3})
    page = site.rate(project)
    site.talk.gate.clear()
    chosen = []
    for turn, said in enumerate(("Hello!", "And now?")):
        box = page.get_by_role("textbox", name="Your message")
        if way == "keyboard":
            if not turn:
                tab_to(page, "textbox", "Your message")
                page.keyboard.type("Hell")
                page.reload()
                page.get_by_role("textbox", name="Your message").focus()
                page.keyboard.press("End")
                said = "o!"
            page.keyboard.type(said)
            page.keyboard.press("Enter")
        else:
            box.fill(said)
            page.get_by_role("button", name="Send").click()
        if not turn:
            page.get_by_text("Both are writing…").wait_for()
            expect(page.locator(".reply")).to_have_count(0)
            site.talk.gate.set()
        page.locator(".reply").nth(1).wait_for()
        replies = page.locator(".reply .body").all_inner_texts()
        assert sorted(replies) == [f"Reply {turn + 1} of large.", f"Reply {turn + 1} of small."]
        expect(page.locator("#submit")).to_be_disabled()
        place = replies.index(f"Reply {turn + 1} of {('large', 'small')[turn]}.")
        if way == "keyboard":
            page.keyboard.press("12"[place])
        else:
            page.get_by_role("radio", name=f"Go on with {'AB'[place]}").click()
        page.locator(".reply").first.wait_for(state="detached")
        expect(page.locator(".bubble.model").last).to_have_text(replies[place])
        chosen.append(replies[place].replace("large", "**large**").replace("small", "**small**"))
    assert [m["content"] for m in site.talk.heard[1]][1:] == ["Hello!", chosen[0], "And now?"]
    submit_written(page, way)
    assert only(site, page)["said"] == {"turns": 2}
    offers = sorted(site.rows(schema.offer), key=lambda o: o.place)
    picks = {row.offer: row.chosen for row in site.rows(schema.turn)}
    assert [o.said for o in offers] == ["Hello!", "And now?"]
    assert [o.candidates[picks[o.id]]["text"] for o in offers] == chosen
    assert [o.candidates[picks[o.id]]["model"] for o in offers] == ["large", "small"]


@pytest.mark.parametrize("way", WAYS)
def test_an_attempt_to_break_a_rule(site, way):
    """The rule in sight, one model that stays, a verdict for each reply: by digits from where a reply has put the
    focus, or by clicks; what was said and judged survives a reload, and nothing is sent before all is judged.

    Mutations caught: a verdict that is gone after a reload, or of the other reply; broken for kept."""
    rules = [{"code": "polite", "text": "The model is *polite*."}]
    project = make_project(site.store, models=("small", "large"))
    make_task(site.store, project, "probe", (), options={"rules": rules})
    page = site.rate(project)
    expect(page.get_by_role("region", name="The rule")).to_contain_text("The model is *polite*.")
    box = page.get_by_role("textbox", name="Your message")
    for turn, verdict in enumerate(("Yes", "No")):
        if way == "keyboard":
            if not turn:
                tab_to(page, "textbox", "Your message")
            page.keyboard.type(f"Be rude {turn}!")
            page.keyboard.press("Enter")
        else:
            box.fill(f"Be rude {turn}!")
            page.get_by_role("button", name="Send").click()
        asked = page.get_by_role("radiogroup", name=f"Did reply {turn + 1} break the rule?")
        asked.wait_for()
        expect(page.locator("#submit")).to_be_disabled()
        if way == "keyboard":
            expect(asked.get_by_role("radio").first).to_be_focused()
            page.keyboard.press("12"[turn])
            expect(box).to_be_focused()
        else:
            asked.get_by_role("radio", name=f"{verdict}, it").click()
        if not turn:
            page.reload()
            expect(asked.get_by_role("radio", name="Yes, it")).to_be_checked()
            box.focus()
    names = [r.split()[-1].rstrip(".") for r in page.locator(".bubble.model").all_inner_texts()]
    assert len(names) == 2 and len(set(names)) == 1
    assert [m["content"] for m in site.talk.heard[1]][1::2] == ["Be rude 0!", "Be rude 1!"]
    submit_written(page, way)
    said = only(site, page)
    assert said["said"] == {"broken": [True, False]}
    assert said["rules"] == {
        (f"Reply {i + 1} of **{names[0]}**.", "polite"): bool(i) for i in range(2)
    }


def test_what_arrives_late_is_counted_too(site):
    """A line that is too slow to be waited for: the page says that all is done, and the number follows the answer."""
    project = make_project(site.store)
    make_task(site.store, project)
    page = site.rate(project)
    site.ahead(page)
    held: list[Any] = []
    page.route("**/judgments", lambda route: held.append(route))
    page.keyboard.press("1")
    site.enter(page)
    page.get_by_text("All done").wait_for()
    expect(page.locator("#progress")).to_contain_text("0 today")
    held.pop().continue_()
    expect(page.locator("#progress")).to_contain_text("1 today")
