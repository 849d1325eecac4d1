"""Kill runs of every recipe at random moments: PYTHONPATH=tests python docs/results/resume.py [--trials 50] [JOB …]

Each trial is one run in one folder: it is killed (or asked to stop) at random moments, started again with the
same command, killed again, and in the end left alone. Then it must equal the run that nobody interrupted: the model
and its tokenizer bit for bit, every step logged once with the same numbers, nothing left behind. Prints a JSON object;
the one in resume.json is from the machine that it names.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

import interruptions as jobs
from heedful.run import finished

INTERVALS = (
    1,
    2,
    5,
    0,
)  # --state-every, in turn; 0 saves by the clock, so rarely in runs as short as these
MOST = 4  # interruptions of one run
LENGTH = 8  # about eighty steps, which then take longer than to begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", nargs="*", default=list(jobs.JOBS))
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    results: dict = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "trials": asked.trials,
        "jobs": {},
    }
    failed = False
    for job in asked.jobs:
        with tempfile.TemporaryDirectory() as folder:
            found = results["jobs"][job] = harass(job, Path(folder), asked.trials, asked.seed)
        print(job, json.dumps(found), file=sys.stderr, flush=True)
        failed = failed or found["equal"] != asked.trials
    print(json.dumps(results, indent=1))
    sys.exit(failed)


def harass(job: str, folder: Path, trials: int, seed: int) -> dict:
    """All trials of a job. `equal` counts those that ended as the reference, `differences` what the others showed."""
    world = jobs.make_world(folder / "world")
    reference = folder / "reference"
    command = functools.partial(jobs.command, job, world, length=LENGTH)
    assert jobs.call(command(reference)) == 0, jobs.said(reference)
    times = []
    for k in range(3):
        began = time.monotonic()
        jobs.call(command(folder / f"timed-{k}", "--state-every", 2))
        times.append(time.monotonic() - began)
    length = min(times)
    chance = random.Random(f"{job}/{seed}")
    signals: Counter[str] = Counter()
    differences: list[str] = []
    kills = continued = lost_most = 0
    for trial in range(trials):
        out = folder / f"trial-{trial}"
        every = INTERVALS[trial % len(INTERVALS)]
        words = command(out, "--state-every", every)
        said, left = "", chance.randint(1, MOST)
        interrupted = False
        while left:
            began = time.monotonic()
            moment = chance.uniform(0, length)
            number = chance.choice([signal.SIGKILL] * 4 + [signal.SIGTERM, signal.SIGINT])
            code = jobs.interrupt(jobs.start(words), moment, number)
            if code == 0:
                if interrupted:
                    break
                # Over before the moment came: that is no trial. On a busy machine times are not what they were.
                length = min(length, time.monotonic() - began)
                shutil.rmtree(out)
                continue
            interrupted = True
            left -= 1
            kills += 1
            signals[number.name] += 1
            # Killed when the model was in place: the same command only tidies up, and says that all is done.
            if finished(out) and (code_ := jobs.call(words)) != 2:
                said = f"exit code {code_} in a finished folder"
            # Before the run is open SIGINT is KeyboardInterrupt, in the imports too.
            if code not in (-number, 128 + number, *([1] if number == signal.SIGINT else [])):
                said = f"exit code {code} after {number.name}"
            if finished(out):
                break
            if every == 1 and number == signal.SIGKILL:
                lost_most = max(lost_most, lost(out))
        if not finished(out) and (code := jobs.call(words)) != 0:
            said = f"exit code {code}"
        continued += "continuing" in jobs.said(out)
        if said := said or jobs.alike(out, reference):
            differences.append(f"trial {trial}: {said}")
            print(differences[-1], jobs.said(out)[-2000:], file=sys.stderr)
        shutil.rmtree(out, ignore_errors=True)
    return {
        "steps": len(jobs.rows(reference)),
        "seconds_of_a_run": round(length, 2),
        "equal": trials - len(differences),
        "interruptions": kills,
        "signals": dict(signals),
        "runs_that_went_on_in_the_middle": continued,
        "steps_lost_at_most_with_state_every_1": lost_most,
        "differences": differences,
    }


def lost(out: Path) -> int:
    """Steps that were logged, but are not in the newest state."""
    log = out / "metrics.jsonl"
    logged = log.read_bytes().count(b"\n") if log.exists() else 0
    folder = out / "state"
    states = [int(p.name) for p in folder.iterdir() if p.name.isdigit()] if folder.is_dir() else []
    return logged - max(states, default=0)


if __name__ == "__main__":
    main()
