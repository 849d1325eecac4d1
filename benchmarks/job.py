"""What run.py asks of either side, and what it gets back. Imports neither heedful nor TRL."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.inputs import SIZES, Size

TRAINING = ("sft", "reward", "dpo")
SAMPLING = ("ppo", "rloo", "grpo")
TASKS = (*TRAINING, *SAMPLING, "generate", "startup")
# Large where losses are compared, so that they have moved by the end; next to nothing where the clock must go right.
LEARNING_RATE = dict(sft=1e-4, reward=1e-4, dpo=1e-4, ppo=1e-8, rloo=1e-8, grpo=1e-8)
PPO_EPOCHS = 4
BLOCKS = 3  # of generation in a process, the first of which warms up


@dataclass(frozen=True, kw_only=True)
class Job:
    """One process's work."""

    task: str
    size: str
    folder: str
    dtype: str = "float32"
    flags: str = "default"
    threads: int = 1
    seed: int = 0
    breakdown: bool = False

    @property
    def sizes(self) -> Size:
        return SIZES[self.size]

    @property
    def clock(self) -> str:
        """The folder of the model that samples."""
        return str(Path(self.folder) / f"clock-{self.dtype}")


@dataclass
class Measured:
    """What a side counts while it works. `ends` are the moments at which optimiser steps or rounds were over."""

    ends: list[float] = field(default_factory=list)
    cpu_ends: list[float] = field(
        default_factory=list
    )  # the same on the clock of the process's own work
    losses: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)  # real ones, of each step's update
    sampled: int = 0
    updates: int = 0
    before: float = 0.0  # seconds of work for all steps that was done before the first
    cpu_before: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def end(self) -> None:
        self.ends.append(time.perf_counter())
        self.cpu_ends.append(time.process_time())


def per_step(ends: list[float], before: float) -> list[float]:
    """Seconds of each step but the first, which warms up, with its share of what was done before."""
    return [b - a + before / len(ends) for a, b in pairwise(ends)]


def as_result(measured: Measured) -> dict[str, Any]:
    """What was counted, and the seconds of steps or blocks."""
    found = asdict(measured)
    found["seconds"] = per_step(measured.ends, measured.before)
    found["cpu_seconds"] = per_step(measured.cpu_ends, measured.cpu_before)
    return found


def serve(work: Callable[[Job, Measured], None], libraries: tuple[str, ...]) -> None:
    """The main of a side: JOB.json and RESULT.json on the command line."""
    began = time.perf_counter()
    source, target = map(Path, sys.argv[1:3])
    job = Job(**json.loads(source.read_text(encoding="utf-8")))
    measured = Measured()
    import torch

    torch.set_num_threads(job.threads)
    work(job, measured)
    result = {
        **as_result(measured),
        "wall": time.perf_counter() - began,
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "threads": torch.get_num_threads(),
        "versions": versions(("torch", "transformers", *libraries)),
    }
    aside = target.with_suffix(".part")
    aside.write_text(json.dumps(result), encoding="utf-8")
    os.replace(aside, target)


def positive(text: str) -> int:
    """Of a command line: a number of things of which there must be one."""
    if (number := int(text)) < 1:
        raise ArgumentTypeError(f"{number} is less than 1")
    return number


def lines_file(text: str) -> Path:
    """Of a command line: a file to which lines will be added, known to have a folder before the work begins."""
    if not Path(text).absolute().parent.is_dir():
        raise ArgumentTypeError(f"{text}: there is no such folder")
    return Path(text)


def add_line(line: dict[str, Any], out: Path | None) -> None:
    """A result as JSON, on the screen and behind those in the file."""
    text = json.dumps(line)
    print(text, flush=True)
    if out:
        with open(out, "a", encoding="utf-8") as file:
            file.write(text + "\n")


def versions(names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "source"
    return found


def likes_short(completions: list[str], **_: Any) -> list[float]:
    """The reward of both sides, in the form that both take: nothing that would cost time."""
    return [-0.01 * len(text) for text in completions]
