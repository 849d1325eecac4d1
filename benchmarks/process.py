"""A side of the benchmark in a process of its own, with an environment that is the same for both."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.job import Job

ROOT = Path(__file__).resolve().parents[1]
# As it is before heedful is imported, which says something to PyTorch that TRL's users do not.
GIVEN = dict(os.environ)
# What keeps glibc from giving freed memory back to the system, which would have to clear it again.
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}


def environment(threads: int, flags: str, home: str) -> dict[str, str]:
    """Of either side. `home` is an empty folder: no process finds what an earlier one has cached."""
    paths = [str(ROOT / "src"), str(ROOT), *filter(None, [GIVEN.get("PYTHONPATH")])]
    return {
        **GIVEN,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": home,
        "HEEDFUL_CACHE": home,
        "CUDA_VISIBLE_DEVICES": "",
        **(ALLOCATOR if flags == "best" else {}),
    }


@contextmanager
def neighbours(number: int) -> Iterator[list[subprocess.Popen]]:
    """So many programs that compute all the time, as on a machine that others use, too."""
    orphans_end = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"
    programs: list[subprocess.Popen] = []
    try:
        programs += [subprocess.Popen([sys.executable, "-c", orphans_end]) for _ in range(number)]
        yield programs
    finally:
        for program in programs:
            program.kill()
            program.wait()


def taken_by_others(began: tuple[float, float, float]) -> float | None:
    """The share of this machine's processors that other programs, and machines beside a virtual one, had since
    `clocks()`: of the time in which the children of this process that have ended since could have computed."""
    wall, busy, children = (now - then for now, then in zip(clocks(), began, strict=True))
    return max(0.0, busy - children) / (wall * (os.cpu_count() or 1)) if busy else None


def clocks() -> tuple[float, float, float]:
    """Seconds on the wall; those that processors have worked, or were taken from a virtual machine, for anybody (0
    where it cannot be known), and for children of this process that have ended."""
    try:
        user, nice, system, _, _, irq, softirq, steal = map(int, _cpu_line()[1:9])
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        busy = 0.0
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic(), busy, used.ru_utime + used.ru_stime


def _cpu_line() -> list[str]:
    return Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()


def run(impl: str, python: str, job: Job) -> dict[str, Any]:
    """The result of a job. What the process prints is shown only if it fails, which ends everything."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "job.json", Path(folder) / "result.json"
        source.write_text(json.dumps(asdict(job)), encoding="utf-8")
        began = clocks()
        done = subprocess.run(
            [python, "-m", f"benchmarks.{impl}_side", str(source), str(target)],
            env=environment(job.threads, job.flags, folder),
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"the process of {impl} failed:\n{done.stdout[-1000:]}\n{done.stderr[-4000:]}")
        found = json.loads(target.read_text(encoding="utf-8"))
        return {**found, "others": taken_by_others(began)}
