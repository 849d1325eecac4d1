"""Folders of runs → one HTML page."""

from __future__ import annotations

import json
from pathlib import Path

from heedful.configs.report import Config, refuse_nonsense
from heedful.errors import UserError
from heedful.report import build
from heedful.report.compare import build as build_comparison
from heedful.report.runs import build as build_runs

__all__ = ["Config", "run"]


def run(config: Config) -> Path:
    """Returns the page's path."""
    refuse_nonsense(config)
    for folder in config.runs:
        if not folder.is_dir():
            raise UserError(f"{folder}: there is no such folder")
    [first, *others] = config.runs
    results = first / "results.json"
    if not others and config.out is None and results.exists():
        return (build_comparison if _compares(results) else build)(first)
    return build_runs(config.runs, config.out)


def _compares(results: Path) -> bool:
    """Whether a results.json is one of `heedful compare`; `build` says what is wrong with one that is no JSON."""
    try:
        told = json.loads(results.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(told, dict) and "methods" in told
