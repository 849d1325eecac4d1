"""What takes long with many judgments: PYTHONPATH=tests:docs/results python docs/results/bulk.py [JUDGMENTS]

Fills a SQLite workspace as load.py does, then one on a PostgreSQL of its own where that is installed, and runs check,
check again, export, an import of a fifth as many comparisons and one of as many samples, backup and restore, each in a
process of its own. Prints a JSON object: for each database seconds by the clock, of the processors (of the command, and
of the server's) and the peak of memory; the one in people/bulk.json is from the machine that it names.

`floor` of SQLite is what it and Python's JSON take for the bare work, in this process: SQLite's own two checks alone;
columns fetched and written as JSON; the imported rows once more, as they are, into empty tables.

Where others use the processors meanwhile (`load`), seconds by the clock say little, and those of a processor are too
many, since it has forgotten what it was doing: `adding` are the seconds that Python took for twenty million additions
before and behind each database's, which are 0.6 or so on a machine of 2024 that does nothing else.
"""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from contextlib import closing, redirect_stdout
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from load import adding_seconds, fill

import postgres
from heedful.data.files import write_rows
from heedful.store.database.db import open_store
from heedful.store.intake.ingest import BATCH as IMPORTED_AT_ONCE

JUDGMENTS = 1_000_000


def main() -> None:
    judgments = int(sys.argv[1]) if len(sys.argv) > 1 else JUDGMENTS
    results: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "judgments": judgments,
        "imported": judgments // 5,
    }
    with tempfile.TemporaryDirectory() as folder:
        work = workspace(Path(folder) / "sqlite", "")
        results["sqlite"] = measure(work, f"sqlite:///{work / 'heedful.db'}", judgments)
        shutil.rmtree(work.parent)
        if programs := postgres.programs():
            with postgres.running(programs) as server:
                work = workspace(Path(folder) / "postgresql", f'database = "{server.url}"\n')
                results["postgresql"] = measure(work, server.url, judgments, server)
    print(json.dumps(results, indent=1))


def workspace(folder: Path, settings: str) -> Path:
    work = folder / "workspace"
    work.mkdir(parents=True)
    (work / "heedful.toml").write_text(settings)
    return work


