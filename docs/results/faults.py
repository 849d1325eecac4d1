"""Commands and the store on a disk that fails: PYTHONPATH=tests python docs/results/faults.py [JOB …] [--minutes 15]

Each trial is one command in a folder of its own on a disk that fails at one operation in one way (killed there, a write
torn in two, the power lost with all that was not synced, full, over quota, a file too large, read-only, an error); then
the same command goes on in peace and must end in the same bits, every error of the disk told in one sentence. All
operations are numbered; within the minutes that there are, as many as fit are taken, evenly over all of them. Prints a
JSON object; the one in faults.json is from the machine that it names.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

import faults
import faulty_disk

STORE = "answers of raters"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", nargs="*", default=[*faults.JOBS, STORE])
    parser.add_argument(
        "--minutes", type=float, default=15.0, help="for all; 0 takes every operation"
    )
    asked = parser.parse_args()
    results: dict = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "jobs": {},
    }
    failed = False
    ends = time.monotonic() + 60 * asked.minutes
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        world = faults.make_world(place / "world")
        for number, name in enumerate(asked.jobs):
            share = (ends - time.monotonic()) / (len(asked.jobs) - number)
            trial, total = prepared(name, world, place / str(number))
            one = results["jobs"][name] = tried(trial, total, share if asked.minutes else None)
            shutil.rmtree(place / str(number))
            print(name, json.dumps(one), file=sys.stderr, flush=True)
            failed = failed or bool(one["wrong"])
    print(json.dumps(results, indent=1))
    sys.exit(failed)


Trial = Callable[[str, int, Path], str]


def prepared(name: str, world: Path, place: Path) -> tuple[Trial, int]:
    """How a fault at an operation is tried, and how many operations there are."""
    if name != STORE:
        peace = faults.in_peace(faults.JOBS[name], world, place)
        return lambda kind, at, folder: faults.endure(peace, folder, [(kind, at)]), len(peace.operations)  # fmt: skip
    faults.make_workspace(place / "before")
    assert faults.answer_on(place / "before", place / "peace", []) == ""
    recording = faulty_disk.Fault(place / "peace" / "disk").recording
    total = sum(1 for _ in faulty_disk.records(recording))
    return lambda kind, at, folder: faults.answer_on(place / "before", folder, [(kind, at)]), total  # fmt: skip


def tried(trial: Trial, total: int, seconds: float | None) -> dict:
    """As many trials as fit, evenly over all operations and kinds; `wrong` says what was wrong with which."""
    ends = None if seconds is None else time.monotonic() + seconds
    runs: Counter[str] = Counter()
    wrong: list[str] = []
    for at, kind in order(total):
        if ends is not None and time.monotonic() > ends:
            break
        with tempfile.TemporaryDirectory() as folder:
            told = trial(kind, at, Path(folder))
        runs[kind] += 1
        if told:
            wrong.append(told)
            print(told, file=sys.stderr, flush=True)
    kinds = len(faulty_disk.FAULTS)
    return {
        "operations": total,
        "trials": sum(runs.values()),
        "of": total * kinds,
        "by_kind": {kind: runs[kind] for kind in faulty_disk.FAULTS},
        "wrong": wrong,
    }


def order(total: int) -> Iterator[tuple[int, str]]:
    """Every operation with every kind of fault, those that come first spread over all of them."""
    everything = [(at, kind) for at in range(1, total + 1) for kind in faulty_disk.FAULTS]
    step = max(
        1, round(len(everything) * 0.6180339887)
    )  # the golden ratio leaves no part out for long
    while math.gcd(step, len(everything)) > 1:
        step += 1
    return (everything[i * step % len(everything)] for i in range(len(everything)))


if __name__ == "__main__":
    main()
