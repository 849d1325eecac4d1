"""Counts that go on from earlier ones: whatever has happened meanwhile, they are what a count of everything gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

import everything
from heedful.store.database import audit
from heedful.store.database.db import Store
from heedful.store.intake import imported
from heedful.store.lead import reports
from heedful.store.lead import tally as tallies
from heedful.store.lead.tally import Tally, tally
from heedful.store.project import projects
from heedful.store.tables import schema
from heedful.types import Comparison, Message
from heedful.web.tallies import FILE, Tallies
from workspace import answer, claim, expire_lease, make_project, make_rater, make_task, make_tasks


def given(store: Store, project: str, rater: str, *answers: dict[str, Any]) -> str:
    """The rater's next question, answered and corrected."""
    assignment = claim(store, project, rater)
    assert assignment
    for said in answers:
        answer(store, assignment, rater, said)
    return assignment


def counts(store: Store, project: str, known: Tally | None = None) -> Tally:
    with store.read() as connection:
        return tally(connection, project, known)


def test_going_on_gives_what_counting_anew_does(store: Store, monkeypatch: pytest.MonkeyPatch):
    """After each step, from the count before it and from the first one; each answer is in an hour of its own. Mutations
    caught: an answer twice or not at all, those of another project, a correction of what was counted, or of what has
    come since, that moves nothing or from the wrong hour, a skip's correction, an answer that is late or too many, a
    gold question among the regular ones."""
    monkeypatch.setattr(tallies, "HOUR", 1e-3)
    monkeypatch.setattr(tallies, "KEPT", 10**9)
    project, other = make_project(store, "a"), make_project(store, "b")
    ada, bao, lead = make_rater(store), make_rater(store), make_rater(store, "lead")
    make_tasks(store, project, 6, overlap=2)
    make_tasks(store, other, 2)
    held: list[str] = []

    def expired() -> str:
        key = given(store, project, bao)
        with store.write() as connection:
            expire_lease(connection, key)
        return key

    def too_many() -> None:
        key = expired()
        for rater in (ada, make_rater(store), make_rater(store)):
            while one := claim(store, project, rater):
                answer(store, one, rater)
        assert answer(store, key, bao).disposition == "surplus"

    def gold() -> None:
        same = Comparison((Message("user", "?"),), ("x", "y"), (1, 2))
        imported.comparisons(store, project, [same], gold=True)
        with store.write() as connection:
            projects.change(connection, project, {"gold_rate": 1.0}, actor=None)
        make_tasks(store, project, 7)  # between which it is asked
        given(store, project, ada, {"value": 1})

    def reviewed() -> None:
        s = schema.task_slot.c
        answered = select(s.task).group_by(s.task).having(func.min(s.state) == func.max(s.state))
        with store.write() as connection:
            done = answered.where(s.project == project).having(func.min(s.state) == "done")
            task = connection.execute(done).scalars().first()
            key = reports.review(connection, task, lead)["assignment"]
        answer(store, key, lead)

    steps: tuple[Callable[[], Any], ...] = (
        lambda: None,
        lambda: held.append(given(store, project, ada, {"value": 1})),
        lambda: given(store, other, ada, {"value": 1}),
        lambda: answer(store, held[0], ada, {"value": 8}),  # of what was counted
        lambda: given(store, project, bao, {"value": 1}, {"value": 2}, {"tie": True}),
        lambda: given(store, project, bao, {"skip": None}, {"value": 3}),
        lambda: given(store, project, ada, {"skip": None}),
        lambda: given(store, project, ada, {"flag": "no"}),
        lambda: answer(store, expired(), bao),
        too_many,
        reviewed,
        gold,
    )
    first = before = counts(store, project)
    for step in steps:
        step()
        anew = counts(store, project)
        assert counts(store, project, before) == counts(store, project, first) == anew
        before = anew
    assert {way for way, n in before.ways.items() if n} == {*tallies.WAYS}
    assert before.extra >= 2
    checked(store)


def checked(store: Store) -> None:
    """What is derived from answers is what the tables themselves say."""
    with store.read() as connection:
        for project in connection.execute(select(schema.project.c.id)).scalars():
            j, s = schema.judgment.c, schema.task_slot.c
            stored = select(func.count()).where(j.project == project)
            found = tally(connection, project)
            assert found.stored == connection.execute(stored).scalar_one()
            assert set(found.ways) <= {*tallies.WAYS}
            done = select(func.count()).where(s.project == project, s.state == "done")
            regular, extra = reports.slots(connection, project, found)
            assert regular["done"] + extra["done"] == connection.execute(done).scalar_one()
            assert sum(found.hours.values()) == reports.answers(found)


@pytest.mark.long
def test_every_kind_of_row(store: Store):
    """Answers of all kinds, corrected, skipped, flagged, tried and given back."""
    project = everything.fill(store)
    checked(store)
    assert counts(store, project, Tally()) == counts(store, project)


def test_what_is_known_is_used(store: Store, monkeypatch: pytest.MonkeyPatch):
    """Mutations caught: a tally that is not gone on from; one of another database that is; too many events for it."""
    project, ada = make_project(store), make_rater(store)
    make_tasks(store, project, 3)
    given(store, project, ada, {"value": 1})
    known = counts(store, project)
    anew: list[str] = []
    count = tallies._anew
    monkeypatch.setattr(tallies, "_anew", lambda *words: anew.append("") or count(*words))
    given(store, project, ada, {"value": 1})
    counts(store, project, known)
    assert not anew
    elsewhere = Tally(audit.Head(known.audit.seq, "f" * 64), known.sums, known.hours)
    assert counts(store, project, elsewhere) == counts(store, project, known)
    assert len(anew) == 1
    monkeypatch.setattr(tallies, "MOST", 0)
    counts(store, project, known)
    assert len(anew) == 2


def test_the_next_start_goes_on(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """From a file that is as it was written, or not there, or no such file."""
    project, ada = make_project(store), make_rater(store)
    make_task(store, project)
    given(store, project, ada, {"value": 1})
    with store.read() as connection:
        found = Tallies(tmp_path)(connection, project)
        assert json.loads((tmp_path / FILE).read_text())["format"] == 1
        with monkeypatch.context() as patch:
            patch.setattr(tallies, "_anew", lambda *_: pytest.fail("counted anew"))
            assert Tallies(tmp_path)(connection, project) == found
        for text in ("", "[]", '{"format": 1, "projects": {"x": {}}}', '{"format": 0}'):
            (tmp_path / FILE).write_text(text)
            assert Tallies(tmp_path)(connection, project) == found
        assert Tallies(tmp_path / "nowhere")(connection, project) == found
        assert Tallies(None)(connection, project) == found
