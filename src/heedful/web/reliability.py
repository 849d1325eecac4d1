"""Who can be relied on, for the lead's page: `heedful raters` as a process of its own, so that no page waits for it.

What it finds is a file in the workspace, `reliability/PROJECT.json`; the page shows what is there and when it was made.
The process holds a lock on a file beside it, so whether it runs is what the system says, after a restart too.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from heedful.store.database.privacy import make_private, private_files
from heedful.web.jobs import held

FOLDER = "reliability"


def begin(workspace: Path, project: str, name: str) -> bool:
    """Fit the model of raters to what the project's raters have said; False where that is being done already."""
    folder = workspace / FOLDER
    with private_files():
        folder.mkdir(exist_ok=True)
        make_private(folder / f"{project}.log")
        lock = os.open(folder / f"{project}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.utime(lock)  # when it began
            words = ("raters", f"db:.#{name}", "--out", f"{FOLDER}/{project}.json")
            with open(folder / f"{project}.log", "wb") as log:
                subprocess.Popen(
                    (sys.executable, "-m", "heedful", *words),
                    cwd=workspace,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(lock,),
                    start_new_session=True,
                )
        except BlockingIOError:
            return False
        finally:
            os.close(lock)  # the process holds its own
    return True


def found(workspace: Path, project: str) -> dict[str, Any]:
    """{running, made_at, why, raters, version, comparisons}: the newest that was found, and why a later try failed."""
    file, log, lock = (workspace / FOLDER / f"{project}.{end}" for end in ("json", "log", "lock"))
    running = held(lock)
    made_at = file.stat().st_mtime if file.exists() else None
    told = json.loads(file.read_text(encoding="utf-8")) if made_at else {}
    why = None
    if lock.exists() and not running and (made_at is None or made_at < lock.stat().st_mtime):
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        why = next((line for line in reversed(lines) if line.strip()), "it was stopped")
    return {
        "running": running,
        "made_at": made_at,
        "why": why,
        "raters": told.get("raters", []),
        "version": told.get("version"),
        "comparisons": told.get("comparisons", 0),
    }
