"""Finding questions, what leads do with many of them, and the whole history of one."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from heedful.errors import UserError
from heedful.store.database.bulk import insert_all
from heedful.store.database.db import Store, new_id
from heedful.store.exports import snapshot
from heedful.store.intake import ingest
from heedful.store.lead import browse, history, quality, reports, steering
from heedful.store.project import content, lifecycle, projects
from heedful.store.rating import own, work
from heedful.store.rating.progress import SEEN, progress
from heedful.store.tables.schema import assignment, audit_event, project, task_slot
from heedful.types import Message
from workspace import answer, claim, make_project, make_rater, make_task, make_tasks


def found(store: Store, project: str, **wanted: Any) -> list[str]:
    """Ids, the oldest first; that `count` says the same is part of every test."""
    filter = browse.Filter(**wanted)
    with store.read() as connection:
        ids = list(browse.matching(connection, project, filter))
        assert ids == sorted(ids, reverse=True)
        assert browse.count(connection, project, filter) == len(ids)
    return ids[::-1]


def states(store: Store, task: str) -> list[str]:
    with store.read() as connection:
        query = select(task_slot.c.state).where(task_slot.c.task == task)
        return list(connection.execute(query.order_by(task_slot.c.slot)).scalars())


def steer(store: Store, project: str, tasks: list[str], action: Any, **how: Any) -> Any:
    return steering.steer(store, project, tasks, action, actor=make_rater(store, "lead"), **how)


def test_words_are_found_where_people_see_them(store: Store):
    """In prompts and in the responses that are shown, in any script and case; not in JSON's keys, nor elsewhere.

    Mutations caught: LIKE alone (`role` is in every conversation, Ä is not ä to SQLite, % matches all), a response of
    the prompt that this question does not show, words of another question put together."""
    p, other = make_project(store), make_project(store, "other")
    one = make_task(
        store, p, question='Say "Über\\straße"\n100% now', responses=("Äpfel", "東京_都")
    )
    two = make_task(
        store, p, question="What role has the user?", responses=("None.", "A half \ud83d")
    )
    make_task(store, other, question="Über")
    with store.write() as connection:
        shared = content.add_prompt(connection, p, "Pick")
        keys = [content.add_completion(connection, shared, t) for t in ("red", "green", "blue")]
        rg = content.add_task(connection, p, "pair", shared, keys[:2])
        gb = content.add_task(connection, p, "pair", shared, keys[1:])
    for words, ids in {
        "": [one, two, rg, gb],
        "über": [one],
        'ÄPFEL "say \\"': [],
        '"über\\straße"': [one],
        "ÄPFEL now": [one],
        "100%": [one],
        "0%n": [],
        "京_都": [one],
        "京x都": [],
        "role": [two],
        "content": [],
        "half \ud83d": [two],
        "red": [rg],
        "GREEN pick": [rg, gb],
        "blue red": [],
        "%": [one],
        "_": [one],
    }.items():
        assert found(store, p, text=words) == ids, words


def test_pages_follow_each_other(store: Store):
    """Whatever comes in meanwhile: no question twice, none left out."""
    p = make_project(store)
    tasks = make_tasks(store, p, 7)
    with store.read() as connection:
        first = list(browse.matching(connection, p, browse.Filter()))[:3]
    make_tasks(store, p, 3, responses=("x", "y"))
    with store.read() as connection:
        rest = list(browse.matching(connection, p, browse.Filter(), after=first[-1]))
    assert first + rest == tasks[::-1]


def test_filters_say_the_same_as_the_list(store: Store):
    """Each state's questions are those that the list calls so. Mutation caught: a review that counts as wanted."""
    p = make_project(store, skips_until_parked=1)
    tasks = make_tasks(store, p, 5)
    gold = make_task(store, p, question="gold", gold={"ranks": {}})
    ada, bao = make_rater(store), make_rater(store)
    given = {}
    for said in ({"value": 2}, {"skip": None}):
        key = claim(store, p, ada)
        assert key
        answer(store, key, ada, said)
        given[next(iter(said))] = key
    open_tasks = found(store, p, state="open")
    assert len(open_tasks) == 3
    steer(store, p, open_tasks[:1], "withdraw")
    with store.write() as connection:
        work.assign(connection, found(store, p, state="done")[0], bao)
    by_state = {s: found(store, p, state=s) for s in ("open", "aside", "withdrawn", "done", "gold")}
    assert sorted(key for ids in by_state.values() for key in ids) == sorted([*tasks, gold])
    assert {s: len(ids) for s, ids in by_state.items()} == {
        "open": 2, "aside": 1, "withdrawn": 1, "done": 1, "gold": 1,
    }  # fmt: skip
    with store.read() as connection:
        rows = history.rows(connection, [*tasks, gold])
    assert {r["task"]: r["state"] for r in rows} == {
        key: state for state, ids in by_state.items() for key in ids
    }
    assert found(store, p, state="repetition") == []
    assert found(store, p, rater=ada) == sorted(by_state["aside"] + by_state["done"])
    assert found(store, p, rater=bao) == []
    assert found(store, p, answer="skip") == by_state["aside"]
    assert found(store, p, answer="answer", rater=ada) == by_state["done"]


