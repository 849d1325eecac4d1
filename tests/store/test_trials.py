"""Before the real work: training, then a qualification, decided once, marked, and never a row for training."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sqlalchemy import select

from heedful.errors import UserError
from heedful.store.database.db import Store, new_id
from heedful.store.exports import snapshot
from heedful.store.intake import imported
from heedful.store.lead import quality
from heedful.store.membership import members
from heedful.store.project import gold as known
from heedful.store.project import projects
from heedful.store.rating import judging, show, trials, work
from heedful.store.tables import schema
from heedful.types import Comparison, Message
from workspace import claim, make_project, make_rater, make_task


def gold(store: Store, project: str, n: int, *, why: int = 0) -> None:
    """n gold questions, whose answer is the response "right"; the first `why` of them are explained."""
    items = [
        Comparison(
            (Message("user", f"Gold {i}?"),),
            ("right", "wrong"),
            (1, 2),
            explanation=f"Because {i}." if i < why else None,
        )
        for i in range(n)
    ]
    imported.comparisons(store, project, items, gold=True)


def say(store: Store, lease: str, rater: str, what: str) -> judging.Receipt:
    """The question's right or wrong response, a tie, or a skip."""
    a, t, c = schema.assignment.c, schema.task.c, schema.completion.c
    with store.write() as connection:
        query = select(a.order_shown, t.completions).join(schema.task, t.id == a.task)
        row = connection.execute(query.where(a.id == lease)).one()
        texts = dict(map(tuple, connection.execute(select(c.id, c.text))))
        shown = [texts[row.completions[i]] for i in row.order_shown]
        said: dict[str, Any] = {"tie": {"tie": True}, "skip": {"skip": None}}.get(what) or {
            "better": shown.index(what)
        }
        return judging.submit(connection, lease, rater, said, key=new_id())


def question(store: Store, lease: str, rater: str) -> dict[str, Any]:
    with store.read() as connection:
        return show.question(connection, lease, rater)


def reason(store: Store, project: str, rater: str) -> str | None:
    with store.write() as connection:
        return work.claim(connection, project, rater).reason


def through(store: Store, project: str, rater: str, *answers: str) -> list[tuple[str, int]]:
    """Claim and answer one after the other; the stage and number of each question."""
    places = []
    for what in answers:
        lease = claim(store, project, rater)
        assert lease
        place = question(store, lease, rater)["trial"]
        places.append((place["stage"], place["number"]) if place else ("work", 0))
        say(store, lease, rater, what if place else "Lima.")
    return places


def standing(store: Store, project: str) -> list[tuple[str, int, int | None, int]]:
    with store.read() as connection:
        return [
            (p["state"], p["attempt"], p["correct"], p["answered"])
            for p in trials.of_project(connection, project)
        ]


def test_the_whole_way(store: Store):
    """Training in the order of the file, explained ones only; then the others; then, and not before, the real work.
    Mutations caught: real questions before the verdict, a training question that is asked again, training answers that
    count, an off-by-one in how many."""
    project, rater = (
        make_project(
            store, training_questions=2, qualification_questions=3, qualification_share=0.6
        ),
        make_rater(store),
    )
    make_task(store, project)
    gold(store, project, 6, why=3)
    first = claim(store, project, rater)
    assert first
    asked = question(store, first, rater)
    assert asked["trial"] == {"stage": "training", "number": 1, "of": 2, "needed": None}
    assert asked["prompt"][0]["content"] == "Gold 0?"
    assert through(store, project, rater, "wrong", "wrong") == [("training", 1), ("training", 2)]
    assert standing(store, project) == [("asked", 1, None, 0)]
    lease = claim(store, project, rater)
    assert lease and question(store, lease, rater)["trial"] == {
        "stage": "qualification",
        "number": 1,
        "of": 3,
        "needed": 2,
    }
    assert through(store, project, rater, "right", "tie", "right", "any") == [
        ("qualification", 1), ("qualification", 2), ("qualification", 3), ("work", 0),
    ]  # fmt: skip
    assert standing(store, project) == [("passed", 1, 2, 3)]
    with store.read() as connection:
        t, a = schema.trial.c, schema.assignment.c
        tasks = connection.execute(
            select(a.task, t.stage).join(schema.trial, t.assignment == a.id)
        ).all()
        explained = set(connection.execute(select(schema.gold_explanation.c.task)).scalars())
    assert len({row.task for row in tasks}) == 5
    assert {row.task for row in tasks if row.stage == "training"} < explained
    assert not {row.task for row in tasks if row.stage == "qualification"} & explained
    assert reason(store, project, rater) == "nothing left"


