"""A million judgments, and 50 raters at work: PYTHONPATH=tests python docs/results/load.py [FOLDER [JUDGMENTS]]

Each rater asks for a question, thinks for two seconds on average, and answers; the lead looks at every page meanwhile.
A FOLDER that an earlier run has filled is used as it is. Prints a JSON object; the one in people/load.json is from the
machine that it names. How fast that was then, the same machine being slow at times, `adding` says: the seconds that
Python took before and after for twenty million additions, 0.6 or so on a machine of 2024 that does nothing else, and
`stolen`: the share of the processors' time that a virtual machine was not given while raters worked, alone and watched.
"""

from __future__ import annotations

import json
import os
import platform
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Table

from heedful.store.database import audit
from heedful.store.database.bulk import renew_statistics
from heedful.store.database.db import Store, new_id, open_store
from heedful.store.membership import people
from heedful.store.project import content
from heedful.store.tables import schema
from storm import Server
from workspace import make_project, make_rater

JUDGMENTS, RATERS, SECONDS, THINKS = 1_000_000, 50, 40.0, 2.0
PEOPLE, OVERLAP, OPEN = (
    200,
    2,
    10_000,
)  # who has answered, how often each; and tasks that nobody has
PAGES = ("overview", "raters", "agreement", "disagreements", "labels", "win-rates", "aside")
DAY = 86400.0


def main() -> None:
    judgments = int(sys.argv[2]) if len(sys.argv) > 2 else JUDGMENTS
    with tempfile.TemporaryDirectory() as own:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(own)
        print(json.dumps(measure(folder, judgments), indent=1))


def measure(folder: Path, judgments: int) -> dict[str, Any]:
    workspace = folder / "workspace"
    url = f"sqlite:///{folder / 'heedful.db'}"
    began = time.monotonic()
    if not (folder / "tokens.json").exists():
        workspace.mkdir(parents=True, exist_ok=True)
        (workspace / "heedful.toml").write_text("")
        (folder / "tokens.json").write_text(json.dumps(fill(url, judgments)))
    project, lead, tokens = json.loads((folder / "tokens.json").read_text())
    filled = time.monotonic() - began
    server = Server(workspace, url, 8799)
    server.start()
    server.wait()
    assert server.process
    adding = [adding_seconds()]
    try:
        alone = look(project, lead, pause=0.1)
        stolen = [steal()]
        times = work(project, tokens)
        stolen.append(steal())
        pages: dict[str, list[float]] = {}
        watcher = threading.Thread(target=lambda: pages.update(look(project, lead, pause=4.0)))
        watcher.start()
        watched = work(project, tokens)
        stolen.append(steal())
        watcher.join()
        memory = peak_mib(server.process.pid)
        adding.append(adding_seconds())
    finally:
        server.kill()
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "adding": adding,
        "stolen": [round((b[0] - a[0]) / (b[1] - a[1]), 3) for a, b in pairwise(stolen)],
        "judgments_before": judgments,
        "database_mib": round((folder / "heedful.db").stat().st_size / 2**20),
        "filled_in_seconds": round(filled, 1),
        "raters": RATERS,
        "answers": len(times["submit"]),
        "answers_a_second": round(len(times["submit"]) / SECONDS, 1),
        "refused": len(times.pop("refused")) + len(watched.pop("refused")),  # and asked again
        **{f"{name}_ms": quantiles(values) for name, values in times.items()},
        **{f"{name}_ms_while_the_lead_looks": quantiles(v) for name, v in watched.items()},
        "dashboard_seconds_alone": {name: rounded(values) for name, values in alone.items()},
        "dashboard_seconds_while_rating": {name: rounded(values) for name, values in pages.items()},
        "server_peak_mib": memory,
    }


def adding_seconds() -> float:
    """How fast Python is here now."""
    began, total = time.process_time(), 0
    for i in range(20_000_000):
        total += i
    return round(time.process_time() - began, 2)


def steal() -> tuple[int, int]:
    """Ticks of all processors since the start that others had, and all there were (proc(5))."""
    with open("/proc/stat") as file:
        ticks = [int(n) for n in file.readline().split()[1:9]]
    return ticks[7], sum(ticks)