def test_answers_metadata_and_models(store: Store):
    """What counts is the last revision, and a rater and an answer are of one judgment.

    Mutations caught: a corrected answer still found; the answer of another rater."""
    p, ada, bao = make_project(store), make_rater(store), make_rater(store)
    axes = {"axes": [{"name": "a=b", "low": 1, "high": 7}]}
    rules = {"rules": [{"code": "polite", "text": "Polite?"}]}
    rated = make_task(store, p, "rate", ("x",), options=axes, overlap=2)
    ruled = make_task(store, p, "rules", ("x",), question="q", options=rules)
    with store.write() as connection:
        spanish = content.add_prompt(connection, p, (Message("user", "Hola"),), language="es")
        named = content.add_completion(connection, spanish, "sí", model="big")
        thumb = content.add_task(connection, p, "thumbs", spanish, [named], round=2)
    for rater in (ada, bao):
        for _ in range(2):
            with store.write() as connection:
                key = work.claim(connection, p, rater).assignment
                assert key
            task = assignment_task(store, key)
            said = {
                rated: {"scores": {"a=b": [5.0 if rater == ada else 3.0]}},
                ruled: {"rules": {"polite": [True]}},
                thumb: {"thumbs": [1]},
            }[task]
            answer(store, key, rater, said)
            if task == rated and rater == ada:
                answer(store, key, rater, {"scores": {"a=b": [7.0]}})
    seven = found(store, p, answer="a=b=7")
    assert found(store, p, answer="a=b=5") == []
    assert seven == found(store, p, answer="a=b=7", rater=ada)
    assert found(store, p, answer="a=b=7", rater=bao) == []
    assert found(store, p, answer="polite=yes") == [ruled]
    assert found(store, p, answer="polite=no") == []
    assert found(store, p, where=("language=es",)) == [thumb]
    assert found(store, p, where=("language=es", "round=1")) == []
    assert found(store, p, where=("kind=rate",)) == [rated]
    assert found(store, p, model="big") == [thumb] and found(store, p, model="bi") == []
    for wrong in (
        {"where": ("colour=red",)}, {"where": ("round=x",)}, {"answer": "nice"}, {"answer": "a=nan"},
    ):  # fmt: skip
        with pytest.raises(UserError, match=r"must be|number"):
            found(store, p, **wrong)
    with pytest.raises(UserError, match="state must be"):
        browse.Filter(state="lost")  # type: ignore[arg-type]


def assignment_task(store: Store, key: str) -> str:
    from heedful.store.tables.schema import assignment

    with store.read() as connection:
        query = select(assignment.c.task).where(assignment.c.id == key)
        return connection.execute(query).scalar_one()


def test_disagreement(store: Store):
    """Two who said the same do not disagree, whatever the order on the screen; a partial ranking and a whole one do.

    Mutation caught: only ranks that are in the first answer are compared."""
    p, ada, bao = make_project(store), make_rater(store), make_rater(store)
    tasks = [
        make_task(store, p, question=f"q{i}", responses=("a", "b"), overlap=2) for i in range(3)
    ]
    ranked = make_task(store, p, "rank", ("a", "b", "c"), question="r", overlap=2)
    for rater in (ada, bao):
        for _ in range(4):
            key = claim(store, p, rater)
            assert key
            task = assignment_task(store, key)
            with store.read() as connection:
                (shown,) = connection.execute(
                    select(order_shown()).where(order_shown().table.c.id == key)
                ).scalars()
            if task == ranked:
                ranks = [1, 2, 3] if rater == ada else [1, 2, None]
                answer(store, key, rater, {"ranks": [ranks[i] for i in shown]})
            elif task == tasks[0]:
                answer(store, key, rater, {"better": shown.index(0), "strength": 0.5})
            elif task == tasks[1]:
                better = 0 if rater == ada else 1
                answer(store, key, rater, {"better": shown.index(better), "strength": 0.5})
            else:
                answer(store, key, rater, {"tie": True} if rater == ada else {"both_bad": True})
    assert found(store, p, differ=True) == sorted([tasks[1], tasks[2], ranked])


def order_shown() -> Any:
    from heedful.store.tables.schema import assignment

    return assignment.c.order_shown


