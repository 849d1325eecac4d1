"""A server on a free port and Chromium in front of it; every page is watched for what must never happen."""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from sqlalchemy import select

from databases import new_store
from heedful.store.database.db import Store
from heedful.store.membership import people
from heedful.store.project import content, projects
from heedful.store.tables import schema
from heedful.types import Message
from heedful.web.app import create_app
from heedful.web.security import COOKIE
from workspace import CHEAP, answer, cheap_passwords, claim, make_project, make_task

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
PASSWORD = "correct horse 9"
PATIENCE = 60.0  # seconds for anything that a page is to come to: no more than that it hangs
PEOPLE = {"owner": "owner", "lead": "lead", "rater": "rater", "other": "rater"}  # login: role


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


class Talk:
    """Stands for the models: each reply names the turn and itself; `gate` holds both replies back."""

    def __init__(self) -> None:
        self.heard: list[list[dict[str, str]]] = []
        self.gate = threading.Event()
        self.gate.set()

    async def replies(self, models: Any, messages: Any, **_sampling: Any) -> Any:
        self.heard.append(list(messages))
        turn = len(self.heard)
        yield 1
        while not self.gate.is_set():
            await asyncio.sleep(0.01)
        yield 2
        yield [
            {
                "text": f"Reply {turn} of **{name}**.",
                "tokens": [1, 2],
                "logprobs": [-0.5, -0.5],
                "finish_reason": "stop",
            }
            for name in models
        ]

    async def close(self) -> None:
        pass


