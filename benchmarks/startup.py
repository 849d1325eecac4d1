"""How long until a command answers: import, help, help of a trainer."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.process import environment

NAMES = ("import", "help", "train_help")
TIMES = 3  # of each command, the fastest counts: the first may find the disk's cache cold


def commands(impl: str, python: str) -> dict[str, list[str]]:
    script = Path(python).with_name(impl)
    start = f"from {impl}.cli import main; raise SystemExit(main())"
    tool = [str(script)] if script.exists() else [python, "-c", start]
    train = ["train", "sft"] if impl == "heedful" else ["sft"]
    lines = ([python, "-c", f"import {impl}"], [*tool, "--help"], [*tool, *train, "--help"])
    return dict(zip(NAMES, lines, strict=True))


def measure(impl: str, python: str, threads: int) -> dict[str, Any]:
    """`seconds` has the commands in the order of `commands`."""
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as home:
        for name, command in commands(impl, python).items():
            for _ in range(TIMES):
                began = time.perf_counter()
                given = environment(threads, "default", home)
                subprocess.run(command, check=True, capture_output=True, env=given)
                taken = time.perf_counter() - began
                best[name] = min(taken, best.get(name, taken))
    return {"seconds": list(best.values()), "extra": {"commands": best}}
