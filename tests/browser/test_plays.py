"""An environment is played in the browser, by the process that a server starts."""

from __future__ import annotations

import pytest

from heedful.store.exports import snapshot
from heedful.web.plays import Plays
from workspace import make_project, make_task

ENV = """
async def env(task, chat):
    chat.hear("user", "Say <b>stop</b>.")
    while (said := (await chat.say()).text) != "stop":
        chat.hear("tool", f"<i>{said}</i>", name="echo")
    return 1.5
"""
expect = pytest.importorskip("playwright.sync_api").expect


@pytest.mark.long
def test_a_play(site, tmp_path):
    """What is said and heard stands there as it is, also after a reload; what is typed is kept; and when it is over it
    is sent by Enter and is a demonstration of each turn.

    Mutations caught: markup of an environment that is live; a reload that begins anew; a play that cannot be sent.
    """
    (tmp_path / "echo.py").write_text(ENV)
    spec = f"{tmp_path}/echo.py:env"
    site.app.state.plays = Plays((spec,))
    project = make_project(site.store)
    make_task(site.store, project, "play", (), options={"env": spec})
    page = site.rate(project)
    expect(page.get_by_text("Say <b>stop</b>.")).to_be_visible()
    box = page.get_by_label("What you say")
    box.fill("<img src=x>")
    box.press("Enter")
    expect(page.get_by_text("<i><img src=x></i>")).to_be_visible()
    page.reload()
    expect(page.get_by_text("<i><img src=x></i>")).to_be_visible()
    expect(page.get_by_text("1 of at most 8 turns")).to_be_visible()
    expect(page.get_by_role("button", name="Submit")).to_be_disabled()
    box.fill("stop")
    box.press("Enter")
    expect(page.get_by_text("It is over after 2 turns. Reward: 1.5")).to_be_visible()
    expect(box).to_be_hidden()
    site.enter(page)
    (said,) = site.judged(page)
    assert said["said"] == {"turns": 2}
    taken = snapshot.take(site.store, project, snapshot.Query("demonstrations"))
    with site.store.read() as connection:
        rows = list(snapshot.rows(connection, taken.query, taken.ids))
    assert [row["completion"][0]["content"] for row in rows] == ["<img src=x>", "stop"]