def work(project: str, tokens: list[str]) -> dict[str, list[float]]:
    """All raters for `SECONDS`; what each request took."""
    times: dict[str, list[float]] = {"next": [], "submit": [], "refused": []}
    threads = [
        threading.Thread(target=rate, args=(project, token, times, i))
        for i, token in enumerate(tokens)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def rate(project: str, token: str, times: dict[str, list[float]], seed: int) -> None:
    rng, end = random.Random(seed), time.monotonic() + SECONDS
    time.sleep(rng.random() * THINKS)
    # Not httpx: fifty threads of it would take a core of the two from the server that they measure.
    with closing(HTTPConnection("127.0.0.1", 8799, timeout=30)) as line:
        while time.monotonic() < end:
            path = f"/api/projects/{project}/next"
            task = asked(line, token, "next", times, path, {"holding": []})["task"]
            time.sleep(rng.expovariate(1 / THINKS))
            said = {"answer": {"value": rng.randint(1, 8)}, "active_ms": 2000}
            to = f"/api/assignments/{task['assignment']}/judgments"
            asked(line, token, "submit", times, to, said)


def asked(
    line: HTTPConnection,
    token: str,
    name: str,
    times: dict[str, list[float]],
    path: str,
    body: dict[str, Any],
) -> dict[str, Any]:
    """The answer, however often the server has to be asked, as the page does; its time counts from the first try."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    headers["Idempotency-Key"] = new_id()
    words, began = json.dumps(body), time.perf_counter()
    while True:
        try:
            line.request("POST", path, words, headers)
            reply = line.getresponse()
        except (
            BrokenPipeError,
            ConnectionResetError,
        ):  # the server closes what was idle for five seconds
            line.close()
            continue
        said = reply.read()
        if reply.status != 503:
            break
        times["refused"].append(time.perf_counter() - began)
        time.sleep(1)
    times[name].append(time.perf_counter() - began)
    assert reply.status < 300, said
    return json.loads(said)


def look(project: str, token: str, *, pause: float) -> dict[str, list[float]]:
    """The lead opens every page in turn, twice; the first time after a start the disk has to be read."""
    found: dict[str, list[float]] = {name: [] for name in PAGES}
    with httpx.Client(
        base_url="http://127.0.0.1:8799", headers={"Authorization": f"Bearer {token}"}, timeout=60
    ) as line:
        for _ in range(2):
            for name in PAGES:
                began = time.perf_counter()
                response = line.get(f"/api/projects/{project}/{name}")
                found[name].append(time.perf_counter() - began)
                assert response.status_code == 200, response.text
                time.sleep(pause)
    return found


def fill(url: str, judgments: int) -> tuple[str, str, list[str]]:
    """Judgments of pairs by `PEOPLE` raters over 90 days, with everything that belongs to them."""
    store = open_store(url)
    project = make_project(store, cost_per_hour=20.0, gold_rate=0.1, swap_rate=0.03)
    lead = make_rater(store, "lead")
    raters = [make_rater(store) for _ in range(PEOPLE)]
    with store.write() as connection:
        lead_token = people.make_token(connection, lead, "t", ["read"])[1]
        tokens = [people.make_token(connection, r, "t", ["rate"])[1] for r in raters[:RATERS]]
    rng, now = random.Random(0), time.time()
    tasks = judgments // OVERLAP
    for start in range(0, tasks + OPEN, 20_000):
        rows: dict[str, list[dict[str, Any]]] = {t.name: [] for t in TABLES}
        for i in range(start, min(start + 20_000, tasks + OPEN)):
            at = now - 90 * DAY * (1 - i / tasks) - 60
            question(rows, project, raters, i, min(at, now - 60), rng, answered=i < tasks)
        insert(store, rows)
    store.in_write(renew_statistics)
    store.close()
    return project, lead_token, tokens


TABLES: tuple[Table, ...] = (
    schema.prompt, schema.completion, schema.task, schema.assignment, schema.judgment, schema.ranking_item,
    schema.task_slot, schema.audit_event,
)  # fmt: skip


def question(
    rows: dict[str, list[dict[str, Any]]],
    project: str,
    raters: list[str],
    i: int,
    at: float,
    rng: random.Random,
    *,
    answered: bool,
) -> None:
    said = [{"role": "user", "content": f"Question {i}: why is the sky blue?"}]
    sha = content.digest(said)
    p, a, b, t = (f"{k}-{i:032x}" for k in "pabt")
    rows["prompt"].append(
        dict(
            id=p,
            project=project,
            sha256=sha,
            content=said,
            split=content.split_of(sha),
            created_at=at,
        )
    )
    for key, model, words in (
        (a, "runs/sft", rng.randint(3, 40)),
        (b, "runs/dpo", rng.randint(3, 40)),
    ):
        text = "light scatters " * words
        rows["completion"].append(
            dict(
                id=key, prompt=p, sha256=f"{key[:1]}{i:063x}", text=text, model=model, created_at=at
            )
        )
    rows["task"].append(
        dict(
            id=t, project=project, sha256=f"{i:064x}", kind="pair", prompt=p, completions=[a, b], options={},
            overlap=OVERLAP, strategy="import", round=i // 100_000, is_gold=False, created_at=at,
        )
    )  # fmt: skip
    who = rng.sample(raters, OVERLAP)
    for slot in range(OVERLAP):
        state, judgment = "open", None
        if answered:
            state, key, judgment = "done", f"s-{i:031x}{slot}", f"j-{i:031x}{slot}"
            order, value = rng.choice([[0, 1], [1, 0]]), rng.randint(1, 8)
            best = (a, b)[order[0 if value <= 4 else 1]]
            rows["assignment"].append(
                dict(
                    id=key, task=t, slot=slot, project=project, rater=who[slot], order_shown=order, state="done",
                    leased_at=at, leased_until=at + 1800,
                )
            )  # fmt: skip
            rows["judgment"].append(
                dict(
                    id=judgment, assignment=key, task=t, project=project, rater=who[slot], revision=1,
                    outcome="answer", strength=abs(2 * value - 9) / 7, said={"value": value},
                    disposition="counted", active_ms=rng.randint(3000, 30000), idempotency_key=judgment,
                    request_sha256=f"{i:064x}", created_at=at + 20,
                )
            )  # fmt: skip
            for place, c in enumerate((a, b)):
                rows["ranking_item"].append(
                    dict(judgment=judgment, place=place, completion=c, rank=1 if c == best else 2)
                )
            rows["audit_event"].append(
                dict(at=at + 20, actor=who[slot], action="judgment", detail={"judgment": judgment})
            )
        rows["task_slot"].append(
            dict(
                task=t,
                slot=slot,
                project=project,
                state=state,
                position=rng.random(),
                judgment=judgment,
            )
        )


def insert(store: Store, rows: dict[str, list[dict[str, Any]]]) -> None:
    with store.write() as connection:
        follow(connection, rows["audit_event"])
        for table in TABLES:
            for part in batches(rows[table.name]):
                connection.execute(table.insert(), part)


def follow(connection: Any, events: list[dict[str, Any]]) -> None:
    """The audit chain goes on from what is there."""
    last = connection.exec_driver_sql("SELECT seq, hash FROM audit_event ORDER BY seq DESC LIMIT 1")
    seq, hashed = last.one()
    for event in events:
        seq += 1
        event["seq"] = seq
        hashed = event["hash"] = audit._hash(hashed, dict(event))


def batches(rows: list[dict[str, Any]], size: int = 5000) -> Iterator[list[dict[str, Any]]]:
    left = iter(rows)
    while part := list(islice(left, size)):
        yield part


def quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    at = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {
        name: round(1000 * ordered[min(len(ordered) - 1, int(q * len(ordered)))], 1)
        for name, q in at.items()
    }


def rounded(values: list[float]) -> list[float]:
    return [round(v, 2) for v in values]


def peak_mib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    return 0


if __name__ == "__main__":
    main()