def test_withdrawn_questions_are_not_asked_again(store: Store):
    """Also when the lease that somebody had on one is over; who had it may answer in time, and it counts.

    Mutation caught: leased slots left alone, which open again when the lease expires."""
    p, ada, bao = make_project(store), make_rater(store), make_rater(store)
    one, two = make_tasks(store, p, 2)
    held = claim(store, p, ada)
    assert held
    done = steer(store, p, [one, two], "withdraw")
    assert (done.tasks, done.answers, done.left_out) == (2, 2, 0)
    assert states(store, one) == states(store, two) == ["closed"]
    assert claim(store, p, bao) is None
    assert answer(store, held, ada).disposition == "counted"
    assert sorted(states(store, one) + states(store, two)) == ["closed", "done"]
    back = steer(store, p, [one, two], "put_back")
    assert back.answers == 1 and claim(store, p, bao)


def test_more_answers_are_wanted_of_a_question(store: Store):
    """Beside a review, whose number is taken: the answers are regular ones, in agreement and in the overview, and a
    lease that ends gives its slot back. Mutations caught: `slot < overlap` alone, in any of them."""
    p, ada, bao, cem = make_project(store), *(make_rater(store) for _ in range(3))
    task = make_task(store, p)
    for rater in (ada, bao):
        with store.write() as connection:
            key = work.assign(connection, task, rater)
        answer(store, key, rater)
    assert states(store, task) == ["done", "done"]
    assert steer(store, p, [task], "overlap", number=2).answers == 1
    assert steer(store, p, [task], "overlap", number=2).answers == 0
    assert found(store, p, state="open") == [task]
    held = claim(store, p, cem)
    assert held
    from workspace import expire_lease

    with store.write() as connection:
        expire_lease(connection, held)
        assert work.expire(connection, p, 1e12) == 1
    assert states(store, task)[-1] == "open"
    answer(store, held, cem)
    with store.read() as connection:
        answers = quality.load(connection, quality.shared(connection, p))
        assert sorted(a.review for a in answers) == [False, False, True]
        assert reports.overview(connection, p)["wanted"]["done"] == 2
        (row,) = history.rows(connection, [task])
    assert (row["wanted"], row["answers"], row["state"]) == (2, 3, "done")
    assert steer(store, p, [task], "ask_again").answers == 1
    with pytest.raises(UserError, match="1 to 1000"):
        steer(store, p, [task], "overlap", number=0)
    with pytest.raises(UserError, match="how many answers"):
        steer(store, p, [task], "overlap")


def test_gold_and_others_questions_are_left_alone(store: Store):
    """Of another project not even one whose id is known."""
    p, other = make_project(store), make_project(store, "other")
    theirs = make_task(store, other)
    gold = make_task(store, p, question="gold", gold={"ranks": {}})
    done = steer(store, p, [theirs, gold], "withdraw")
    assert (done.tasks, done.left_out) == (0, 1) and states(store, theirs) == ["open"]


def test_a_questions_history(store: Store):
    """Every revision, comment, critique and edit, what leads did, in their order; an export of the selection alone."""
    p, ada = make_project(store), make_rater(store)
    task = make_task(store, p, "critique", ("Lima is far.",))
    make_task(store, p, question="another")
    with store.write() as connection:
        key = work.assign(connection, task, ada, shown=True)
    remark = {"response": 0, "start": 0, "end": 4, "text": "which one?"}
    answer(store, key, ada, {"critiques": [remark]})
    answer(store, key, ada, {"critiques": [], "text": "never mind"})
    steer(store, p, [task], "ask_again", number=2)
    with store.read() as connection:
        told = history.history(connection, task)
    assert [e["what"] for e in told["events"]] == ["shown", "answer", "answer", "ask_again"]
    _, first, second, asked = told["events"]
    assert first["critiques"] == [{"response": 0, "quote": "Lima", "text": "which one?"}]
    assert (first["corrected"], second["corrected"], second["comment"]) == (
        True,
        False,
        "never mind",
    )
    assert asked["number"] == 2 and told["wanted"] == 3 and told["models"] == ["m"]
    taken = snapshot.take(store, p, snapshot.Query("judgments"), [task])
    assert taken.count.stored == 2
    assert snapshot.take(store, p, snapshot.Query("judgments"), []).count.stored == 0
    with pytest.raises(UserError, match="not exported by question"):
        snapshot.take(store, p, snapshot.Query("prompts"), [task])


