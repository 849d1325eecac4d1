"""One rater stops no project: limits on flags and skips, alerts, and taking back what somebody has set aside."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, event, func, select

from heedful.errors import UserError
from heedful.store.database import audit
from heedful.store.database.db import Store, now
from heedful.store.exports import hooks
from heedful.store.lead import reports
from heedful.store.rating import asides, limits, work
from heedful.store.rating.progress import progress
from heedful.store.tables import schema
from workspace import answer, claim, make_project, make_rater, make_tasks


def decline(store: Store, project: str, rater: str, times: int, what: str = "flag") -> list[str]:
    given = []
    for _ in range(times):
        key = claim(store, project, rater)
        assert key
        answer(store, key, rater, {what: "why"})
        given.append(key)
    return given


def slots(store: Store, project: str) -> dict[str, int]:
    s = schema.task_slot.c
    query = select(s.state, func.count()).where(s.project == project).group_by(s.state)
    with store.read() as connection:
        return dict(map(tuple, connection.execute(query)))


def test_flags_beyond_the_limit_set_nothing_aside(store: Store):
    """Kept, as all judgments; the lead is told who it was, once an hour by webhooks; others' flags count as before.

    Mutation caught: a limit over all raters together.
    """
    project = make_project(store, flags_an_hour=3)
    make_tasks(store, project, 8, overlap=2)
    hasty, other = make_rater(store), make_rater(store)
    with store.write() as connection:
        hooks.add(connection, project, "https://hooks.example.org/", actor=None)
    decline(store, project, hasty, 7)
    assert slots(store, project) == {"parked": 6, "open": 10}
    with store.read() as connection:
        (alert,) = asides.alerts(connection, project)
        assert connection.execute(select(func.count()).select_from(schema.judgment)).scalar() == 7
    assert (alert["rater"], alert["what"], alert["beyond"]) == (hasty, "flagged", 4)
    with store.write() as connection:
        bodies = [d.body for d in hooks.claim_due(connection)]
    (told,) = (b["alert"] for b in bodies if b["event"] == "alert")
    assert told["rater"]["id"] == hasty and "more than 3 flags" in told["text"] and len(bodies) == 8
    decline(store, project, other, 1)
    assert slots(store, project) == {"parked": 8, "open": 8}


def test_skips_beyond_the_limit_count_nothing(store: Store):
    project = make_project(store, skips_an_hour=1, skips_until_parked=1)
    make_tasks(store, project, 3)
    decline(store, project, make_rater(store), 3, "skip")
    assert slots(store, project) == {"parked": 1, "open": 2}


def test_what_a_rater_has_set_aside_is_taken_back(store: Store):
    """Since a time, in one project; nothing is deleted, and what others keep aside stays.

    Mutations caught: every parked question of the project; flags that count again at the next skip.
    """
    project = make_project(store, flags_an_hour=0, skips_until_parked=2)
    make_tasks(store, project, 6)
    hasty, other = make_rater(store), make_rater(store)
    decline(store, project, hasty, 1)
    with store.read() as connection:
        since = now(connection)
    decline(store, project, hasty, 2)
    (theirs,) = decline(store, project, other, 1)
    before = slots(store, project)
    assert before == {"parked": 4, "open": 2}
    with store.write() as connection:
        done = asides.take_back(connection, project, hasty, since=since, actor=other)
    assert done == {"taken_back": 2, "tasks": 2, "answers": 2}
    assert slots(store, project) == {"parked": 2, "open": 4}
    with store.write() as connection:
        again = asides.take_back(connection, project, hasty, since=since, actor=other)
        assert again == {"taken_back": 0, "tasks": 0, "answers": 0}
        assert connection.execute(select(func.count()).select_from(schema.judgment)).scalar() == 4
        a = schema.assignment.c
        states = dict(map(tuple, connection.execute(select(a.id, a.discounted))))
        assert states[theirs] is None and list(states.values()).count("lead") == 2
        events = connection.execute(select(schema.audit_event.c.action)).scalars().all()
        assert events.count("aside.take_back") == 2 and audit.broken_at(connection) is None
        with pytest.raises(UserError, match="no such rater"):
            asides.take_back(connection, project, "nobody", since=0.0, actor=other)
    # One more skip of somebody else does not set it aside again: two are needed.
    third = make_rater(store)
    decline(store, project, third, 1, "skip")
    assert slots(store, project)["parked"] == 2


@pytest.mark.parametrize("what, times", [("flag", 1), ("skip", 2)])
def test_what_the_lead_has_asked_again_is_asked_afresh(store: Store, what: str, times: int):
    """Mutation caught: a flag that the lead has looked at sets the question aside once more at anybody's skip."""
    project = make_project(store, skips_until_parked=2)
    make_tasks(store, project, 1, overlap=4)
    for _ in range(times):
        decline(store, project, make_rater(store), 1, what)
    assert slots(store, project) == {"parked": 4}
    with store.write() as connection:
        task = connection.execute(select(schema.task.c.id)).scalar_one()
        assert reports.unpark(connection, task, close=False, actor="lead") == 4
    decline(store, project, make_rater(store), 1, "skip")
    assert slots(store, project) == {"open": 4}
    decline(store, project, make_rater(store), 1, "skip")
    assert slots(store, project) == {"parked": 4}


