"""Plain lines of progress, where nobody looks at a terminal."""

from __future__ import annotations

import pytest

from heedful import progress
from heedful.progress import Progress


@pytest.mark.parametrize("start", [0, 3])
def test_no_end_is_foretold_before_the_first_unit(start, capsys, monkeypatch):
    """Who waits for people's answers read of an end that fled: eight times as far as they had waited. Mutation caught:
    a pace of one unit so far where none is done, by this process or one before."""
    monkeypatch.setattr(progress, "PLAIN_EVERY", -1.0)
    with Progress("answers", 8, quiet=True, start=start) as bar:
        bar.update(start)
        bar.update(start + 1)
    waiting, going = capsys.readouterr().err.splitlines()
    assert waiting == f"answers {start}/8  0s  eta ?"
    assert going == f"answers {start + 1}/8  0s  eta 0s"
