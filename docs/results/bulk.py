"""What takes long with many judgments: PYTHONPATH=tests:docs/results python docs/results/bulk.py [JUDGMENTS] [FOLDER]

Fills a SQLite workspace as load.py does, and runs check, check again, export, backup and restore, and an import of a
fifth as many comparisons, each in a process of its own. Prints a JSON object: seconds by the clock and of the
processors, and the peak of memory; the one in people/bulk.json is from the machine that it names. Where others use the
processors meanwhile (`load`), seconds by the clock say little, and those of a processor are too many: it has forgotten
what it was doing.
"""

from __future__ import annotations

import json
import os
import platform
import random
import sys
import tempfile
import time
from contextlib import redirect_stdout
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from load import fill

from heedful.data.files import write_rows

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
        "import": ["import", "comparisons", str(compared(folder, judgments // 5)), "--workspace", str(work),
                   "--project", "imported", "--quiet"],
        "backup": ["backup", str(work), str(folder / "b.zip")],
        "restore": ["restore", str(folder / "b.zip"), str(folder / "again")],
    }  # fmt: skip
    before = os.getloadavg()
    took = {name: timed(words) for name, words in jobs.items()}
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "load": [round(n, 1) for n in (before[0], *os.getloadavg()[:2])],
        "judgments": judgments,
        "imported": judgments // 5,
        "database_mib": round((work / "heedful.db").stat().st_size / 2**20),
        **took,
    }


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