def test_failed_and_another_try(store: Store):
    """No real question; told so; the lead gives another try with other questions, or lets somebody in.
    Mutations caught: a failed rater who is asked all the same, a second try with what was asked in the first, one that
    is given to who has not failed."""
    project, rater = (
        make_project(store, qualification_questions=2, qualification_share=1.0),
        make_rater(store),
    )
    lead = make_rater(store, "lead")
    make_task(store, project)
    gold(store, project, 5)
    with pytest.raises(UserError, match="only who has failed"), store.write() as connection:
        trials.settle(connection, project, rater, "again", actor=lead)
    through(store, project, rater, "right", "skip")
    assert reason(store, project, rater) == "not qualified" == reason(store, project, rater)
    with store.read() as connection:
        told = trials.verdict(connection, project, rater)
    assert told == {"state": "failed", "correct": 1, "asked": 2, "needed": 2}
    with store.write() as connection:
        trials.settle(connection, project, rater, "again", actor=lead)
    assert standing(store, project) == [("asked", 2, None, 0)]
    assert through(store, project, rater, "wrong", "right") == [
        ("qualification", 1),
        ("qualification", 2),
    ]
    assert reason(store, project, rater) == "not qualified"
    with store.write() as connection:
        trials.settle(connection, project, rater, "again", actor=lead)
    through(store, project, rater, "right")
    assert reason(store, project, rater) == "no gold questions"  # five were there, five were asked
    with store.write() as connection:
        trials.settle(connection, project, rater, "pass", actor=lead)
        actions = connection.execute(select(schema.audit_event.c.action)).scalars().all()
    assert through(store, project, rater, "any") == [("work", 0)]
    assert actions.count("qualification") == 5


def test_a_correction_does_not_move_the_verdict(store: Store):
    """Before it is decided one may change one's mind; afterwards one would learn by it what was wrong.
    Mutations caught: the first revision counted, a verdict that is taken again."""
    project, rater = (
        make_project(store, qualification_questions=2, qualification_share=1.0),
        make_rater(store),
    )
    gold(store, project, 2)
    one = claim(store, project, rater)
    assert one
    say(store, one, rater, "wrong")
    say(store, one, rater, "right")
    two = claim(store, project, rater)
    assert two
    say(store, two, rater, "wrong")
    assert standing(store, project) == [("failed", 1, 1, 2)]
    say(store, two, rater, "right")
    with store.write() as connection:
        projects.change(connection, project, {"qualification_share": 0.1}, actor=None)
    assert standing(store, project) == [("failed", 1, 1, 2)]


def test_loaded_ahead(store: Store):
    """A page holds the question on its screen and asks for the next: never more than are wanted, and nothing beyond.
    Mutation caught: the real work, or a question too many, while the last one is still on the screen."""
    project, rater = make_project(store, qualification_questions=2), make_rater(store)
    make_task(store, project)
    gold(store, project, 4)
    one = claim(store, project, rater)
    two = claim(store, project, rater, holding=[one])
    assert one and two and one != two
    assert claim(store, project, rater, holding=[one, two]) in (one, two)
    say(store, one, rater, "right")
    assert claim(store, project, rater, holding=[two]) == two
    say(store, two, rater, "right")
    assert standing(store, project) == [("passed", 1, 2, 2)]


def test_who_is_let_in_without(store: Store):
    """Who reviews or leads; nobody where the project asks for none. Mutation caught: a lead who must qualify."""
    project = make_project(store, qualification_questions=1)
    make_task(store, project, overlap=9)
    gold(store, project, 1)
    reviewer, lead = make_rater(store), make_rater(store, "lead")
    with store.write() as connection:
        members.change(connection, project, reviewer, actor=None, role="reviewer")
    for person in (reviewer, lead):
        assert through(store, project, person, "any") == [("work", 0)]
    assert standing(store, project) == []
    assert through(store, project, make_rater(store), "right") == [("qualification", 1)]


