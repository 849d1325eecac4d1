"""How long until a command answers: import, help, help of a trainer."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

TIMES = 3  # each command in a process; the first may find the disk's cache cold


def commands(impl: str, python: str) -> dict[str, list[str]]:
    script = Path(python).with_name(impl)
    start = "from heedful.cli import main" if impl == "heedful" else "from trl.cli import main"
    tool = (
        [str(script)] if script.exists() else [python, "-c", f"{start}; raise SystemExit(main())"]
    )
    train = ["train", "sft"] if impl == "heedful" else ["sft"]
    return {
        "import": [python, "-c", f"import {impl}"],
        "help": [*tool, "--help"],
        "train_help": [*tool, *train, "--help"],
    }


def measure(impl: str, python: str) -> dict[str, Any]:
    """`seconds` holds the fastest of each command; a repeat's number is their median."""
    best: dict[str, float] = {}
    for name, command in commands(impl, python).items():
        for _ in range(TIMES):
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            taken = time.perf_counter() - began
            best[name] = min(taken, best.get(name, taken))
    return {"seconds": list(best.values()), "extra": {"commands": best}}
