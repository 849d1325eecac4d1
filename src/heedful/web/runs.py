"""Training runs and reports in a workspace's folders, read from the disk on each request.

A run's id is a hash of its path: a request's id is only compared with those of existing runs, so no request can name a
path outside of the workspace.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedful.data.logs import METRICS
from heedful.errors import UserError

DEPTH = 5  # folders below the workspace
MAX_BYTES = 2_000_000  # of metrics in one answer
ALIVE = 90.0  # seconds since the last line, after which an unfinished run counts as stopped
CONFIG = "config.yaml"
REPORTS = ("report.html", "compare.html")  # of a run or a demo, of a comparison of methods
FINISHED = ("config.json", "adapter_config.json", "player.json")  # of a model, an adapter, a player
SKIPPED = ("checkpoints", "tensorboard", "data", "exports", "backups")


@dataclass(frozen=True)
class RunFolder:
    """A folder with a run, a report, or both."""

    id: str
    name: str
    folder: Path


def find(workspace: Path) -> list[RunFolder]:
    """Every run and report, those that changed last first."""
    return sorted(_walk(workspace), key=lambda f: -_changed(f.folder))


def find_one(workspace: Path, key: str) -> RunFolder:
    for run in _walk(workspace):
        if run.id == key:
            return run
    raise UserError("there is no such run")


def about(run: RunFolder) -> dict[str, Any]:
    """{id, name, state, changed_at, steps, metrics, report}: metrics says whether there are curves."""
    metrics = run.folder / METRICS
    changed = _changed(run.folder)
    has_metrics = is_own_file(metrics)
    last = _last_row(metrics) if has_metrics else None
    return {
        "id": run.id,
        "name": run.name,
        "state": _state(run.folder) if has_metrics else "report",
        "changed_at": changed,
        "step": last.get("step") if last else None,
        "seconds": last.get("seconds") if last else None,
        "metrics": has_metrics,
        "report": report(run) is not None,
    }


def rows(run: RunFolder, after: int) -> dict[str, Any]:
    """{rows, next, state}: whole lines of metrics from the byte `after` on; ask again with `next`.

    A run that began anew has a shorter file: then `next` starts over and `restarted` is true.
    """
    path = run.folder / METRICS
    state = _state(run.folder)
    try:
        if not is_own_file(path):
            raise FileNotFoundError(path)
        size = path.stat().st_size
        restarted = after > size
        with open(path, "rb") as file:
            file.seek(0 if restarted else after)
            chunk = file.read(MAX_BYTES)
    except FileNotFoundError:
        return {"rows": [], "next": 0, "state": state, "restarted": after > 0}
    lines = chunk[: chunk.rfind(b"\n") + 1]
    values = [row for raw_line in lines.splitlines() if (row := _row(raw_line)) is not None]
    return {
        "rows": values,
        "next": (0 if restarted else after) + len(lines),
        "state": state,
        "restarted": restarted,
    }


def report(run: RunFolder) -> Path | None:
    """The page that a command has left there."""
    return next((p for name in REPORTS if is_own_file(p := run.folder / name)), None)


def config(run: RunFolder) -> str:
    path = run.folder / CONFIG
    try:
        return (
            path.read_text(encoding="utf-8", errors="replace")[:100_000]
            if is_own_file(path)
            else ""
        )
    except OSError:
        return ""


def is_own_file(path: Path) -> bool:
    """A file, not a symbolic link, which could lead out of the workspace."""
    return path.is_file() and not path.is_symlink()


def _walk(workspace: Path) -> Iterator[RunFolder]:
    """Links are not followed: they could lead out of the workspace."""
    root = str(workspace)
    for folder, below, files in os.walk(root, followlinks=False):
        relative = os.path.relpath(folder, root)
        depth = 0 if relative == "." else relative.count(os.sep) + 1
        below[:] = sorted(
            d for d in below if depth < DEPTH and d not in SKIPPED and not d.startswith(".")
        )
        path = Path(folder)
        if any(name in files and is_own_file(path / name) for name in (METRICS, *REPORTS)):
            name = workspace.resolve().name if relative == "." else Path(relative).as_posix()
            key = hashlib.sha256(relative.encode("utf-8", "surrogateescape")).hexdigest()[:16]
            yield RunFolder(key, name.encode("utf-8", "replace").decode(), path)


def _state(folder: Path) -> str:
    """running, finished or stopped: a finished run's model is moved into place last."""
    if any((folder / name).is_file() for name in FINISHED):
        return "finished"
    return "running" if time.time() - _changed(folder) < ALIVE else "stopped"


def _changed(folder: Path) -> float:
    times = []
    for name in (METRICS, *REPORTS):
        try:
            times.append((folder / name).stat().st_mtime)
        except OSError:
            continue
    return max(times, default=0.0)


def _last_row(path: Path) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 20_000))
            lines = file.read().splitlines()
    except OSError:
        return None
    return next((row for line in reversed(lines) if (row := _row(line)) is not None), None)


def _row(line: bytes) -> dict[str, Any] | None:
    """A logged step; NaN and infinity, which JSON has not, become null."""
    try:
        row = json.loads(line, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