class Site:
    """The workspace, its server, and windows of people who look at it."""

    def __init__(self, store: Store, workspace: Path, url: str, talk: Talk, browser: Any):
        self.store, self.workspace, self.url, self.talk = store, workspace, url, talk
        self.people: dict[str, str] = {}
        self.app: Any = None
        self.problems: list[str] = []
        self._browser = browser
        # Chromium's own words on a machine that is busy with other things.
        self._expected: list[str] = [r"^\[Intervention\] Slow network is detected"]
        self._fetched: list[tuple[Any, str]] = []
        self._contexts: list[Any] = []

    def expect(self, *patterns: str) -> None:
        """Console messages and dialogs that match are part of this test."""
        self._expected += patterns

    def window(self, login: str | None = None, **options: Any) -> Any:
        """A page of a browser of its own; of somebody who is signed in, where a login is given."""
        values = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | options
        context = self._browser.new_context(base_url=self.url, **values)
        context.set_default_timeout(1000 * PATIENCE)
        self._contexts.append(context)
        context.on("page", self._watch)
        if login:
            self.sign_in(context, login)
        return context.new_page()

    def signed_in(self, login: str, path: str | None = None, **options: Any) -> Any:
        page = self.window(login, **options)
        if path:
            page.goto(path)
        return page

    def sign_in(self, context: Any, login: str) -> None:
        """As the login does, without the password, whose hash is slow on purpose."""
        with self.store.write() as connection:
            token, _ = people.begin_session(connection, self.people[login])
        context.add_cookies([{"name": COOKIE, "value": token, "url": self.url, "httpOnly": True}])

    def rate(self, project: str, login: str = "rater", **options: Any) -> Any:
        """The rater's page, with a question on it."""
        page = self.signed_in(login, f"/rate/{project}", **options)
        page.locator("#desk").wait_for()
        return page

    def ahead(self, page: Any) -> None:
        """Until the question after the first one is there, too; the page asks for it by itself."""
        self.until(page, lambda: len([u for p, u in self._fetched if p == page]) >= 2)

    def gone(self, page: Any, question: str) -> None:
        """Until the page shows another question, or says that there is none; what was answered stays until then."""
        page.wait_for_function(
            "q => document.querySelector('#prompt .body')?.innerText !== q || !document.getElementById('empty').hidden",
            arg=question,
        )

    def enter(self, page: Any) -> None:
        """Submit by key, once that can be done: a question is measured first, whether it must be scrolled."""
        page.locator("#submit:enabled").wait_for()
        page.keyboard.press("Enter")

    def escape(self, page: Any) -> None:
        """Close a dialog; the page has its focus back a frame later."""
        page.keyboard.press("Escape")
        page.wait_for_function(
            "() => !document.querySelector('dialog[open]') && document.activeElement === document.body"
        )

    def letter(self, page: Any, text: str) -> str:
        """The letter under which a response stands on the screen: chance decides."""
        words = text.replace("*", "")
        for name in "ABCD":
            if page.get_by_role("region", name=f"Response {name}").inner_text().strip() == words:
                return name
        raise AssertionError(f"{text!r} is not on the screen")

    def rows(self, table: Any, *columns: str) -> list[Any]:
        with self.store.read() as connection:
            query = select(table) if not columns else select(*(table.c[c] for c in columns))
            return list(connection.execute(query).all())

    def until(self, page: Any, found: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """What `found` gives once it gives something; the page lives on meanwhile."""
        end = time.monotonic() + seconds
        while not (value := found()):
            assert time.monotonic() < end, "it did not happen in time"
            page.wait_for_timeout(20)
        return value

    def judged(self, page: Any, n: int = 1) -> list[dict[str, Any]]:
        """Wait until `n` judgments are stored, no more; all of them in their order, by texts of responses."""
        self.until(page, lambda: len(self.rows(schema.judgment, "id")) >= n)
        found = self.rows(schema.judgment)
        assert len(found) == n
        texts = {row.id: row.text for row in self.rows(schema.completion)}

        def of(table: Any, key: str, row: Any) -> list[Any]:
            return [
                (texts[r.completion], *(getattr(r, k) for k in key.split()))
                for r in self.rows(table)
                if r.judgment == row.id
            ]

        return [
            {
                "outcome": row.outcome,
                "strength": row.strength,
                "text": row.text,
                "said": row.said,
                "rater": row.rater,
                "task": row.task,
                "revision": row.revision,
                "disposition": row.disposition,
                "active_ms": row.active_ms,
                "wall_ms": row.wall_ms,
                "ranks": dict(of(schema.ranking_item, "rank", row)),
                "scores": {(t, a): v for t, a, v in of(schema.score, "axis value", row)},
                "rules": {(t, c): v for t, c, v in of(schema.rule_flag, "rule verdict", row)},
                "critiques": of(schema.critique, "start end text", row),
                "edit": [(t, texts[e]) for t, e in of(schema.edit, "edited", row)],
                "written": [
                    d.text for d in self.rows(schema.demonstration) if d.judgment == row.id
                ],
            }
            for row in sorted(found, key=lambda r: r.id)
        ]

    def worked_in(self) -> str:
        """A project in which two raters have judged four questions, disagree on one, and flagged another."""
        store = self.store
        project = make_project(store)
        with store.write() as connection:
            projects.write_guidelines(connection, project, "# Be fair\n\n$x^2$", actor=None)
            for i in range(4):
                asked = content.add_prompt(connection, project, (Message("user", f"What is {i}?"),))
                ids = [
                    content.add_completion(connection, asked, f"{name} {i} $y$", model=name)
                    for name in ("big", "small")
                ]
                content.add_task(connection, project, "pair", asked, ids, overlap=2)
        for login in ("rater", "other"):
            rater = self.people[login]
            for _ in range(4):
                given = claim(store, project, rater)
                assert given
                with store.read() as connection:
                    row = connection.execute(
                        select(schema.assignment.c.order_shown, schema.prompt.c.content)
                        .join(schema.task, schema.task.c.id == schema.assignment.c.task)
                        .join(schema.prompt, schema.prompt.c.id == schema.task.c.prompt)
                        .where(schema.assignment.c.id == given)
                    ).one()
                big_wins = login == "rater" or "0" not in row.content[0]["content"]
                big_first = row.order_shown[0] == 0
                answer(store, given, rater, {"value": 2 if big_wins == big_first else 7})
        make_task(store, project, question="What is unclear?")
        flagged = claim(store, project, self.people["rater"])
        assert flagged
        answer(store, flagged, self.people["rater"], {"flag": "cannot be *understood*"})
        return project

    def _watch(self, page: Any) -> None:
        page.on("pageerror", self._error)
        page.on("dialog", self._dialog)
        page.on("console", self._console)
        page.on("request", lambda r: self._request(r.url))
        page.on("requestfinished", lambda r: self._finished(page, r.url))

    def _error(self, error: Any) -> None:
        if not self._is_expected(str(error)):
            self.problems.append(f"error in the page: {error}")

    def _dialog(self, dialog: Any) -> None:
        if self._is_expected(dialog.message):
            dialog.accept()
        else:
            self.problems.append(f"a dialog: {dialog.message}")
            dialog.dismiss()

    def _is_expected(self, text: str) -> bool:
        return any(re.search(p, text) for p in self._expected)

    def _console(self, message: Any) -> None:
        text = message.text
        if message.type in ("error", "warning") and not self._is_expected(text):
            self.problems.append(f"console {message.type}: {text} {message.location}")

    def _request(self, url: str) -> None:
        if not url.startswith((self.url + "/", "data:", f"blob:{self.url}/")):
            self.problems.append(f"a request to elsewhere: {url}")

    def _finished(self, page: Any, url: str) -> None:
        if url.endswith("/next"):
            self._fetched.append((page, url))

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        assert self.problems == []


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser a file. Not one a session: while it is there, no other test can run an event loop."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path(CHROMIUM).exists():
        pytest.skip("Chromium is not installed")
    with api.sync_playwright() as playwright:
        api.expect.set_options(timeout=1000 * PATIENCE)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS, timeout=120_000)
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def _cheap_passwords() -> Iterator[None]:
    with cheap_passwords():
        yield


@pytest.fixture(scope="session")
def hashed() -> str:
    return CHEAP.hash(PASSWORD)


@pytest.fixture
def empty(chromium: Any, tmp_path: Path) -> Iterator[Site]:
    """A workspace in which nobody is yet."""
    store = new_store(tmp_path / "heedful.db")
    talk = Talk()
    app = create_app(store, workspace=tmp_path, talk=talk)
    config = uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    site = Site(store, tmp_path, f"http://127.0.0.1:{port}", talk, chromium)
    site.app = app
    try:
        yield site
        site.close()
    finally:
        server.should_exit = True
        thread.join(10)
        store.close()


@pytest.fixture
def site(empty: Site, hashed: str) -> Site:
    """With an owner, a lead and two raters, by the logins of `PEOPLE`."""
    with empty.store.write() as connection:
        for login, role in PEOPLE.items():
            token = people.invite(connection, role, actor=None)
            empty.people[login] = people.accept(
                connection, token, login=login, password_hash=hashed
            )
    return empty
