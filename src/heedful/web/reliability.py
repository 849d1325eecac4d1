"""Who can be relied on, for the lead's page: `heedful raters` as a process of its own, so that no page waits for it.

What it finds is a file in the workspace, `reliability/PROJECT.json`; the page shows what is there and when it was made.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from heedful.web import beside

FOLDER = "reliability"


def begin(workspace: Path, project: str, name: str) -> bool:
    """Fit the model of raters to what the project's raters have said; False where that is being done already."""
    words = ("raters", f"db:.#{name}", "--out", f"{FOLDER}/{project}.json")
    return beside.begin(workspace, FOLDER, project, words)


def found(workspace: Path, project: str) -> dict[str, Any]:
    """{running, made_at, why, raters, version, comparisons}: the newest that was found, and why a later try failed."""
    last, file = beside.last(workspace, FOLDER, project), workspace / FOLDER / f"{project}.json"
    made_at = file.stat().st_mtime if file.exists() else None
    told = json.loads(file.read_text(encoding="utf-8")) if made_at else {}
    failed = last.began_at and not last.running and (made_at is None or made_at < last.began_at)
    return {
        "running": last.running,
        "made_at": made_at,
        "why": (last.said or "it was stopped") if failed else None,
        "raters": told.get("raters", []),
        "version": told.get("version"),
        "comparisons": told.get("comparisons", 0),
    }
