"""Critiques by models: shown to who asks, by chance not offered, recorded with the judgment, and never a judgment."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from heedful.errors import UserError
from heedful.raters import criticised
from heedful.store.database.db import Store
from heedful.store.exports import snapshot
from heedful.store.intake import imported
from heedful.store.lead.history import history
from heedful.store.project import critiques, projects, records
from heedful.store.rating import judging, show
from heedful.store.tables import schema, suggestions
from heedful.types import Comparison, Message
from workspace import answer, claim, make_project, make_rater, make_task, make_tasks

CRITIC = "runs/critic"


def write(store: Store, project: str, said: dict[str, Any], version: str = "v1") -> int:
    with store.write() as connection:
        return critiques.add(connection, project, CRITIC, version, said)


def switch(store: Store, project: str, source: str = CRITIC, hidden: float = 0.0) -> None:
    with store.write() as connection:
        changed = {"critiques": source, "critiques_hidden": hidden}
        projects.change(connection, project, changed, actor=None)


def seen(store: Store, lease: str | None, rater: str) -> dict[str, Any]:
    assert lease
    with store.read() as connection:
        return show.question(connection, lease, rater)


def ask(store: Store, lease: str | None, rater: str, place: int) -> str:
    assert lease
    with store.write() as connection:
        return judging.ask_critique(connection, lease, rater, place)


def test_who_asks_is_shown_it_and_that_stands_in_the_record(store: Store):
    """Of one response there is a critique, of the other none. Mutations caught: words before they were asked for, by
    the task's order, without the switch; an older version; asked twice kept twice; asked after the answer counted with
    it; anything of it in what trains."""
    project, rater, other = make_project(store), make_rater(store), make_rater(store)
    task, later = make_tasks(store, project, 2, overlap=2)
    assert write(store, project, {task: ["old", ""], later: ["Wrong city.", None]}) == 2
    assert write(store, project, {task: ["again", None]}) == 0  # what it said first stays
    assert write(store, project, {task: ["<b>No</b> reason.", None]}, "v2") == 1
    first = claim(store, project, rater)
    assert seen(store, first, rater)["critiques"] is None
    with pytest.raises(UserError, match="no critique of this response"):
        ask(store, first, rater, 0)
    answer(store, first, rater)
    switch(store, project)
    # `other` has both questions: what was said is by place on the screen.
    judged = {}
    while lease := claim(store, project, other):
        shown = seen(store, lease, other)
        texts = [r["text"] for r in shown["responses"]]
        place = texts.index("Lima.")
        blank = {"there": False, "text": None}
        assert shown["critiques"] == [
            {"there": i == place, "text": None} if i == place else blank for i in (0, 1)
        ]
        with pytest.raises(UserError, match="no critique of this response"):
            ask(store, lease, other, 1 - place)
        with pytest.raises(UserError, match="no such response"):
            ask(store, lease, other, 2)
        with pytest.raises(UserError, match="no such assignment"):
            ask(store, lease, rater, place)
        answer(store, lease, other, {"better": place})
        said = {ask(store, lease, other, place) for _ in range(2)}
        assert seen(store, lease, other)["critiques"][place] == {"there": True, "text": min(said)}
        answer(store, lease, other, {"better": 1 - place})  # a correction, with what was read
        judged[lease] = said
    assert sorted(map(min, judged.values())) == ["<b>No</b> reason.", "Wrong city."]
    with store.read() as connection:
        ids = list(
            connection.execute(
                schema.judgment.select().with_only_columns(schema.judgment.c.id)
            ).scalars()
        )
        rows = list(snapshot.rows(connection, snapshot.Query("judgments"), ids))
        asked = {
            (r["rater"], r["revision"], r["model_critiques"] and len(r["model_critiques"]["asked"]))
            for r in rows
        }
        assert sorted((revision, n) for _, revision, n in asked if n is not None) == [
            (1, 0),
            (2, 1),
        ]
        assert len(rows) == 5 and [r["model_critiques"] for r in rows].count(None) == 1
        told = next(r["model_critiques"] for r in rows if r["revision"] == 2)
        assert (told["source"], told["offered"]) == (CRITIC, True)
        assert {"completion", "version", "text", "created_at"} == told["asked"][0].keys()
        for one in records.stream(connection, ids, records.TRAINING):
            assert one.offered is None and not one.asked  # nothing that is trained on reads it
        (event,) = [e for e in history(connection, task)["events"] if e["what"] == "critique"]
        assert (event["response"], event["text"]) == (0, "<b>No</b> reason.")
    with pytest.raises(DBAPIError, match="append-only"), store.write() as connection:
        connection.execute(suggestions.critique_asked.delete())


def test_what_does_not_fit_is_refused(store: Store):
    """Mutations caught: another project's question, too few texts, a switch to who has said nothing, nothing kept of
    the others where one is refused; a question without responses among those that are wanted."""
    project = make_project(store)
    task, note = make_task(store, project), make_task(store, project, "write", [], "Write?")
    for said, words in (
        ({task: ["one"]}, "for each of 2 responses"),
        ({task: ["x" * 20_001, None]}, "at most 20000"),
        ({"other": ["a", "b"]}, "no such question"),
    ):
        with pytest.raises(UserError, match=words):
            write(store, project, said)
    with pytest.raises(UserError, match="a name of 1 to"), store.write() as connection:
        critiques.add(connection, project, " ", "", {task: ["a", "b"]})
    with pytest.raises(UserError, match="has criticised nothing here"):
        switch(store, project)
    with store.read() as connection:
        assert critiques.wanted(connection, project, CRITIC, "v1") == [task] and note
    write(store, project, {task: ["a", None]})
    with store.read() as connection:
        assert critiques.wanted(connection, project, CRITIC, "v1") == []
        assert critiques.wanted(connection, project, CRITIC, "v2") == [task]


@pytest.mark.long_on_postgres
def test_its_effect_on_raters_is_told(store: Store):
    """One rater asks wherever they can and then errs, one never asks and is right. Every number is counted beside it.

    Mutations caught: offered and withheld swapped, gold among the others, a judge among people, who asked counted of
    what was withheld."""
    project = make_project(store, gold_rate=0.5)
    misled, deaf, judge = make_rater(store), make_rater(store), make_rater(store, "judge")
    gold = [Comparison((Message("user", f"G{i}?"),), ("right", "wrong"), (1, 2)) for i in range(4)]
    imported.comparisons(store, project, gold, gold=True)
    make_tasks(store, project, 6, responses=("right", "wrong"), overlap=3)
    with store.read() as connection:
        asked = critiques.wanted(connection, project, CRITIC, "v1")
    assert len(asked) == 10
    write(store, project, {task: ["x", "y"] for task in asked})
    switch(store, project, hidden=0.5)
    counts: dict[Any, int] = {}
    said: dict[str, list[tuple[bool, bool]]] = {}

    def count(*key: Any) -> None:
        counts[key] = counts.get(key, 0) + 1

    with store.read() as connection:
        golden = {r.id for r in connection.execute(schema.task.select()) if r.is_gold}
    for rater in (deaf, misled, judge):
        while lease := claim(store, project, rater):
            shown = seen(store, lease, rater)
            words = [r["text"] for r in shown["responses"]]
            offered = shown["critiques"] is not None
            if asks := offered and rater == misled:
                ask(store, lease, rater, 0)
            best = words.index("wrong" if asks else "right")
            answer(store, lease, rater, {"better": best})
            if rater == judge:
                continue
            with store.read() as connection:
                a = schema.assignment
                task = connection.execute(a.select().where(a.c.id == lease)).one().task
            if task in golden:
                count("gold", offered, not asks)
            else:
                said.setdefault(task, []).append((offered, asks))
            count("asked", offered, asks)
    with store.read() as connection:
        report = criticised.report(connection, project)
    (effect,) = report["effects"]
    assert effect["source"] == CRITIC and report["sources"][0]["questions"] == 10
    asked_for = effect["asked"]
    assert asked_for["count"] == counts["asked", True, True] > 0
    assert asked_for["n"] == counts["asked", True, True] + counts["asked", True, False]
    for both in said.values():
        if len(both) == 2:  # each is compared with the only other person's
            for offered, _ in both:
                count("agrees", offered, both[0][1] == both[1][1])
    for name, told in (("gold", effect["gold_right"]), ("agrees", effect["agrees"])):
        for side, offered in (("shown", True), ("hidden", False)):
            yes, no = (counts.get((name, offered, true), 0) for true in (True, False))
            assert (told[side]["count"], told[side]["n"]) == (yes, yes + no), (name, side)
    by_rater = sorted((r["asked"]["count"], r["asked"]["n"]) for r in effect["raters"])
    assert by_rater[0][0] == 0 and by_rater[1][0] == by_rater[1][1] > 0