def test_a_raters_own_answers_and_what_is_left_for_them(store: Store):
    """Nobody else's; the last revision of each; progress counts the questions that this rater has not had.

    Mutations caught: another rater's answers; both revisions; open slots of all raters counted as one's own; what is on
    the screen left out."""
    p, ada, bao = make_project(store), make_rater(store), make_rater(store)
    make_tasks(store, p, 5, overlap=2)
    for rater, n in ((ada, 3), (bao, 1)):
        for _ in range(n):
            key = claim(store, p, rater)
            assert key
            answer(store, key, rater)
    with store.read() as connection:
        first = own.answers(connection, p, ada, limit=2)
        last = own.answers(connection, p, ada, limit=2, after=first["next"])
        assert [len(first["answers"]), len(last["answers"]), last["next"]] == [2, 1, None]
        assert progress(connection, p, ada)["waiting"] == 2
        assert progress(connection, p, bao)["waiting"] == 4
    assert claim(store, p, bao)
    with store.read() as connection:
        assert progress(connection, p, bao)["waiting"] == 4  # one of them on the screen
    oldest = last["answers"][0]["assignment"]
    assert answer(store, oldest, ada, {"tie": True}).revision == 2
    with store.read() as connection:
        told = own.answers(connection, p, ada)["answers"]
    assert (told[0]["assignment"], told[0]["outcome"], told[0]["revision"]) == (oldest, "tie", 2)
    assert len(told) == 3 and told[0]["prompt"].startswith("What is ")
    assert set(told[0]) == {"assignment", "kind", "prompt", "outcome", "said", "revision", "at"}


def test_what_is_left_is_never_told_as_less_than_it_is(store: Store):
    """Of many that are left, and of those behind a thousand that the rater has had, so many "at least"; where all were
    looked at the number alone.

    Mutations caught: the number of what was looked at told as the whole; "at least" wherever a thousand are open."""
    p, ada, bao = make_project(store), make_rater(store), make_rater(store)

    def asked(first: int, number: int) -> None:
        texts = ((f"Question {i}?", f"answer {k}", {}) for i in range(number) for k in range(2))
        items = [(f"{first} {prompt}", *rest) for prompt, *rest in texts]
        ingest.samples(store, p, items, tasks=ingest.TaskSpec("pair"))

    def left(rater: str) -> tuple[int, bool]:
        with store.read() as connection:
            told = progress(connection, p, rater)
        return told["waiting"], told["at_least"]

    asked(0, 499)
    assert left(ada) == left(bao) == (499, False)
    asked(1, SEEN - 499)
    assert left(ada) == (500, True)
    with store.write() as connection:
        query = select(task_slot.c.task).where(task_slot.c.project == p)
        had = connection.execute(query.order_by(task_slot.c.position)).scalars().all()[:-3]
        rows = [{"id": new_id(), "task": key, "slot": 1, "rater": ada} for key in had]
        how = {"order_shown": [0, 1], "state": "expired", "leased_at": 0.0, "leased_until": 0.0}
        insert_all(connection, assignment, rows, project=p, **how)
    assert left(ada) == (3, False) and left(bao) == (500, True)
    asked(2, 1)
    number, more = left(ada)
    assert 3 <= number <= 4 and more


def test_a_projects_life(store: Store):
    """Renamed, archived, deleted and back: nothing is removed, the log says all of it, a name can be used again.

    Mutations caught: an archived project that still asks; a deleted one whose settings can be read."""
    p, ada = make_project(store), make_rater(store)
    make_tasks(store, p, 2)
    held = claim(store, p, ada)
    assert held
    actor = make_rater(store, "owner")

    def do(work: Any, *args: Any) -> Any:
        with store.write() as connection:
            return work(connection, p, *args, actor=actor)

    with pytest.raises(UserError, match="already"):
        make_project(store, "taken")
        do(lifecycle.rename, "taken")
    assert do(lifecycle.rename, " towns ") == "towns"
    do(lifecycle.archive, True)
    with store.write() as connection:
        assert work.claim(connection, p, ada, holding=[held]).reason == "archived"
        assert [r.name for r in projects.asking(connection)] == ["taken"]
        assert [r["name"] for r in reports.projects(connection, "archived")] == ["towns"]
    do(lifecycle.archive, False)
    with pytest.raises(UserError, match="type its name exactly: towns"):
        do(lifecycle.delete, "Towns")
    do(lifecycle.delete, "towns")
    assert answer(store, held, ada).disposition == "counted"  # it was on the screen
    with store.write() as connection:
        with pytest.raises(UserError, match="no such project"):
            work.claim(connection, p, ada)
        assert [r["name"] for r in reports.projects(connection, "deleted")] == ["towns"]
    again = make_project(store, "towns")
    with pytest.raises(UserError, match="another project 'towns'"):
        do(lifecycle.restore)
    with store.write() as connection:
        lifecycle.rename(connection, again, "villages", actor=actor)
    assert do(lifecycle.restore) == "towns"
    with store.read() as connection:
        row = connection.execute(select(project).where(project.c.id == p)).one()
        assert (row.name, row.deleted_at, row.archived_at) == ("towns", None, None)
        actions = connection.execute(select(audit_event.c.action)).scalars().all()
    for action in ("rename", "archive", "unarchive", "delete", "restore"):
        assert f"project.{action}" in actions
