"""Months of a small team against one server: the command of docs/results, for as long as a test may take."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[2] / "docs" / "results"


@pytest.mark.exhaustive
def test_days_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A request that fails, a check or backup that finds something, files or threads that each day leaves open."""
    monkeypatch.syspath_prepend(str(RESULTS))
    import soak

    found = soak.soak(tmp_path, seconds=12.0, day=1.5)
    sys.modules.pop("soak")
    assert not found["problems"] and found["answers"] > 10
    most = {name: max(each) for name, each in found["most_of_each_quarter"].items()}
    assert most["session_rows"] <= found["sign_ins"]
    assert most["exhausted_rows"] <= 2 * (soak.RATERS + 1)
    assert most["leases"] <= soak.RATERS
    # A file for each connection of the pool and each person's, and those that a server has from its start.
    assert most["open_files"] < 8 + 32 + soak.RATERS + 40
    assert most["wal_kib"] < 64 << 10
