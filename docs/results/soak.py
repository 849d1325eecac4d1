"""Months of a small team in an hour: PYTHONPATH=tests python docs/results/soak.py [MINUTES] [SECONDS_A_DAY] [LEAK]

Starts `heedful serve` with a database clock that runs fast, and lets people sign in, judge, skip, leave leases behind
and sign in again, and a lead look at every page, while questions are added, backups and checks made; each month another
project begins. Prints a JSON object: memory, files, the write-ahead log and the tables that ought not to grow, each
quarter's most, and by how much the last quarter's median is above the third's; ends with 1 where that is more than
`MAY_RISE` (told from 56 days on: sessions last 14). LEAK are bytes that the server is made to keep of each request; an
hour with 1024 must end with 1. The one in people/soak.json is from the machine that it names.
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import func, select

from heedful.cli import main as heedful
from heedful.store.database.db import Store, new_id, open_store
from heedful.store.database.patience import patiently
from heedful.store.membership import people
from heedful.store.tables import schema
from postgres import free_port
from workspace import make_project, make_task

MINUTES, SECONDS_A_DAY = 60.0, 5.0
RATERS, A_DAY = 6, 8  # people, and questions that each is asked a day
MONTH = 30  # days, after which another project begins
PASSWORD = "correct horse 9"
PAGES = ("overview", "raters", "agreement", "disagreements", "labels", "win-rates", "aside")
# The server, with a clock of the database's that runs faster.
SERVE = """
import sys
from starlette.requests import HTTPConnection
from heedful.store.tables import columns
began, speed, leak = float(sys.argv.pop(1)), float(sys.argv.pop(1)), int(sys.argv.pop(1))
if leak:
    kept, init = [], HTTPConnection.__init__
    HTTPConnection.__init__ = lambda *words: (kept.append(bytearray(leak)), init(*words))[1]
columns.CLOCK["sqlite"] = f"(({columns.CLOCK['sqlite']}) - {began}) * {speed} + {began}"
from heedful.cli import main
main(["serve", *sys.argv[1:]])
"""
# What a quarter's median may be above that of the one before. Memory is kept for a moment wherever somebody signs in or
# a page is made, so that even the least of a day varies by some MiB; files, threads and rows by how many are there.
MAY_RISE = {
    "memory_mib": 2.0, "open_files": 2, "threads": 2, "wal_kib": 1024, "session_rows": 8,
    "rate_limit_rows": 3, "exhausted_rows": RATERS, "webhook_delivery_rows": 0,
}  # fmt: skip
STEADY = (
    4 * people.SESSION_DAYS
)  # days from which on a quarter of them has as many sessions as the next


@dataclass
class Soak:
    """What all threads share."""

    address: str
    project: str
    day: float  # seconds
    end: float
    problems: list[str] = field(default_factory=list)
    answers: int = 0
    sign_ins: int = 0
    requests: int = 0
    pages: int = 0  # that the lead saw
    told_to_wait: int = 0  # times that somebody was, who signed in

    def count(self, _request: httpx.Request) -> None:
        self.requests += 1


def main() -> int:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else MINUTES
    day = float(sys.argv[2]) if len(sys.argv) > 2 else SECONDS_A_DAY
    leak = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    with tempfile.TemporaryDirectory() as folder:
        result = soak(Path(folder), minutes * 60, day, leak)
    print(json.dumps(result, indent=1))
    return 1 if result["grows"] or result["problems"] else 0


def soak(folder: Path, seconds: float, day: float, leak: int = 0) -> dict[str, Any]:
    work = folder / "workspace"
    work.mkdir()
    (work / "heedful.toml").write_text("")
    store = open_store(f"sqlite:///{work / 'heedful.db'}")
    project = begun(store, 0)
    logins = accounts(store)
    port, speed = free_port(), 86400.0 / day
    words = [
        sys.executable,
        "-c",
        SERVE,
        str(time.time()),
        str(speed),
        str(leak),
        str(work),
        "--port",
        str(port),
    ]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            address = f"http://127.0.0.1:{port}"
            wait(address)
            state = Soak(address, project, day, time.monotonic() + seconds)
            threads = [
                threading.Thread(target=rate, args=(state, who, i))
                for i, who in enumerate(logins[1:])
            ]
            threads.append(threading.Thread(target=lead, args=(state, logins[0])))
            for thread in threads:
                thread.start()
            samples = watch(state, store, work, server.pid, folder / "b.zip")
            for thread in threads:
                thread.join()
        finally:
            server.kill()
    store.close()
    rises = rise(samples)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": [round(n, 1) for n in os.getloadavg()],
        "python": platform.python_version(),
        "seconds": round(seconds),
        "simulated_days": round(seconds / day),
        "answers": state.answers,
        "sign_ins": state.sign_ins,
        "requests": state.requests,
        "pages": state.pages,
        "told_to_wait": state.told_to_wait,
        "most_of_each_quarter": most_of(samples),
        "rise_from_the_third_quarter": rises,
        "grows": grows(rises) if len(samples) >= STEADY else [],
        "problems": state.problems[:5],
    }  # fmt: skip


def begun(store: Store, month: int) -> str:
    """A month's project: what pages show of it takes as much memory in each, and more and more in one for ever."""
    how = {"gold_rate": 0.1, "swap_rate": 0.05, "lease_minutes": 480.0}
    return make_project(store, f"study {month}", **how)


