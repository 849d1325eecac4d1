"""The raters of study.py, and what they are asked: sums with a right and a wrong answer each."""

from __future__ import annotations

import random
import uuid
from typing import Any

import httpx
from playwright.sync_api import Page

PASSWORD = "seven sums a day"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
SKILL = {"honest": 0.95, "poor": 0.7}  # how often they see which answer is right
GOLD = 60
THOUGHT = 1500  # milliseconds of somebody who reads before they answer


class World:
    """Prompts of sums; of every response it is known whether it is right."""

    def __init__(self, prompts: int, seed: int):
        self.rng = random.Random(seed)
        numbers = self.rng.sample(
            [(a, b) for a in range(12, 99) for b in range(12, 99)], prompts + GOLD
        )
        asked = [(f"What is {a} × {b}? Show the steps.", self.answers(a, b)) for a, b in numbers]
        self.prompts, self._gold = asked[:prompts], asked[prompts:]
        self.right = {text for _, (good, _) in asked for text in (good,)}
        self.told: dict[str, dict[str, Any]] = {}

    def answers(self, a: int, b: int) -> tuple[str, str]:
        tens, ones = 10 * (b // 10), b % 10
        slip = self.rng.choice([-20, -10, -1, 1, 10, 20])
        parts = [f"- ${a} \\times {n} = {a * n}$" for n in (tens, ones)]
        total = f"$${a} \\times {b} = {a * tens} + {a * ones} = {a * b}$$"
        good = f"Split ${b} = {tens} + {ones}$:\n\n{parts[0]}\n{parts[1]}\n\nAdding both gives\n\n{total}"
        sure = (
            "I am sure of it, since I have done this many times before and never was wrong about any "
            "product of two numbers. "
        )
        bad = f"It is easy to see that the result is **{a * b + slip}**. {sure * self.rng.randint(1, 5)}"
        return good, bad

    def rows(self) -> list[list[str]]:
        """Of a table with its header, with columns beside the wanted ones."""
        lines = [
            [str(i), prompt, text, model, "2026-11"]
            for i, (prompt, both) in enumerate(self.prompts)
            for text, model in zip(both, ("big", "small"), strict=True)
        ]
        return [["nr", "sum", "reply", "model", "batch"], *lines]

    def gold(self) -> list[dict[str, Any]]:
        why = "The one that shows **each step** has the right result; the other one only says that it is sure."
        return [
            {"prompt": prompt, "responses": list(both), "ranking": [1, 2], "explanation": why}
            for prompt, both in self._gold
        ]


class Person:
    """A rater with a browser of their own, and the requests that its page sends."""

    def __init__(self, name: str, kind: str, project: str, page: Page, world: World):
        self.name, self.kind, self.project, self.page, self.world = name, kind, project, page, world
        self.rng = random.Random(name)
        self.tries = 0  # at the qualification: one of the poor fails the first
        self.turned = False  # the hostile one is honest until the real work
        self.count = world.told[name] = {"kind": kind, "by keys": 0, "by taps": 0, "by requests": 0}
        token = page.locator('meta[name="csrf"]').get_attribute("content") or ""
        base = page.url.split("/rate/")[0]
        cookies = {c["name"]: c["value"] for c in page.context.cookies()}  # type: ignore[typeddict-item]
        self.http = httpx.Client(
            base_url=base,
            cookies=cookies,
            timeout=120,
            headers={"X-CSRF-Token": token, "Origin": base},
        )

    def pseudonym(self) -> str:
        return self.page.locator('header a[href$="account"]').inner_text()

    # ── by requests ──────────────────────────────────────────────────────────────────────────────

    def next(self) -> dict[str, Any]:
        reply = self.http.post(f"/api/projects/{self.project}/next", json={"holding": []})
        reply.raise_for_status()
        return reply.json()

    def refused(self) -> bool:
        return (
            self.http.post(f"/api/projects/{self.project}/next", json={"holding": []}).status_code
            == 403
        )

    def send(self, task: dict[str, Any]) -> None:
        hasty = self.kind == "hostile" and self.turned
        spent = self.rng.randint(200, 500) if hasty else self.rng.randint(15_000, 60_000)
        body = {"answer": self.judgment(task), "active_ms": spent, "wall_ms": spent + 500}
        path = f"/api/assignments/{task['assignment']}"
        reply = self.http.post(
            f"{path}/judgments", json=body, headers={"Idempotency-Key": str(uuid.uuid4())}
        )
        reply.raise_for_status()
        if (task["trial"] or {}).get("stage") == "training":
            self.http.get(f"{path}/lesson").raise_for_status()
        self.count["by requests"] += 1

    def answer(self, most: int) -> int:
        """Up to so many of the real questions; returns how many there were."""
        self.turned = True
        for n in range(most):
            task = self.next()["task"]
            if task is None:
                return n
            self.send(task)
        return most

    def learn(self) -> bool:
        """Training and qualification; whether they are in."""
        while (given := self.next())["task"] and given["task"]["trial"]:
            self.send(given["task"])
        self.tries += 1
        return given["task"] is not None

    def first(self, texts: list[str]) -> bool:
        """Whether they hold the first response to be the better one."""
        if self.kind == "hostile" and self.turned:
            return True
        known = [t in self.world.right for t in texts]
        if self.name == "dan" and self.tries == 0:
            return known[1]
        if known[0] == known[1]:
            return self.rng.random() < 0.5
        seen = self.rng.random() < SKILL.get(self.kind, 1.0)
        return known[0] == seen

    def judgment(self, task: dict[str, Any]) -> dict[str, Any]:
        """In the forms of answers of the questions on the screen."""
        left = self.first([r["text"] for r in task["responses"]])
        said: dict[str, Any] = {}
        for question in task["questions"]:
            if question["kind"] == "pair":
                said[question["name"]] = {
                    "value": self.rng.choice([1, 2, 3] if left else [6, 7, 8])
                }
            elif question["kind"] == "rate":
                marks = [self.rng.choice([4, 5]), self.rng.choice([1, 2, 3])]
                axes = [axis["name"] for axis in question["options"]["axes"]]
                said[question["name"]] = {
                    "scores": dict.fromkeys(axes, marks if left else marks[::-1])
                }
            elif self.rng.random() < 0.2:
                said[question["name"]] = {"text": "Its steps can be followed."}
        return said

    # ── in the browser ───────────────────────────────────────────────────────────────────────────

    def shown(self) -> dict[str, Any]:
        """The question on the screen, as the page holds it: what `next` would say it is."""
        letters = self.page.evaluate("() => document.querySelector('#prompt .body').innerText")
        for prompt, both in self.world.prompts + self.world._gold:
            if prompt.split("?")[0] in letters:
                return {"prompt": prompt, "both": both}
        raise AssertionError(letters)

    def left_is_right(self) -> bool:
        good, _ = self.shown()["both"]
        return "Split" in self.page.locator("#responses .body").first.text_content() and bool(good)  # type: ignore[operator]

    def read(self, i: int) -> None:
        """A response to its end: by the wheel inside its panel, on a phone by scrolling the page to it."""
        body = self.page.locator("#responses .panel .body").nth(i)
        body.evaluate("(b) => b.scrollTop = b.scrollHeight")
        body.evaluate(
            "(b) => scrollTo(0, b.getBoundingClientRect().bottom + scrollY - innerHeight / 2)"
        )
        self.page.wait_for_timeout(100)

    def by_keys(self, n: int) -> None:
        for _ in range(n):
            before = self.page.locator("#prompt .body").inner_text()
            left = self.left_is_right()
            for i in (0, 1):
                self.read(i)
            self.page.keyboard.press("2" if left else "7")
            self.page.keyboard.press("ArrowDown")
            for key in "5252" if left else "2525":
                self.page.keyboard.press(key)
            self.page.wait_for_timeout(THOUGHT)
            self.page.locator("#submit:enabled").wait_for()
            self.page.keyboard.press("Enter")
            self.count["by keys"] += 1
            self.on(before)

    def by_taps(self, n: int) -> None:
        page = self.page
        for _ in range(n):
            before = page.locator("#prompt .body").inner_text()
            left = self.left_is_right()
            self.read(0)
            page.get_by_role("tab", name="Response B").tap()
            self.read(1)
            side = "A is much better" if left else "B is much better"
            page.get_by_role("radio", name=side, exact=True).tap()
            for axis in ("helpful", "truthful"):
                for letter, value in zip("AB", (5, 2) if left else (2, 5), strict=True):
                    group = page.get_by_role("radiogroup", name=f"{axis}, response {letter}")
                    group.get_by_role("radio", name=f"{axis}: {value}", exact=True).tap()
            page.wait_for_timeout(THOUGHT)
            page.locator("#submit:enabled").tap()
            self.count["by taps"] += 1
            self.on(before)

    def on(self, before: str) -> None:
        """To the next question, past the lesson where there is one."""
        lesson, page = self.page.locator("#lesson[open]"), self.page
        for _ in range(1200):
            if lesson.count():
                page.keyboard.press("Enter")
            if (
                page.locator("#empty").is_visible()
                or page.locator("#prompt .body").inner_text() != before
            ):
                return
            page.wait_for_timeout(50)
        raise AssertionError("the next question did not come")

    def learn_in_the_browser(self) -> None:
        for _ in range(6):
            self.by_taps(1) if self.name == "bao" else self.by_keys(1)
