"""Commands that the server runs as processes of their own, one at a time of each kind and project, so that no page
waits for them.

A process holds a lock on a file in the workspace, so whether it runs is what the system says, after a restart too; what
it printed lies in a log beside it.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from heedful.store.database.privacy import make_private, private_files
from heedful.web.jobs import held


@dataclass(frozen=True)
class Last:
    """The newest process of a kind: whether it runs, when it began, and the last line that it printed."""

    running: bool = False
    began_at: float | None = None
    said: str | None = None


def begin(workspace: Path, folder: str, key: str, words: Sequence[str]) -> bool:
    """Run `heedful WORDS` in the workspace; False where the one before still runs."""
    place = workspace / folder
    with private_files():
        place.mkdir(exist_ok=True)
        make_private(place / f"{key}.log")
        lock = os.open(place / f"{key}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.utime(lock)  # when it began
            with open(place / f"{key}.log", "wb") as log:
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


def last(workspace: Path, folder: str, key: str) -> Last:
    """What became of the process that `begin` was last asked for."""
    lock, log = (workspace / folder / f"{key}.{end}" for end in ("lock", "log"))
    if not lock.exists():
        return Last()
    running = held(lock)
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    said = next((line for line in reversed(lines) if line.strip()), None)
    return Last(running, lock.stat().st_mtime, said)
