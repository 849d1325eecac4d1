"""The lead of study.py: a browser whose clicks, fields, keys and pages are counted, by steps."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

LAPTOP = {"width": 1366, "height": 768}
# Of the keystroke-level model (Card, Moran & Newell 1980): to make up one's mind 1.35 s, to point 1.1, to press and
# let go of the mouse 0.2, a hand from the mouse to the keys 0.4, a key of a typist who is no secretary 0.28. A word
# is read in 0.25 s (Brysbaert 2019: 238 a minute). To look over a new page, and to recall and type a command, are
# guesses.
SECONDS = {
    "clicks": 2.65, "fields": 3.05, "characters": 0.28, "keys": 1.63, "words": 0.25, "pages": 6.0, "commands": 10.0,
}  # fmt: skip


@dataclass
class Step:
    """What the lead did in a step, and the seconds that the pages took for it."""

    name: str
    commands: int = 0
    pages: int = 0
    clicks: int = 0
    fields: int = 0
    characters: int = 0
    keys: int = 0
    words: int = 0
    waited: float = 0.0

    def minutes(self) -> float:
        counts = sum(seconds * getattr(self, kind) for kind, seconds in SECONDS.items())
        return (counts + self.waited) / 60


class Lead:
    """The lead's browser: each act is counted in the step in which it is done."""

    def __init__(self, page: Page, pictures: Path | None):
        self.page, self.pictures = page, pictures
        self.steps: list[Step] = []
        self.facts: dict[str, Any] = {}  # what came of it

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        now = Step(name)
        self.steps.append(now)
        began = time.monotonic()
        yield now
        now.waited = round(time.monotonic() - began, 1)
        print(f"{name}: {now.minutes():.1f} min", flush=True)

    def click(self, what: Any) -> None:
        self.steps[-1].clicks += 1
        what.click()

    def button(self, name: str, within: Any = None) -> None:
        self.click((within or self.page).get_by_role("button", name=name, exact=True))

    def go(self, name: str) -> None:
        """A link of the navigation; the page is there when nothing in it is being fetched any more."""
        self.steps[-1].pages += 1
        self.page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()
        self.ready()

    def ready(self) -> None:
        self.page.wait_for_load_state()
        expect(self.page.locator("[aria-busy]")).to_have_count(0)

    def fill(self, label: Any, value: str) -> None:
        self.steps[-1].fields += 1
        self.steps[-1].characters += len(value)
        box = self.page.get_by_label(label, exact=True) if isinstance(label, str) else label
        box.fill(value)

    def upload(self, path: Path) -> None:
        """A file: the button, the file in the system's window, and Open there."""
        self.steps[-1].clicks += 3
        self.page.get_by_label("File", exact=False).first.set_input_files(path)

    def press(self, key: str) -> None:
        self.steps[-1].keys += 1
        self.page.keyboard.press(key)

    def read(self, text: str) -> None:
        self.steps[-1].words += len(text.split())

    def choose(self, what: Any, **option: str) -> None:
        self.steps[-1].clicks += 2
        if isinstance(what, str):  # the words of a label around a list have the list's, too
            what = self.page.get_by_label(re.compile(rf"^{what}\b")).first
        what.select_option(**option)

    def said(self, words: str) -> None:
        self.page.locator("#say").get_by_text(words).wait_for()

    def picture(self, name: str, page: Page | None = None) -> None:
        """On a laptop and a phone, light and dark; the window is as before afterwards."""
        if self.pictures is None:
            return
        page = page or self.page
        before = page.viewport_size
        for width, height, scheme in (
            (1366, 768, "light"),
            (390, 844, "light"),
            (1366, 768, "dark"),
        ):
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.wait_for_timeout(200)
            page.screenshot(path=self.pictures / f"{name}-{width}-{scheme}.png", full_page=True)
        page.emulate_media(color_scheme="light")
        if before:
            page.set_viewport_size(before)