def test_a_skip_is_no_answer_until_it_is_answered(store: Store):
    """Neither of today's nor of those that a limit allows; what was skipped and then answered is one.

    Mutations caught: skips that use up a limit; an answer that was a skip first, counted never or twice; a limit that
    nobody reaches who has skipped; a search of all that the rater said.
    """
    project, rater = make_project(store, daily_limit=2), make_rater(store)
    make_tasks(store, project, 9)

    def told() -> tuple[int, int]:
        with store.read() as connection:
            found = progress(connection, project, rater)
        return found["today"], found["total"]

    first = decline(store, project, rater, 3, "skip")[0]
    decline(store, project, rater, 1)
    assert told() == (0, 0)
    for _ in range(2):
        answer(store, first, rater)
        assert told() == (1, 1)
    given = claim(store, project, rater)
    assert given
    answer(store, given, rater)
    assert told() == (2, 2) and claim(store, project, rater) is None
    with store.read() as connection:
        assert limits.said(connection, project, rater, since=1e12) == (2, 0, 0)
        if store.dialect == "sqlite":
            plans = plans_of(connection, lambda: limits.said(connection, project, rater, since=0.0))
            assert any("ix_judgment_sums (project=? AND rater=? AND outcome=?" in p for p in plans)


def test_who_has_a_daily_limit_cannot_skip_without_end(store: Store, monkeypatch):
    """As many as may be answered, or a few; an answer to one of them makes room. Mutation caught: a choice of all
    questions for who may answer few; skips counted in a project without a limit."""
    monkeypatch.setattr(limits, "FEWEST_SKIPS", 3)
    project, rater = make_project(store, daily_limit=2), make_rater(store)
    make_tasks(store, project, 9)
    first = decline(store, project, rater, 2, "skip")[0]
    decline(store, project, rater, 1, "flag")

    def why() -> object:
        with store.write() as connection:
            return work.claim(connection, project, rater).reason

    assert why() == "skip limit"
    answer(store, first, rater)
    assert why() is None
    free = make_project(store, "free")
    make_tasks(store, free, 9)
    decline(store, free, rater, 5, "skip")


def plans_of(connection: Connection, look: Callable[[], object]) -> list[str]:
    """How SQLite goes about what is asked meanwhile."""
    asked: list[tuple[str, tuple]] = []

    def heard(_connection, _cursor, statement, parameters, *_):
        asked.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", heard)
    look()
    event.remove(connection, "before_cursor_execute", heard)
    return [
        row[-1]
        for statement, parameters in asked
        for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
    ]


def test_the_overview_reads_no_assignment_of_those_who_declined_nothing(store: Store):
    """Answers are a million, skips and flags a few: what the overview and *Needs review* ask of assignments goes by who
    declined, whatever there is of the project. Mutation caught: by the index of the project, which has all of them."""
    if store.dialect != "sqlite":
        pytest.skip("PostgreSQL knows how many rows there are")
    project = make_project(store)
    with store.read() as connection:

        def looked() -> None:
            asides.alerts(connection, project)
            reports.aside(connection, project, which="all")

        told = [plan for plan in plans_of(connection, looked) if "assignment" in plan]
        assert len(told) == 3
        assert all("ix_assignment_rater (rater=? AND state=?" in plan for plan in told)