def measure(
    work: Path, url: str, judgments: int, server: postgres.Server | None = None
) -> dict[str, Any]:
    """What each job takes on one database."""
    folder = work.parent
    fill(url, judgments)
    jobs = {
        "check": ["check", str(work), "--all"],
        "check_again": ["check", str(work)],
        "export_comparisons": ["export", "comparisons", str(folder / "c.jsonl"), "--workspace", str(work)],
        "export_rankings": ["export", "rankings", str(folder / "r.jsonl"), "--workspace", str(work)],
        "import": ["import", "comparisons", str(compared(folder, judgments // 5)), "--workspace", str(work),
                   "--project", "imported", "--quiet"],
        "import_samples": ["import", "samples", str(sampled(folder, judgments // 5)), "--workspace", str(work),
                           "--project", "asked", "--ask", "pair", "--quiet"],
        "backup": ["backup", str(work), str(folder / "b.zip")],
        "restore": ["restore", str(folder / "b.zip"), str(folder / "again")],
    }  # fmt: skip
    before, adding, took = os.getloadavg(), [adding_seconds()], {}
    for name, words in jobs.items():
        worked = served(server)
        took[name] = timed(words)
        if server:
            took[name]["server_seconds"] = round(served(server) - worked, 1)
    adding.append(adding_seconds())
    file = work / "heedful.db"
    if file.exists():
        took["floor"] = floor(file, folder / "floor.db")
    size = {"database_mib": round(file.stat().st_size / 2**20)} if file.exists() else {}
    load = [round(n, 1) for n in (before[0], *os.getloadavg()[:2])]
    return {"load": load, "adding": adding, **size, **took}


BARE = """
SELECT p.content, w.text, l.text, j.strength, j.active_ms, r.pseudonym, j.id, j.created_at FROM judgment j
JOIN rater r ON r.id = j.rater JOIN task t ON t.id = j.task JOIN prompt p ON p.id = t.prompt
JOIN ranking_item b ON b.judgment = j.id AND b.rank = 1 JOIN completion w ON w.id = b.completion
JOIN ranking_item o ON o.judgment = j.id AND o.rank = 2 JOIN completion l ON l.id = o.completion
WHERE j.project <> ? ORDER BY j.id
"""
MADE = ("prompt", "completion", "task", "assignment", "judgment", "ranking_item", "task_slot")


def floor(file: Path, empty: Path) -> dict[str, float]:
    """Seconds of a processor, each for what the command beside it does."""
    with closing(sqlite3.connect(file)) as raw:
        (project,) = raw.execute("SELECT id FROM project WHERE name = 'imported'").fetchone()
        began = time.process_time()
        for pragma in ("integrity_check(1)", "foreign_key_check"):
            raw.execute(f"PRAGMA {pragma}").fetchall()
        checked, names = time.process_time(), [str(i) for i in range(8)]
        with open(os.devnull, "w") as nowhere:
            for row in raw.execute(BARE, (project,)):
                nowhere.write(
                    json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n"
                )
        exported = time.process_time()
        asked = (
            "SELECT id FROM prompt WHERE project = :p",
            "SELECT id FROM judgment WHERE project = :p",
        )
        of = {"completion": f"prompt IN ({asked[0]})", "ranking_item": f"judgment IN ({asked[1]})"}
        rows = {
            name: raw.execute(
                f"SELECT * FROM {name} WHERE {of.get(name, 'project = :p')} ORDER BY rowid",
                {"p": project},
            ).fetchall()
            for name in MADE
        }
    open_store(f"sqlite:///{empty}").close()
    began_to_add = time.process_time()
    with closing(sqlite3.connect(empty, isolation_level=None)) as raw:
        raw.execute("PRAGMA synchronous = FULL")
        for i in range(len(rows["judgment"]) // IMPORTED_AT_ONCE + 1):
            raw.execute("BEGIN IMMEDIATE")
            for name, every in rows.items():
                each = IMPORTED_AT_ONCE * len(every) // len(rows["judgment"])
                part = every[i * each : (i + 1) * each]
                marks = ", ".join("?" * len(every[0]))
                raw.executemany(f"INSERT INTO {name} VALUES ({marks})", part)
            raw.execute("COMMIT")
    added = time.process_time() - began_to_add
    took = {"check": checked - began, "export_comparisons": exported - checked, "import": added}
    return {name: round(seconds, 1) for name, seconds in took.items()}


def served(server: postgres.Server | None) -> float:
    """Seconds of a processor that a server's processes have taken since it started, those that have ended as well."""
    if server is None:
        return 0.0
    first = int((server.folder / "data" / "postmaster.pid").read_text().split()[0])
    there = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    ticks = sum(_ticks(pid) for pid in there) + _ticks(str(first), ended=True)
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks(pid: str, *, ended: bool = False) -> int:
    """Of a process, and of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # just now
        return 0
    return sum(map(int, fields[11:15] if ended else fields[11:13]))


def compared(folder: Path, number: int) -> Path:
    """A file of so many comparisons, each of a prompt of its own."""
    rng = random.Random(0)
    rows = (
        {
            "prompt": f"Question {i}: why is the sky blue at {i % 24} o'clock?",
            "chosen": "light scatters " * rng.randint(3, 40),
            "rejected": "it does not " * rng.randint(3, 40),
            "rater": f"rater {i % 50}",
            "seconds": 3.5,
        }
        for i in range(number)
    )
    write_rows(folder / "compared.jsonl", rows)
    return folder / "compared.jsonl"


def sampled(folder: Path, number: int) -> Path:
    """A file of so many responses, two to each prompt."""
    rng = random.Random(0)
    rows = (
        {
            "prompt": f"Question {i // 2}: why is the sky blue at {i // 2 % 24} o'clock?",
            "completion": f"Answer {i}: " + "light scatters " * rng.randint(3, 40),
        }
        for i in range(number)
    )
    write_rows(folder / "sampled.jsonl", rows)
    return folder / "sampled.jsonl"


def timed(words: list[str]) -> dict[str, float]:
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_run, (words,))


def _run(words: list[str]) -> dict[str, float]:
    from heedful.cli import main

    began, worked = time.perf_counter(), time.process_time()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        assert main(words) == 0
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "processor_seconds": round(time.process_time() - worked, 1),
        "peak_mib": peak
        // 1024,  # of this process alone: what getrusage tells is its parent's, too
    }


if __name__ == "__main__":
    main()
