"""Who can be relied on, for the lead's page: `heedful raters` as a process of its own, so that no page waits for it.

What it finds are files in the workspace, `reliability/PROJECT.json` of comparisons and `PROJECT.labels.json` of thumbs,
rules and ratings; the page shows what is there and when it was made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from heedful.web import beside

FOLDER = "reliability"


LABELS = "labels"  # of single responses: thumbs, rules, ratings


def begin(workspace: Path, project: str, name: str, judged: Set[str]) -> bool:
    """Fit the models of raters to what the project's raters have said, of comparisons and of labels as far as `judged`
    has "ranks" or another part; False where that is being done already."""
    begun = False
    if judged <= {"ranks"}:
        begun |= _begin(workspace, project, name)
    else:
        begun |= "ranks" in judged and _begin(workspace, project, name)
        begun |= _begin(workspace, f"{project}.{LABELS}", name, "--labels", "dawid_skene")
    return begun


def _begin(workspace: Path, key: str, name: str, *how: str) -> bool:
    words = ("raters", f"db:.#{name}", *how, "--out", f"{FOLDER}/{key}.json")
    return beside.begin(workspace, FOLDER, key, words)


def found(workspace: Path, project: str) -> dict[str, Any]:
    """{running, made_at, why, raters, version, comparisons, labels: {running, made_at, why, axes, version}}: the newest
    that was found of comparisons and of labels, and why a later try failed."""
    compared = _found(workspace, project, {"raters": [], "version": None, "comparisons": 0})
    labelled = _found(workspace, f"{project}.{LABELS}", {"axes": {}, "version": None})
    return compared | {LABELS: labelled}


def _found(workspace: Path, key: str, nothing: Mapping[str, Any]) -> dict[str, Any]:
    last, file = beside.last(workspace, FOLDER, key), workspace / FOLDER / f"{key}.json"
    made_at = file.stat().st_mtime if file.exists() else None
    told = json.loads(file.read_text(encoding="utf-8")) if made_at else {}
    failed = last.began_at and not last.running and (made_at is None or made_at < last.began_at)
    state = {
        "running": last.running,
        "made_at": made_at,
        "why": (last.said or "it was stopped") if failed else None,
    }
    return state | {name: told.get(name, value) for name, value in nothing.items()}
