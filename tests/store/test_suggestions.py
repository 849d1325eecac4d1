"""Suggestions of models: beside questions, shown by chance, recorded with the answer, and never a judgment."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from heedful.errors import UserError
from heedful.raters import suggested
from heedful.store.database.db import Store
from heedful.store.exports import snapshot
from heedful.store.intake import imported
from heedful.store.lead.history import history
from heedful.store.project import projects, records, suggestions
from heedful.store.rating import show, work
from heedful.store.tables import schema
from heedful.types import Comparison, Message
from workspace import answer, claim, make_project, make_rater, make_task, make_tasks

MODEL = "runs/reward"


def suggest(store: Store, project: str, tasks: dict[str, Any], version: str = "v1") -> int:
    with store.write() as connection:
        return suggestions.add(connection, project, MODEL, version, tasks)


def switch(store: Store, project: str, source: str = MODEL, hidden: float = 0.0) -> None:
    changed = {"suggestions": source, "suggestions_hidden": hidden}
    with store.write() as connection:
        projects.change(connection, project, changed, actor=None)


def question(store: Store, lease: str | None, rater: str) -> dict[str, Any]:
    assert lease
    with store.read() as connection:
        return show.question(connection, lease, rater)


def test_they_are_shown_where_the_lead_asks_and_stand_in_the_record(store: Store):
    """By place on the screen, whatever the order; recorded with the answer, in every history, and in no form for
    training. Mutations caught: ranks in the task's order; shown without the switch; one counted as an answer."""
    project, rater = make_project(store), make_rater(store)
    tasks = make_tasks(store, project, 12, overlap=2)
    assert suggest(store, project, {task: [2, 1] for task in tasks}) == 12
    assert suggest(store, project, {tasks[0]: [1, 2]}) == 0  # what it said first stays
    first = claim(store, project, rater)
    assert first and question(store, first, rater)["suggestion"] is None
    answer(store, first, rater)
    switch(store, project)
    given: set[tuple[int | None, ...]] = set()
    while lease := claim(store, project, rater):
        shown = question(store, lease, rater)
        best = shown["suggestion"].index(1)
        assert shown["responses"][best]["text"] == "I don't know."  # the second of the task
        given.add(tuple(shown["suggestion"]))
        answer(store, lease, rater)
    assert given == {(1, 2), (2, 1)}
    with store.read() as connection:
        count = select(func.count()).select_from(schema.judgment)
        assert connection.execute(count).scalar_one() == 12
        ids = list(connection.execute(select(schema.judgment.c.id)).scalars())
        rows = list(snapshot.rows(connection, snapshot.Query("judgments"), ids))
        told = {"source": MODEL, "version": "v1", "ranks": [2, 1], "shown": True}
        assert [row["suggestion"] for row in rows].count(told) == 11
        assert [row["suggestion"] for row in rows].count(None) == 1
        for one in records.stream(connection, ids, records.TRAINING):
            assert one.suggestion is None  # nothing that is trained on reads it
        events = [e for t in tasks for e in history(connection, t)["events"] if "order" in e]
    assert [e["suggestion"] for e in events].count(
        {"source": MODEL, "ranks": [2, 1], "shown": True}
    ) == 11
    switch(store, project, source="")
    other = make_rater(store)
    assert question(store, claim(store, project, other), other)["suggestion"] is None