def accounts(store: Store) -> list[str]:
    """The logins of a lead and the raters."""
    hashed = people.hash_password(PASSWORD)
    logins = []
    for i in range(RATERS + 1):
        with store.write() as connection:
            token = people.invite(connection, "rater" if i else "lead", actor=None)
            logins.append(f"person{i}@example.org")
            people.accept(connection, token, login=logins[-1], password_hash=hashed)
    return logins


def wait(address: str) -> None:
    for _ in range(600):
        with suppress(httpx.TransportError):
            if httpx.get(f"{address}/login").status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError("the server did not start")


def signed_in(state: Soak, login: str) -> httpx.Client:
    """As a page does it: who is told that too many sign in at once tries again, for a minute."""
    line = httpx.Client(base_url=state.address, timeout=60, event_hooks={"request": [state.count]})
    end = time.monotonic() + 60
    while True:
        said = line.post("/api/session", json={"login": login, "password": PASSWORD})
        if said.status_code != 503 or time.monotonic() > end:
            break
        state.told_to_wait += 1
        time.sleep(float(said.headers.get("Retry-After", 1)))
    said.raise_for_status()
    line.headers["X-CSRF-Token"] = said.json()["csrf"]
    state.sign_ins += 1
    return line


def rate(state: Soak, login: str, seed: int) -> None:
    """Day after day; every third or so in a new browser, the old one's session is left behind."""
    rng = random.Random(seed)
    line = signed_in(state, login)
    while time.monotonic() < state.end:
        morning = time.monotonic()
        try:
            if line.is_closed or rng.random() < 0.3:
                line.close()
                line = signed_in(state, login)
            for _ in range(A_DAY):
                judge(state, line, rng)
                time.sleep(rng.random() * state.day / A_DAY / 2)
        except httpx.HTTPError as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code == 401:
                line.close()  # as of the lead's session
            else:
                state.problems.append(repr(error))
        time.sleep(max(0.0, min(morning + state.day, state.end) - time.monotonic()))
    line.close()


def judge(state: Soak, line: httpx.Client, rng: random.Random) -> None:
    said = line.post(f"/api/projects/{state.project}/next", json={"holding": []})
    said.raise_for_status()
    if (task := said.json()["task"]) is None or rng.random() < 0.1:  # left on the screen
        return
    answer = {"skip": "unclear"} if rng.random() < 0.05 else {"value": rng.randint(1, 8)}
    said = line.post(
        f"/api/assignments/{task['assignment']}/judgments",
        json={"answer": answer, "active_ms": 2000},
        headers={"Idempotency-Key": new_id()},
    )
    said.raise_for_status()
    state.answers += 1


