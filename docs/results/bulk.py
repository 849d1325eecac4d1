"""What takes long with many judgments: PYTHONPATH=tests:docs/results python docs/results/bulk.py [JUDGMENTS] [FOLDER]

Fills a SQLite workspace as load.py does, and runs check, check again, export, backup and restore, each in a process of
its own. Prints a JSON object: seconds by the clock and of the processors, and the peak of memory; the one in
people/bulk.json is from the machine that it names.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
import tempfile
import time
from contextlib import redirect_stdout
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from load import fill

JUDGMENTS = 1_000_000


def main() -> None:
    judgments = int(sys.argv[1]) if len(sys.argv) > 1 else JUDGMENTS
    if len(sys.argv) > 2:
        print(json.dumps(measure(Path(sys.argv[2]), judgments), indent=1))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), judgments), indent=1))


def measure(folder: Path, judgments: int) -> dict[str, Any]:
    work = folder / "workspace"
    if not work.exists():
        work.mkdir(parents=True)
        (work / "heedful.toml").write_text("")
        fill(f"sqlite:///{work / 'heedful.db'}", judgments)
    jobs = {
        "check": ["check", str(work), "--all"],
        "check_again": ["check", str(work)],
        "export_comparisons": ["export", "comparisons", str(folder / "c.jsonl"), "--workspace", str(work)],
        "export_rankings": ["export", "rankings", str(folder / "r.jsonl"), "--workspace", str(work)],
        "backup": ["backup", str(work), str(folder / "b.zip")],
        "restore": ["restore", str(folder / "b.zip"), str(folder / "again")],
    }  # fmt: skip
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "judgments": judgments,
        "database_mib": round((work / "heedful.db").stat().st_size / 2**20),
        **{name: timed(words) for name, words in jobs.items()},
    }


def timed(words: list[str]) -> dict[str, float]:
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_run, (words,))


def _run(words: list[str]) -> dict[str, float]:
    from heedful.cli import main

    began, worked = time.perf_counter(), time.process_time()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        assert main(words) == 0
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "processor_seconds": round(time.process_time() - worked, 1),
        "peak_mib": usage.ru_maxrss // 1024,
    }


if __name__ == "__main__":
    main()
