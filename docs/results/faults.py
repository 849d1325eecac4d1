"""Commands and the store on a disk that fails: PYTHONPATH=tests python docs/results/faults.py [JOB …] [--minutes 15]

Each run is one command in a folder of its own on a disk that fails at some operation in some way (killed there, a write
torn in two, the power lost with all that was not synced, full, over quota, a file too large, read-only, an error); the
same command meets a few more such faults, goes on in peace, and must end in the same bits, every error of the disk told
in one sentence. All operations are numbered; within the minutes that there are, as many as fit are taken, those on
different files first. Prints a JSON object; the one in faults.json is from the machine that it names. With --out FILE
what was done stays where the call is stopped, and the same call goes on there; what was lost on the way is listed.
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
from heedful.data.files import write_json

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
        "--out",
        type=Path,
        help="a file that has at any time what was done; a call that was stopped goes on there, another is added to it",
    )
    asked = parser.parse_args()
    results = begun(asked.out, asked.seed)
    over = results["unfinished"]["over"]
    ends = time.monotonic() + 60 * asked.minutes
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        world = disk_trials.make_world(place / "world")
        todo = [name for name in asked.jobs if name not in over]
        for number, name in enumerate(todo):
            share = (ends - time.monotonic()) / (len(todo) - number)
            for _ in tried(
                name, world, place / str(number), share if asked.minutes else None, results
            ):
                keep(asked.out, results)
            over.append(name)
            keep(asked.out, results)
            print(name, json.dumps(results["jobs"].get(name)), file=sys.stderr, flush=True)
    del results["unfinished"]
    keep(asked.out, results)
    print(json.dumps(results, indent=1))
    sys.exit(bool(results["lost"] or any(one["wrong"] for one in results["jobs"].values())))


def begun(out: Path | None, seed: int) -> dict:
    """What was done before, and where that ended: a call with another seed would go on with other faults."""
    results: dict = json.loads(out.read_text()) if out and out.exists() else {"jobs": {}}
    here = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    left = results.get("unfinished", {"seed": seed, "tried": {}, "over": []})
    if left["seed"] != seed:
        sys.exit(f"{out} was stopped with --seed {left['seed']}: end that call first")
    return here | {"jobs": results["jobs"], "lost": results.get("lost", {}), "unfinished": left}


def keep(out: Path | None, results: dict) -> None:
    if out:
        write_json(out, results)


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


def tried(
    name: str, world: Path, place: Path, seconds: float | None, results: dict
) -> Iterator[None]:
    """As many trials of a job as fit, behind those that an earlier call has made; each is in the results when it is
    over. `wrong` says what was wrong with which; `lost` what nothing is known of, such as a command that never ends."""
    ends = None if seconds is None else time.monotonic() + seconds
    left, lost = results["unfinished"], results["lost"]
    try:
        trial, operations = prepared(name, world, place)
    except Exception as error:
        lost.setdefault(name, []).append(f"in peace: {error!r}")
        return
    faults = order(operations, left["seed"])
    done = sum(1 for _ in itertools.islice(faults, left["tried"].get(name, 0)))
    while some := list(itertools.islice(faults, TOGETHER)):
        if ends is not None and time.monotonic() > ends:
            break
        try:
            with tempfile.TemporaryDirectory() as folder:
                outcome = trial(some, Path(folder))
            one = told(outcome, operations)
            results["jobs"][name] = together(results["jobs"].get(name), one)
        except Exception as error:
            lost.setdefault(name, []).append(f"{some}: {error!r}")
        done += len(some)
        left["tried"][name] = done
        yield
    shutil.rmtree(place)


def told(outcome: disk_trials.Outcome, operations: list[str]) -> dict:
    """A trial in numbers."""
    met = Counter(outcome.met)
    if outcome.wrong:
        print(outcome.wrong, file=sys.stderr, flush=True)
    return {
        "operations": len(operations),
        "runs": 1,
        "faults_met": sum(met.values()),
        "of": len(operations) * len(faulty_disk.FAULTS),
        "by_kind": {kind: met[kind] for kind in faulty_disk.FAULTS},
        "wrong": [outcome.wrong] if outcome.wrong else [],
    }


def together(earlier: dict | None, now: dict) -> dict:
    """Outcomes as one."""
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