def lead(state: Soak, login: str) -> None:
    """Looks at every page each day. A session goes on by being used, but at most one is written on at a time: where an
    hour passes in a fraction of a second, one may end for all that, and whoever it was signs in again."""
    line = signed_in(state, login)
    while time.monotonic() < state.end:
        for name in PAGES:
            try:
                said = line.get(f"/api/projects/{state.project}/{name}")
                if said.status_code == 401:
                    line.close()
                    line = signed_in(state, login)
                    continue
                said.raise_for_status()
                state.pages += 1
            except httpx.HTTPError as error:
                state.problems.append(f"{name}: {error!r}")
        time.sleep(min(state.day, max(0.0, state.end - time.monotonic())))
    line.close()


def watch(state: Soak, store: Store, work: Path, pid: int, backup: Path) -> list[dict[str, float]]:
    """New questions each day, a check and a backup each week; what the server holds at the end of each day."""
    samples: list[dict[str, float]] = []
    while time.monotonic() < state.end:
        number = len(samples)
        if number and number % MONTH == 0:
            state.project = patiently(lambda month=number // MONTH: begun(store, month), 600.0)
        for i in range(RATERS * A_DAY // 3):
            asked = {"question": f"day {number}, {i}?", "overlap": 2}
            patiently(lambda asked=asked: make_task(store, state.project, **asked), 600.0)
        if number % 7 == 6:
            for words in (["check", str(work)], ["backup", str(work), str(backup)]):
                with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
                    if heedful(words):
                        state.problems.append(" ".join(words))
        memory = least_memory(pid, min(time.monotonic() + state.day, state.end))
        samples.append({"memory_mib": memory, **held(store, state.project, work, pid)})
    return samples


def least_memory(pid: int, until: float) -> float:
    """MiB; the least of a day, since whoever signs in takes 64 of them for a moment."""
    least = float("inf")
    while least == float("inf") or time.monotonic() < until:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        least = min(least, *(int(x.split()[1]) for x in status if x.startswith("VmRSS")))
        time.sleep(0.2)
    return round(least / 1024, 1)


def held(store: Store, project: str, work: Path, pid: int) -> dict[str, float]:
    log = work / "heedful.db-wal"
    tables = (schema.session, schema.rate_limit, schema.webhook_delivery)
    with store.read() as connection:
        rows = {
            f"{table.name}_rows": connection.execute(
                select(func.count()).select_from(table)
            ).scalar_one()
            for table in tables
        }
        active = schema.assignment.c.state == "active"
        leases = connection.execute(select(func.count()).where(active)).scalar_one()
        here = schema.exhausted.c.project == project
        exhausted = connection.execute(select(func.count()).where(here)).scalar_one()
    return {
        "open_files": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
        "wal_kib": log.stat().st_size // 1024 if log.exists() else 0,
        "leases": leases,
        "exhausted_rows": exhausted,
        **rows,
    }


def most_of(samples: list[dict[str, float]]) -> dict[str, list[float]]:
    """The most of each quarter of the time, by name."""
    parts = quarters(samples)
    return {name: [max(sample[name] for sample in part) for part in parts] for name in samples[0]}


def rise(samples: list[dict[str, float]]) -> dict[str, float]:
    """How far the last quarter's median is above the third's, by name: what leaks does so in every quarter."""
    third, last = (
        {name: statistics.median(sample[name] for sample in part) for name in samples[0]}
        for part in quarters(samples)[2:]
    )
    return {name: round(last[name] - third[name], 2) for name in third}


def grows(rises: dict[str, float]) -> list[str]:
    return [name for name, most in MAY_RISE.items() if rises[name] > most]


def quarters(samples: list[dict[str, float]]) -> list[list[dict[str, float]]]:
    n = len(samples)
    return [samples[n * q // 4 : n * (q + 1) // 4] or samples[-1:] for q in range(4)]


if __name__ == "__main__":
    sys.exit(main())
