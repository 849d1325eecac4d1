"""Nothing lost, nothing twice: the server is killed while raters work. docs/results/nothing_lost.py does it in full."""

from __future__ import annotations

from pathlib import Path

from storm import check, storm


def test_what_was_acknowledged_is_stored_once(url: str, tmp_path: Path):
    """Ten raters, two kills, lost answers and double clicks: as many judgments as were acknowledged, exactly."""
    found = storm(tmp_path / "workspace", url, raters=10, each=20, kills=2)
    assert found.kills == 2 and found.replays > 0 and found.lost_answers > 0
    check(found, raters=10, each=20)