def test_a_share_is_hidden_by_chance_and_recorded(store: Store):
    """A fifth of 60 stays hidden, a draw for each rater, and the page cannot tell it from a question without any.

    Mutations caught: nothing hidden, hidden by question for all raters alike, hidden and not recorded."""
    project, raters = make_project(store), [make_rater(store) for _ in range(2)]
    tasks = make_tasks(store, project, 60, overlap=2)
    suggest(store, project, {task: [1, 2] for task in tasks})
    switch(store, project, hidden=0.2)
    rng, hidden = random.Random(7), []
    for rater in raters:
        with store.write() as connection:
            while lease := work.claim(connection, project, rater, rng=rng).assignment:
                drawn = schema.suggestion_shown.c
                row = connection.execute(select(drawn.shown).where(drawn.assignment == lease))
                assert row.scalar_one() == bool(
                    show.question(connection, lease, rater)["suggestion"]
                )
                schema_ = schema.assignment
                connection.execute(
                    schema_.update().where(schema_.c.id == lease).values(state="done")
                )
        a, s = schema.assignment.c, schema.suggestion_shown.c
        query = select(a.task).join(schema.suggestion_shown, s.assignment == a.id)
        with store.read() as connection:
            theirs = query.where(a.rater == rater, s.shown.is_(False))
            hidden.append(set(connection.execute(theirs).scalars()))
    assert all(4 <= len(of) <= 22 for of in hidden) and hidden[0] != hidden[1]
    with pytest.raises(DBAPIError, match="append-only"), store.write() as connection:
        connection.execute(schema.suggestion_shown.update().values(shown=True))


def test_gold_like_all_others_and_none_in_an_examination(store: Store):
    """Gold questions would give themselves away without; what comes before the real work measures the person alone, and
    a lead who looks again has nobody's opinion. Mutations caught: each of the three."""
    project, rater, lead = make_project(store, gold_rate=1.0), make_rater(store), make_rater(store)
    gold = [Comparison((Message("user", f"G{i}?"),), ("right", "wrong"), (1, 2)) for i in range(2)]
    imported.comparisons(store, project, gold, gold=True)
    plain = make_task(store, project, overlap=3)
    repeated = make_task(store, project, question="Again?", swap_of=plain)
    with store.read() as connection:
        asked, others = suggestions.wanted(connection, project, MODEL, "v1")
    assert len(asked) == 3 and plain in asked and repeated not in asked and others == 0
    suggest(store, project, {task: [2, 1] for task in asked})
    switch(store, project)
    with store.write() as connection:
        projects.change(connection, project, {"qualification_questions": 1}, actor=None)
    examined = claim(store, project, rater)
    assert examined and question(store, examined, rater)["suggestion"] is None
    right = [r["text"] for r in question(store, examined, rater)["responses"]].index("right")
    answer(store, examined, rater, {"better": right})
    assert question(store, claim(store, project, rater), rater)["suggestion"]  # gold
    with store.write() as connection:
        again = work.assign(connection, plain, lead, shown=True)
    assert question(store, again, lead)["suggestion"] is None


def test_what_does_not_fit_is_refused(store: Store):
    """Mutations caught: ranks of another number of responses, of a question that does not rank, of another project's; a
    switch to somebody who has suggested nothing; the newest version shown last."""
    project, rater = make_project(store), make_rater(store)
    task, note = make_task(store, project), make_task(store, project, "note", ["a"], "Write?")
    axes = [{"name": "better", "kind": "rank"}, {"name": "why", "kind": "note"}]
    screen = make_task(store, project, "screen", ["a", "b", "c"], "?", options={"questions": axes})
    for ranks in ([1], [1, 2, 3], [0, 1], [None, None], [1, True], [1, 1.5]):
        with pytest.raises(UserError, match="a rank from 1 or null for each of 2"):
            suggest(store, project, {task: ranks})
    with pytest.raises(UserError, match="which response is better"):
        suggest(store, project, {note: [1]})
    with pytest.raises(UserError, match="no such question"):
        suggest(store, make_project(store, "other"), {task: [1, 2]})
    with pytest.raises(UserError, match="'runs/reward' has suggested nothing here"):
        switch(store, project)
    with store.read() as connection:
        assert suggestions.wanted(connection, project, MODEL, "v1") == ([task, screen], 1)
    suggest(store, project, {task: [1, 2], screen: [1, None, 2]})
    suggest(store, project, {task: [2, 1]}, "v2")
    switch(store, project)
    seen = {}
    while lease := claim(store, project, rater):
        shown = question(store, lease, rater)
        texts = [r["text"] for r in shown["responses"]]
        seen[shown["kind"]] = shown["suggestion"] and dict(
            zip(texts, shown["suggestion"], strict=True)
        )
        answer(store, lease, rater, {"skip": None})
    newest = {"Lima.": 2, "I don't know.": 1}
    assert seen == {"pair": newest, "screen": {"a": 1, "b": None, "c": 2}, "note": None}
    with store.read() as connection:
        there = suggestions.sources(connection, project)
    assert [(s["source"], s["version"], s["questions"]) for s in there] == [
        (MODEL, "v2", 1),
        (MODEL, "v1", 2),
    ]


