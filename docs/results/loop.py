"""A loop closed by a person in a browser: python docs/results/loop.py DEMO OUT

DEMO is the folder of a `heedful demo`. Its SFT model answers questions twice; a browser session, driven by
Playwright as a person would drive it, prefers the shorter answer of each pair; `heedful iterate` refits the reward
model on these comparisons alone, optimises the policy by DPO and samples again. OUT gets loop.json and loop.svg.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean

import yaml
from sqlalchemy import select

from heedful.evals.statistics import bootstrap_ci
from heedful.report.svg import Series, chart
from heedful.store.database.db import open_store
from heedful.store.tables import schema

QUESTIONS = 236  # the model answers about one in eight in the same words twice; those are not asked
PASSWORD = "shorter is better"
CHROMIUM = "/usr/bin/chromium"
SHOWN = (
    "document.getElementById('prompt').innerText + document.getElementById('responses').innerText"
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


def main(demo: Path, out: Path, seed: int = 0) -> None:
    out.mkdir(parents=True)
    workspace = out / "workspace"
    heedful("init", str(workspace))
    config = {
        "workspace": str(workspace), "project": "short", "model": str(demo / "runs" / "sft"),
        "prompts": str(demo / "data" / "prompts.jsonl"), "out": str(workspace / "runs" / "iterate"),
        "rounds": 2, "prompts_per_round": QUESTIONS, "responses": 2, "raters": ["people"],
        "held_out": str(demo / "data" / "held_out.jsonl"), "scorer": "capitals", "seed": seed,
        "reward": {"epochs": 2, "learning_rate": 1e-3},
        "optimise": {"method": "dpo", "learning_rate": 3e-4, "beta": 0.1, "batch_size": 16, "epochs": 3},
        "quiet": True, "wait": False,
    }  # fmt: skip
    path = out / "iterate.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    heedful("iterate", str(path))  # samples, and stops: it waits for people
    began = time.monotonic()
    clicks = rate_in_a_browser(workspace)
    rated = time.monotonic() - began
    began = time.monotonic()
    heedful("iterate", str(path))  # refits, optimises, samples the next round, and waits again
    learnt = time.monotonic() - began
    lengths = {r: words(workspace, r) for r in (1, 2)}
    result = {
        "seed": seed,
        "clicks": clicks,
        "comparisons": comparisons(workspace),
        "seconds_rating": round(rated, 1),
        "seconds_learning": round(learnt, 1),
        "words": {
            r: {"mean": fmean(v), "ci": bootstrap_ci(v), "responses": len(v)}
            for r, v in lengths.items()
        },
    }
    for name in ("before", "after"):
        found = json.loads(
            (workspace / "runs/iterate/round-1" / name / "evaluation.json").read_text()
        )
        result[f"held_out_{name}"] = {k: found[k] for k in ("length", "kl", "gold", "reward")}
    (out / "loop.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "loop.svg").write_text(figure(lengths))
    print(json.dumps(result, indent=1))


def heedful(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "heedful", *words], check=True)


def rate_in_a_browser(workspace: Path) -> int:
    """Open the one-time link, make the account, and answer until nothing is left; returns how many answers."""
    from playwright.sync_api import sync_playwright

    server = subprocess.Popen(
        [sys.executable, "-m", "heedful", "serve", str(workspace), "--port", "8797"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout
        link = re.search(r"http\S+/setup\S+", server.stdout.readline())
        assert link
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = browser.new_page(
                bypass_csp=True
            )  # for wait_for_function, which evaluates strings
            page.goto(link[0])
            page.fill("input[name=login]", "owner")
            page.fill("input[name=password]", PASSWORD)
            page.click("button[type=submit]")
            page.wait_for_url("**/lead")
            page.goto(link[0].split("/setup")[0] + "/rate")
            page.click("text=Begin")
            answers = 0
            while True:
                page.wait_for_selector("#desk:not([hidden]), #empty:not([hidden])")
                if page.is_visible("#empty"):
                    return answers
                a, b = (len(t.split()) for t in page.locator("#responses .body").all_inner_texts())
                page.keyboard.press("t" if a == b else "1" if a < b else "8")
                question = page.evaluate(SHOWN)
                page.wait_for_function("!document.getElementById('submit').disabled")
                page.keyboard.press("Enter")
                answers += 1
                page.wait_for_function(
                    f"before => document.getElementById('desk').hidden || ({SHOWN}) !== before",
                    arg=question,
                )
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()


def comparisons(workspace: Path) -> int:
    """What the first round has learnt from; some clicks were pairs asked again, the other way round."""
    with open(workspace / "runs" / "iterate" / "round-1" / "comparisons.jsonl") as file:
        return sum(1 for _ in file)


def words(workspace: Path, r: int) -> list[int]:
    """Words of each response that was sampled in a round."""
    store = open_store(workspace)
    with store.read() as connection:
        tasks = connection.execute(
            select(schema.task.c.completions).where(schema.task.c.round == r)
        )
        ids = {key for completions in tasks.scalars() for key in completions}
        texts = connection.execute(select(schema.completion.c.id, schema.completion.c.text))
        found = [len(row.text.split()) for row in texts if row.id in ids]
    store.close()
    return found


STYLE = (
    "<style>svg{font:12px system-ui,sans-serif;background:#fff}text{fill:#444}.ln{fill:none;stroke:currentColor;"
    "stroke-width:2}.pt{fill:currentColor}.grid{stroke:#ddd}.s-sft{color:#1f77b4}.s-dpo{color:#0a7f5a}</style>"
)


def figure(lengths: dict[int, list[int]]) -> str:
    """The share of responses by their number of words, before and after."""
    most = max(max(v) for v in lengths.values())
    series = [
        Series(
            name=name,
            css=css,
            points=[(n, v.count(n) / len(v)) for n in range(most + 1)],
            markers=True,
        )
        for name, css, v in (("before", "s-sft", lengths[1]), ("after", "s-dpo", lengths[2]))
    ]
    svg = str(
        chart(
            series,
            name="loop",
            title="Words of a response",
            desc="The share of responses by their number of words, before and after learning from 200 clicks.",
            x_label="words of a response: before (squares) and after (triangles) 200 clicks",
            width=560,
            height=260,
        )
    )
    svg = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return svg.replace(">", f">{STYLE}", 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
