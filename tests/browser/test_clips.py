"""Clips of games: they move, keys are pressed at them, and what comes of it is what was pressed."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from heedful.control.filming import cut, filmed
from heedful.control.games import load_game
from heedful.control.players import advised
from heedful.data.clips import as_text, frame_of
from workspace import make_project, make_task

expect = pytest.importorskip("playwright.sync_api").expect
SPEC = "tetris(pieces=30)"
LOOKS = "canvas => canvas.toDataURL()"


def clip(steps: int, ms: int, seed: int = 0) -> str:
    whole, _ = filmed(load_game(SPEC), SPEC, advised, seed)
    return as_text(replace(cut(whole, steps, np.random.default_rng(1)), ms=ms))


@pytest.mark.long
def test_keys_are_pressed_while_a_clip_moves(site):
    """By keyboard, then by mouse; nothing can be sent before the end. Mutation caught: a press put to another frame,
    one that counts after the end, an answer that is complete at once."""
    project = make_project(site.store)
    text = clip(4, 1500)
    make_task(site.store, project, "presses", (text,))
    page = site.rate(project)
    expect(page.locator("#submit")).to_be_disabled()
    page.keyboard.press(" ")
    page.wait_for_timeout(300)
    page.keyboard.press("j")
    page.wait_for_timeout(1500)
    page.get_by_role("button", name="Bad (k)").click()
    expect(page.locator(".pressing .hint")).to_have_text("1 good, 1 bad")
    expect(page.locator("#submit")).to_be_disabled()
    site.enter(page)
    (judgment,) = site.judged(page)
    (first, second) = sorted(judgment["critiques"], key=lambda c: c[1])
    assert (frame_of(text, first[1]), frame_of(text, second[1])) == (0, 1)
    lines = text.split("\n")
    assert [text[c[1] : c[2]] for c in (first, second)] == lines[1:3]
    assert first[3].startswith("good after 0.") and second[3].startswith("bad after ")


def test_clips_that_are_compared_move(site):
    """Mutations caught: a clip that is shown as text or with tools for texts, help that tells of their keys, a clip
    that moves although somebody wants none."""
    project = make_project(site.store)
    make_task(site.store, project, "pair", (clip(6, 200), clip(6, 200, 1)))
    page = site.rate(project)
    canvas = page.locator(".panel canvas").first
    canvas.wait_for()
    expect(page.locator("#views, .panel-tools :not(.enlarge)")).to_be_hidden()
    page.keyboard.press("?")
    told = page.get_by_role("dialog", name="Keys").locator("dd")
    expect(told.filter(has_text="skip, flag for the lead")).to_be_visible()
    expect(told.filter(has_text=re.compile("raw text|differences|guidelines"))).to_have_count(0)
    site.escape(page)
    page.wait_for_timeout(500)
    still = canvas.evaluate(LOOKS)
    page.wait_for_timeout(500)
    assert canvas.evaluate(LOOKS) == still  # reduced motion, until it is asked to
    page.get_by_role("button", name="Play").first.click()
    page.wait_for_function("([c, s]) => c.toDataURL() !== s", arg=[canvas.element_handle(), still])
    page.keyboard.press("2")
    page.get_by_role("button", name="Submit").click()
    assert len(site.judged(page)) == 1
