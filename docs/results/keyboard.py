"""From Enter to the next question, in a real browser: PYTHONPATH=tests python docs/results/keyboard.py [ANSWERS]

A rater of pairs presses a digit and Enter, with a pause as short as nobody thinks; what counts is the time from the key
in the page until the frame with the next question's text has been painted. Server and browser share the machine, here
a core of it. Prints a JSON object; the one in people/keyboard.json is from the machine that it names.
"""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import uvicorn
from playwright.sync_api import sync_playwright

from heedful.store.database.db import open_store
from heedful.store.membership import people
from heedful.web.app import create_app
from heedful.web.security import COOKIE
from workspace import make_project, make_rater, make_task

ANSWERS, PAUSE = 200, 0.7  # seconds
WORDS = 400  # of a response, with a list, a formula and code
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
# Of each Enter the milliseconds until another prompt is on the screen.
WATCH = """() => {
  window.took = [];
  let began = null;
  addEventListener("keydown", (e) => { if (e.key === "Enter") began = performance.now(); }, { capture: true });
  new MutationObserver(() => {
    if (began === null) return;
    const from = began;
    began = null;
    const { port1, port2 } = new MessageChannel(); // heard when the frame has been painted
    port1.onmessage = () => window.took.push(performance.now() - from);
    requestAnimationFrame(() => port2.postMessage(null));
  }).observe(document.getElementById("prompt"), { childList: true, subtree: true });
}"""

READ = (
    "() => document.querySelectorAll('.panel .body').forEach((b) => b.scrollTo(0, b.scrollHeight))"
)


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else ANSWERS
    with tempfile.TemporaryDirectory() as folder:
        times = sorted(measure(Path(folder), n))
    found = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "answers": len(times),
        "load": round(os.getloadavg()[0], 1),
        "ms": {"median": round(median(times), 1), "p95": round(times[int(0.95 * len(times))], 1)},
    }
    print(json.dumps(found, indent=1))


def measure(folder: Path, n: int) -> list[float]:
    store = open_store(f"sqlite:///{folder / 'heedful.db'}")
    project, rater = make_project(store), make_rater(store)
    rng = random.Random(0)
    for i in range(n + 5):
        make_task(store, project, responses=(text(rng), text(rng)), question=f"{i}. Which one?")
    with store.write() as connection:
        token, _ = people.begin_session(connection, rater)
    server = uvicorn.Server(
        uvicorn.Config(create_app(store, workspace=folder), port=0, log_level="error")
    )
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        return rated(f"{url}/rate/{project}", url, token, n)
    finally:
        server.should_exit = True


def rated(page_url: str, url: str, token: str, n: int) -> list[float]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        context = browser.new_context(viewport={"width": 1366, "height": 768})
        cookie: Any = {"name": COOKIE, "value": token, "url": url, "httpOnly": True}
        context.add_cookies([cookie])
        page = context.new_page()
        page.goto(page_url)
        page.locator("#desk").wait_for()
        page.evaluate(WATCH)
        for i in range(n):
            page.wait_for_timeout(1000 * PAUSE)
            page.evaluate(READ)
            page.keyboard.press(str(1 + i % 8))
            page.locator("#submit:enabled").wait_for()
            page.keyboard.press("Enter")
            page.wait_for_function("n => window.took.length === n", arg=i + 1)
        took = page.evaluate("window.took")
        browser.close()
    return took


def text(rng: random.Random) -> str:
    words = " ".join(
        rng.choices(
            ["light", "water", "leaf", "sugar", "energy", "carbon", "the", "a", "of", "and"],
            k=WORDS,
        )
    )
    return f"{words}\n\n1. One $x^2$\n2. Two\n\n```python\nprint('{rng.random()}')\n```\n\n**{words[:200]}**"


if __name__ == "__main__":
    main()
