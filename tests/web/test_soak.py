"""Months of a small team against one server: the command of docs/results, for as long as a test may take."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
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


def test_a_leak_is_told_from_a_cache_that_fills(monkeypatch: pytest.MonkeyPatch):
    """The judgement of the hour that is published, on days as they were measured. Mutations caught: the most of a
    quarter in place of what is usual in it; a rise that is let pass as a share of all that is held."""
    monkeypatch.syspath_prepend(str(RESULTS))
    import soak

    def judged(memory: Callable[[int], float], files: Callable[[int], float] = lambda day: 25):
        fixed = dict.fromkeys(soak.MAY_RISE, 5)
        days = [{**fixed, "memory_mib": memory(d), "open_files": files(d)} for d in range(400)]
        return soak.grows(soak.rise(days))

    chance = random.Random(0)

    def noise() -> float:
        """What is held for a moment: a day in ten somebody signs in whenever one looks."""
        return chance.gauss(0, 1) + (64 if chance.random() < 0.1 else 0)

    assert judged(lambda day: 88 + 42 * (1 - math.exp(-day / 60)) + noise()) == []
    a_request = 150 / 1024  # MiB a day: 150 requests, of each of which a KiB is kept
    assert judged(lambda day: 130 + a_request * day + noise()) == ["memory_mib"]
    a_file_a_month = judged(lambda day: 130 + noise(), lambda day: 25 + day // 30)
    assert a_file_a_month == ["open_files"]
    sys.modules.pop("soak")
