"""Commands and the store on a disk that fails: PYTHONPATH=tests python docs/results/faults.py [JOB …] [--minutes 15]

Each run is one command in a folder of its own on a disk that fails at some operation in some way (killed there, a write
torn in two, the power lost with all that was not synced, full, over quota, a file too large, read-only, an error); the
same command meets a few more such faults, goes on in peace, and must end in the same bits, every error of the disk told
in one sentence. All operations are numbered; within the minutes that there are, as many as fit are taken, those on
different files first. Prints a JSON object; the one in faults.json is from the machine that it names.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

import disk_trials
import faulty_disk

STORE = "answers of raters"
TOGETHER = 4  # faults in a run; with 1 each stands alone, and takes a whole run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", nargs="*", default=[*disk_trials.JOBS, STORE])
    parser.add_argument(
        "--minutes", type=float, default=15.0, help="for all; 0 takes every operation"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the order; another one takes others first"
    )
    parser.add_argument(
        "--add", type=Path, help="what an earlier call printed, to which this one is added"
    )
    asked = parser.parse_args()
    results: dict = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "jobs": json.loads(asked.add.read_text())["jobs"] if asked.add else {},
    }
    failed = False
    ends = time.monotonic() + 60 * asked.minutes
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        world = disk_trials.make_world(place / "world")
        for number, name in enumerate(asked.jobs):
            share = (ends - time.monotonic()) / (len(asked.jobs) - number)
            trial, operations = prepared(name, world, place / str(number))
            one = tried(trial, operations, asked.seed, share if asked.minutes else None)
            results["jobs"][name] = together(results["jobs"].get(name), one)
            shutil.rmtree(place / str(number))
            print(name, json.dumps(one), file=sys.stderr, flush=True)
            failed = failed or bool(one["wrong"])
    print(json.dumps(results, indent=1))
    sys.exit(failed)


Trial = Callable[[list[tuple[str, int]], Path], disk_trials.Outcome]


def prepared(name: str, world: Path, place: Path) -> tuple[Trial, list[str]]:
    """How some faults are tried, and the operations that there are."""
    if name != STORE:
        peace = disk_trials.in_peace(disk_trials.JOBS[name], world, place)
        return lambda some, folder: disk_trials.endure(peace, folder, some), peace.operations
    before = place / "before"
    disk_trials.make_workspace(before)
    assert disk_trials.answer_on(before, place / "peace", []).wrong == ""
    recording = faulty_disk.Fault(place / "peace" / "disk").recording
    operations = [f"{kind} {path}" for kind, path, *_ in faulty_disk.records(recording)]
    return lambda some, folder: disk_trials.answer_on(before, folder, some), operations


def tried(trial: Trial, operations: list[str], seed: int, seconds: float | None) -> dict:
    """As many trials as fit; `wrong` says what was wrong with which."""
    ends = None if seconds is None else time.monotonic() + seconds
    met: Counter[str] = Counter()
    wrong: list[str] = []
    trials, faults = 0, order(operations, seed)
    while some := list(itertools.islice(faults, TOGETHER)):
        if ends is not None and time.monotonic() > ends:
            break
        with tempfile.TemporaryDirectory() as folder:
            outcome = trial(some, Path(folder))
        trials += 1
        met.update(outcome.met)
        if outcome.wrong:
            wrong.append(outcome.wrong)
            print(outcome.wrong, file=sys.stderr, flush=True)
    return {
        "operations": len(operations),
        "runs": trials,
        "faults_met": sum(met.values()),
        "of": len(operations) * len(faulty_disk.FAULTS),
        "by_kind": {kind: met[kind] for kind in faulty_disk.FAULTS},
        "wrong": wrong,
    }


def together(earlier: dict | None, now: dict) -> dict:
    """Two calls' outcomes as one."""
    if earlier is None:
        return now
    added = {k: earlier[k] + now[k] for k in ("runs", "faults_met", "wrong")}
    by_kind = {k: n + earlier["by_kind"][k] for k, n in now["by_kind"].items()}
    return {**now, **added, "by_kind": by_kind}


def order(operations: list[str], seed: int) -> Iterator[tuple[str, int]]:
    """Every operation with every kind of fault; first, by chance, those that are the first of their kind on their file,
    so that few of them show much."""
    times: Counter[str] = Counter()
    tiers: list[list[tuple[str, int]]] = []
    for at, name in enumerate(operations, start=1):
        name = re.sub(r"\d+", "0", name)
        if times[name] == len(tiers):
            tiers.append([])
        tiers[times[name]] += [(kind, at) for kind in faulty_disk.FAULTS]
        times[name] += 1
    chance = random.Random(seed)
    for tier in tiers:
        chance.shuffle(tier)
        yield from tier


if __name__ == "__main__":
    main()