def test_a_lesson(store: Store):
    """Only after the answer, only of training, only to its rater; ranks by place on the screen.
    Mutations caught: the key told before, or of a qualification; ranks in the task's order."""
    project, rater = make_project(store, training_questions=8), make_rater(store)
    gold(store, project, 9, why=9)
    orders = set()
    for i in range(8):
        lease = claim(store, project, rater, rng=random.Random(i))
        assert lease
        with store.read() as connection:
            row = judging.assignment_of(connection, lease, rater)
            with pytest.raises(UserError, match="nothing to be told"):
                trials.lesson(connection, row)
        shown = [r["text"] for r in question(store, lease, rater)["responses"]]
        say(store, lease, rater, "right" if i % 2 else "wrong")
        with store.read() as connection:
            told = trials.lesson(connection, judging.assignment_of(connection, lease, rater))
        ranks = [1 if s == "right" else 2 for s in shown]
        (part,) = told.pop("known")
        assert (part["question"], part["ranks"], part["scores"]) == ("", ranks, {})
        assert told == {"right": bool(i % 2), "ranks": ranks, "explanation": f"Because {i}."}
        orders.add(tuple(shown))
    assert len(orders) == 2
    with store.write() as connection:
        projects.change(
            connection, project, {"qualification_questions": 1, "training_questions": 0}, actor=None
        )
        connection.execute(schema.qualification.delete())
    lease = claim(store, project, rater)
    assert lease
    say(store, lease, rater, "right")
    with pytest.raises(UserError, match="nothing to be told"), store.read() as connection:
        trials.lesson(connection, judging.assignment_of(connection, lease, rater))


def test_never_a_row_for_training(store: Store):
    """Stored and marked among judgments; in no training form, with `gold` neither; the reason is said, the sum whole.
    Mutations caught: qualification answers exported with --gold, or counted as a rater's gold accuracy."""
    project, rater = (
        make_project(store, qualification_questions=2, gold_rate=1.0),
        make_rater(store),
    )
    make_task(store, project)
    gold(store, project, 3)
    through(store, project, rater, "right", "right")
    among = claim(store, project, rater)
    assert among and question(store, among, rater)["trial"] is None
    say(store, among, rater, "right")
    for with_gold, wanted in ((False, 0), (True, 1)):
        query = snapshot.Query("comparisons", gold=with_gold)
        taken = snapshot.take(store, project, query)
        assert (len(taken.ids), taken.count.missing) == (wanted, 0)
        assert taken.count.excluded["before the real work"] == 2
    everything = snapshot.take(store, project, snapshot.Query("judgments"))
    with store.read() as connection:
        rows = list(snapshot.rows(connection, everything.query, everything.ids))
        assert len(quality.newest_gold(connection, project, per_rater=9)) == 1
    assert sorted(map(str, (r["trial"] for r in rows))) == [
        "None",
        "qualification",
        "qualification",
    ]


def test_explanations_are_kept_and_mended(store: Store):
    """The newest words count, the same ones again are none. Mutation caught: an explanation that comes with a second
    import and is thrown away, since its question is there already."""
    project = make_project(store)
    item = Comparison("Gold?", ("right", "wrong"), (1, 2))
    for why in (None, "First.", "First.", "Better."):
        item = Comparison("Gold?", ("right", "wrong"), (1, 2), explanation=why)
        imported.comparisons(store, project, [item], gold=True)
    with store.read() as connection:
        (task,) = connection.execute(select(schema.task.c.id)).scalars()
        assert trials.explanation(connection, task) == "Better."
        assert len(connection.execute(select(schema.gold_explanation)).all()) == 2
        assert trials.stock(connection, project) == {"gold": 1, "explained": 1}


def test_right_by_hand():
    gold = {"x": 1, "y": 2, "z": 2}
    assert known.ordered({"x": 1, "y": 3, "z": 3}, gold)
    assert not known.ordered({"x": 1, "y": 2, "z": 3}, gold)  # gold says that y and z are equal
    assert not known.ordered({"x": 2, "y": 1, "z": 1}, gold)
    assert not known.ordered({"x": 1, "y": 2}, gold)


@pytest.mark.parametrize(
    "share, n, wanted",
    [(0.8, 10, 8), (0.75, 10, 8), (0.7, 10, 7), (1 / 3, 3, 1), (0.0, 5, 0), (1.0, 7, 7)],
)
def test_how_many_are_needed(share: float, n: int, wanted: int):
    """Exactly the share, in spite of binary fractions: 0.7 × 10 is 7. Mutation caught: 8 of 10 for 70 %."""
    settings = projects.Settings(qualification_questions=n, qualification_share=share)
    assert trials.needed(settings) == wanted