@pytest.mark.long_on_postgres
def test_its_effect_on_raters_is_told(store: Store):
    """Two raters: one always says what is suggested where they see it, one never looks; both find "right" otherwise.
    Every number is counted beside it. Mutations caught: shown and hidden swapped, gold among the others, a judge among
    people, gold about which the suggestion is right among what misleads, an answer that was corrected."""
    project = make_project(store, gold_rate=0.5)
    follower, deaf, judge = make_rater(store), make_rater(store), make_rater(store, "judge")
    gold = [Comparison((Message("user", f"G{i}?"),), ("right", "wrong"), (1, 2)) for i in range(8)]
    imported.comparisons(store, project, gold, gold=True)
    texts = ("right", "wrong")
    tasks = [
        make_task(store, project, responses=texts, question=f"{i}?", overlap=3) for i in range(20)
    ]
    with store.read() as connection:
        asked, _ = suggestions.wanted(connection, project, MODEL, "v1")
        query = select(schema.task.c.id, schema.task.c.is_gold).order_by(schema.task.c.created_at)
        golden = [row.id for row in connection.execute(query) if row.is_gold]
    # Every second one is wrong, of gold questions and of others.
    wrong = {*tasks[::2], *golden[::2]}
    suggest(store, project, {t: [2, 1] if t in wrong else [1, 2] for t in asked})
    switch(store, project, hidden=0.5)
    counts: dict[Any, int] = {}
    for rater in (follower, deaf, judge):
        while lease := claim(store, project, rater):
            shown = question(store, lease, rater)
            words = [r["text"] for r in shown["responses"]]
            told = shown["suggestion"]
            best = told.index(1) if told and rater == follower else words.index("right")
            if rater == follower:  # said the other way round first, and corrected
                answer(store, lease, rater, {"better": 1 - best})
            answer(store, lease, rater, {"better": best})
            with store.read() as connection:
                lease_row = select(schema.assignment.c.task).where(schema.assignment.c.id == lease)
                task = connection.execute(lease_row).scalar_one()
            agrees = (words[best] == "wrong") == (task in wrong)
            if rater == judge:
                continue
            for what in ("agrees",) if task in tasks else ("gold",) + ("misled",) * (task in wrong):
                true = agrees if what == "agrees" else words[best] == "right"
                for name in (what, (what, rater)):
                    counts[name, bool(told), true] = counts.get((name, bool(told), true), 0) + 1
    with store.read() as connection:
        report = suggested.report(connection, project)
    (effect,) = report["effects"]
    assert effect["source"] == MODEL and report["sources"][0]["questions"] == len(asked)

    def check(told: dict[str, Any], name: Any) -> None:
        for side, shown in (("shown", True), ("hidden", False)):
            yes, no = (counts.get((name, shown, true), 0) for true in (True, False))
            assert (told[side]["count"], told[side]["n"]) == (yes, yes + no), (name, side)

    check(effect["agrees"], "agrees")
    check(effect["gold_right"], "gold")
    check(effect["misled"], "misled")
    assert effect["gold_right"]["shown"]["n"] > effect["misled"]["shown"]["n"] > 0
    with store.read() as connection:
        names = select(schema.rater.c.pseudonym, schema.rater.c.id)
        ids = {row.pseudonym: row.id for row in connection.execute(names)}
    assert {ids[row["rater"]] for row in effect["raters"]} == {follower, deaf}
    for row in effect["raters"]:
        check(row, ("agrees", ids[row["rater"]]))
    theirs = next(row for row in effect["raters"] if ids[row["rater"]] == follower)
    assert theirs["shown"]["value"] == 1.0 and theirs["difference"]["value"] > 0
