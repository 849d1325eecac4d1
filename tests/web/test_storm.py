"""Nothing lost, nothing twice: the server is killed while raters work. docs/results/nothing_lost.py does it in full."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from linear import Operation, unexplained
from storm import check, storm


@pytest.mark.long
def test_what_was_acknowledged_is_stored_once(url: str, tmp_path: Path, request):
    """Ten raters, kills of the server, a stop of PostgreSQL, lost answers, double clicks, skips and corrections: as
    many judgments as were acknowledged, exactly, and a history that some order of the requests explains.

    Mutation caught: a receipt before the commit; an answer to a slot that somebody else has; an old answer read.
    """
    own = None if url.startswith("sqlite") else request.getfixturevalue("own_postgres")
    found = storm(tmp_path / "workspace", url, raters=10, each=20, kills=2, database=own, stops=1)
    assert found.kills == 2 and found.replays > 0 and found.lost_answers > 0
    assert found.stops == (1 if own else 0)
    check(found, raters=10, each=20)


def submitted(who: str, start: float, end: float, key: str, value: object, revision: int, **more):
    """An answer with its receipt."""
    result = {"judgment": f"j-{key}", "revision": revision, "disposition": "counted"} | more
    said = value if isinstance(value, dict) else {"value": value}
    return Operation("submit", who, start, end, key, said, result)


def leased(who: str, start: float, end: float) -> Operation:
    return Operation("lease", who, start, end, result={})


def was_read(who: str, start: float, end: float, revision: int, value: object) -> Operation:
    answer = None if value is None else {"value": value}
    return Operation("read", who, start, end, result={"revision": revision, "answer": answer})


# Of three assignments to one task with two slots: a skips and gives its slot to c; b answers and corrects itself while
# a second window reads, and while an answer is on its way whose receipt never came.
HISTORY = [
    leased("a", 0, 1), leased("b", 0, 2), leased("a", 1, 2), was_read("b", 2, 2.9, 0, None),
    submitted("b", 3, 6, "k1", 4, 1), was_read("b", 3.5, 5, 1, 4), submitted("b", 4, 7, "k1", 4, 1),
    submitted("a", 3, 4, "s", {"skip": "unsure"}, 1), leased("c", 3.5, 5),
    replace(submitted("b", 8, 9, "k2", 5, 2), result=None), submitted("b", 9, 10, "k3", 6, 2),
    was_read("b", 11, 12, 2, 6), was_read("b", 13, 14, 3, 5),
    submitted("c", 12, 13, "k4", 1, 1), submitted("a", 14, 15, "k5", 1, 2, disposition="surplus"),
]  # fmt: skip
PLANTED = {
    "a key has two judgments": (6, {"result": HISTORY[6].result | {"judgment": "j-other"}}),  # type: ignore[operator]
    "a revision is left out": (10, {"result": HISTORY[10].result | {"revision": 4}}),  # type: ignore[operator]
    "an acknowledged answer is not read": (11, {"result": {"revision": 1, "answer": {"value": 4}}}),
    "an answer is read before it was given": (3, {"result": {"revision": 1, "answer": {"value": 4}}}),
    "a slot is leased that was not free yet": (8, {"start": 2.0, "end": 2.5}),
    "a slot is filled that somebody has": (14, {"result": HISTORY[14].result | {"disposition": "late"}}),  # type: ignore[operator]
    "what was told is forgotten later": (12, {"result": {"revision": 2, "answer": {"value": 5}}}),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_the_checker_finds_what_is_planted(name: str):
    """And explains the history without it, in which requests overlap and one may or may not have had its effect."""
    slots = {"a": "task/0", "c": "task/0", "b": "task/1"}
    assert unexplained(HISTORY, slots) == []
    number, change = PLANTED[name]
    planted = [replace(o, **change) if i == number else o for i, o in enumerate(HISTORY)]
    assert len(unexplained(planted, slots)) == 1
