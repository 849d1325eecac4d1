"""Several questions on one screen: each is answered, kept, compared and exported by itself, all exactly once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from heedful.data.tables import read_export
from heedful.errors import UserError
from heedful.store.database.db import Store
from heedful.store.exports import books, snapshot
from heedful.store.intake import imported, ingest
from heedful.store.lead import quality, rounds
from heedful.store.project import content, projects, screens
from heedful.store.rating import judging, show, trials
from heedful.store.tables import schema
from heedful.transfer.workspace import export_file
from heedful.types import Comparison
from heedful.web import alerts, insight
from workspace import answer, claim, make_project, make_rater, make_task

TEXTS = ("Lima.", "I don't know.")
QUESTIONS = [
    {"name": "overall", "kind": "pair", "title": "Which is better?"},
    {"name": "axes", "kind": "rate", "options": {"axes": [{"name": "helpful"}, {"name": "true"}]}},
    {
        "name": "flags",
        "kind": "rules",
        "options": {"rules": [{"code": "polite", "text": "It is polite."}]},
        "required": False,
    },
    {"name": "reason", "kind": "note", "required": False},
    {"name": "faults", "kind": "critique", "required": False},
    {"name": "safer", "kind": "rank", "required": False},
]
SCORES = {"helpful": [5, 1], "true": [4, 2]}
FULL = {
    "overall": {"value": 1},
    "axes": {"scores": SCORES, "confidence": 0.5},
    "flags": {"rules": {"polite": [True, None]}},
    "reason": {"text": "Only one answers."},
    "faults": {"critiques": [{"response": 1, "start": 0, "end": 1, "text": "says nothing"}]},
    "safer": {"ranks": [2, 1]},
}
LEAST = {"overall": {"tie": True}, "axes": {"scores": SCORES}}


def asked(store: Store, project: str, n: int = 1, **options: Any) -> list[str]:
    how = {"options": {"questions": QUESTIONS}} | options
    return [
        make_task(store, project, "screen", TEXTS, question=f"What is {i}?", **how)
        for i in range(n)
    ]


def judged(store: Store, project: str, rater: str, said: dict[str, Any]) -> tuple[str, list[str]]:
    """The assignment, and the texts in the order shown."""
    given = claim(store, project, rater)
    assert given
    answer(store, given, rater, said)
    with store.read() as connection:
        shown = [r["text"] for r in show.question(connection, given, rater)["responses"]]
    return given, shown


def rows(store: Store, project: str, what: str, **filters: Any) -> list[dict[str, Any]]:
    taken = snapshot.take(store, project, snapshot.Query(what, **filters))
    with store.read() as connection:
        found = list(snapshot.rows(connection, taken.query, taken.ids))
    assert all(set(row) <= set(taken.columns) for row in found)
    return found


def test_each_question_is_kept_as_if_it_had_been_asked_alone(store: Store):
    """Mutations caught: parts of two questions under one, an optional question's absence stored as an answer."""
    project, rater = make_project(store), make_rater(store)
    asked(store, project, 2)
    given, shown = judged(store, project, rater, FULL)
    judged(store, project, rater, LEAST)
    with store.read() as connection:
        page = show.question(connection, given, rater)
        assert page["answer"] == FULL
        assert [q["name"] for q in page["questions"]] == list(FULL)
        q = schema.question_answer.c
        told = connection.execute(
            select(q.question, q.kind, q.outcome).order_by(q.judgment, q.place)
        )
        kinds = {one["name"]: one["kind"] for one in QUESTIONS}
        assert [tuple(r) for r in told] == [
            *((name, kinds[name], "answer") for name in FULL),
            ("overall", "pair", "tie"),
            ("axes", "rate", "answer"),
        ]
    first, least = rows(store, project, "judgments")
    place = [shown.index(text) for text in TEXTS]  # of each response, on the screen

    def by_text(values: list[Any]) -> list[Any]:
        return [values[i] for i in place]

    assert first["overall.ranking"] == by_text([1, 2])
    assert (first["overall.strength"], first["overall.outcome"]) == (1.0, "answer")
    assert first["axes.helpful"] == by_text([5.0, 1.0])
    assert (first["axes.true"], first["axes.confidence"]) == (by_text([4.0, 2.0]), 0.5)
    assert first["flags.polite"] == by_text([True, None])
    assert first["reason.text"] == "Only one answers."
    assert [c["text"] for c in first["faults.critiques"]] == ["says nothing"]
    assert first["safer.ranking"] == by_text([2, 1])
    assert "reason.text" not in least and least["overall.ranking"] == [1, 1]
    assert least["said"] == LEAST


WRONG = [
    ({"overall": {"value": 1}}, "'axes' needs an answer"),
    (LEAST | {"reasons": {"text": "x"}}, "no question 'reasons' here .did you mean 'reason'"),
    (LEAST | {"reason": {"text": " "}}, "reason: text must not be empty"),
    (LEAST | {"reason": None}, "reason: an answer must be an object"),
    (LEAST | {"overall": {"value": 9}}, "overall: value must be"),
    (LEAST | {"overall": {"skip": None}}, "overall: a question alone is not skipped"),
    (LEAST | {"axes": {"scores": {"helpful": [1, 1]}}}, "axes: scores must have the axes"),
    ({"value": 1}, "no question 'value'"),
    ({}, "'overall' needs an answer"),
]


def test_an_answer_that_does_not_fit_leaves_nothing(store: Store):
    project, rater = make_project(store), make_rater(store)
    asked(store, project)
    given = claim(store, project, rater)
    assert given
    for said, sentence in WRONG:
        with pytest.raises(UserError, match=sentence):
            answer(store, given, rater, said)
    with store.read() as connection:
        for table in (schema.judgment, schema.question_answer, schema.score, schema.ranking_item):
            assert not connection.execute(select(table)).all()


def test_a_screen_is_answered_once_skipped_and_corrected_as_a_whole(store: Store):
    """The receipt of a replay is the first; another body is a conflict; a correction may leave a question out."""
    project, rater = make_project(store), make_rater(store)
    asked(store, project, 2)
    given = claim(store, project, rater)
    assert given
    first = answer(store, given, rater, FULL, key="k" * 8)
    again = answer(store, given, rater, FULL, key="k" * 8)
    assert (again.judgment, again.replayed) == (first.judgment, True)
    with pytest.raises(judging.Conflict):
        answer(store, given, rater, LEAST, key="k" * 8)
    assert answer(store, given, rater, LEAST).revision == 2
    other = claim(store, project, rater)
    assert other
    answer(store, other, rater, {"skip": "not mine"})
    counts = books.reconcile(None or store.engine.connect(), project)
    assert counts["judgments"].exported == 3 and not any(c.missing for c in counts.values())
    assert counts["comparisons"].excluded == {"corrected later": 1, "skipped": 1, "tie": 1}


def test_training_reads_one_question(store: Store):
    """By default the first that ranks, whatever else was answered; by its name any other; a wrong name is refused.

    Mutation caught: an unanswered question's place taken by the next one that ranks."""
    project, rater = make_project(store), make_rater(store)
    asked(store, project)
    make_task(store, project, "rate", ["Alone."], question="And alone?")
    reasons = [dict(one, required=False) for one in QUESTIONS]
    asked(store, project, options={"questions": reasons}, round=1)
    shown: dict[str, list[str]] = {}
    for _ in range(3):
        given = claim(store, project, rater)
        assert given
        with store.read() as connection:
            page = show.question(connection, given, rater)
        said = {"scores": {"quality": [3]}} if page["kind"] == "rate" else FULL
        if not page["questions"][0]["required"]:
            said = {"safer": {"ranks": [1, 2]}}
        shown[str(said)] = [r["text"] for r in page["responses"]]
        answer(store, given, rater, said)
    (compared,) = rows(store, project, "comparisons")
    in_order = shown[str(FULL)]
    assert compared["chosen"][0]["content"] == in_order[0] and compared["strength"] == 1.0
    safer = rows(store, project, "comparisons", question="safer")
    assert {row["chosen"][0]["content"] for row in safer} == {
        in_order[1],
        shown["{'safer': {'ranks': [1, 2]}}"][0],
    }
    count = snapshot.take(store, project, snapshot.Query("comparisons")).count
    assert count.excluded == {"another kind of answer": 1, "not answered": 1}
    named = snapshot.take(store, project, snapshot.Query("comparisons", question="axes")).count
    assert named.excluded == {"another question": 3}
    scores = rows(store, project, "scores")
    assert {(r.get("question"), r["axis"]) for r in scores} == {
        ("axes", "helpful"), ("axes", "true"), ("flags", "polite"), (None, "quality"),
    }  # fmt: skip
    assert {r["axis"] for r in rows(store, project, "scores", question="rate")} == {"quality"}
    assert [r["question"] for r in rows(store, project, "critiques")] == ["faults"]
    assert len(rows(store, project, "unpaired")) == 1
    with pytest.raises(UserError, match=r"no question 'safe' .did you mean 'safer'"):
        snapshot.take(store, project, snapshot.Query("comparisons", question="safe"))
    with pytest.raises(UserError, match="judgments are not of one question"):
        snapshot.Query("judgments", question="safer")


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_column_for_each_question_in_every_format(store: Store, tmp_path: Any, form: str):
    """What is read back is what was answered; what was not answered has no value; a snapshot gives the same bytes."""
    if form == "parquet":
        pytest.importorskip("pyarrow")
    project, rater = make_project(store), make_rater(store)
    asked(store, project, 2)
    judged(store, project, rater, FULL)
    judged(store, project, rater, LEAST)
    path = tmp_path / f"j.{form}"
    manifest = export_file(store, project, snapshot.Query("judgments"), path)
    first, least = [row for _, row in read_export(str(path))]
    assert first["axes.helpful"] in ([5, 1], [1, 5]) and first["reason.text"] == "Only one answers."
    assert first["overall.strength"] == 1 and first["flags.polite"].count(True) == 1
    assert not least.get("reason.text") and least.get("flags.polite") is None
    assert least["overall.ranking"] == [1, 1]
    judged_again = make_rater(store)
    asked(store, project, 1, round=7)
    judged(store, project, judged_again, FULL)
    again = tmp_path / f"again.{form}"
    query = snapshot.Query("judgments")
    export_file(store, project, query, again, snapshot_id=manifest["snapshot"])
    assert again.read_bytes() == path.read_bytes()


def test_quality_is_measured_by_question(store: Store):
    """Two raters who agree on one question and differ on the other; gold and win rates look at the first that ranks."""
    project = make_project(store)
    asked(store, project, 6, overlap=2)
    for rater, best in ((make_rater(store), 1), (make_rater(store), 5)):
        for _ in range(6):
            given = claim(store, project, rater)
            assert given
            with store.read() as connection:
                page = show.question(connection, given, rater)
            lima = [r["text"] for r in page["responses"]].index("Lima.")
            scores = [best, best]
            said = {
                "overall": {"value": 1 if lima == 0 else 8},
                "axes": {"scores": {"helpful": scores, "true": [3, 3]}},
                "safer": {"ranks": [2, 1] if (lima == 0) == (best == 1) else [1, 2]},
            }
            answer(store, given, rater, said)
    with store.read() as connection:
        found = insight.agreement(connection, project)["measures"]
        alpha = {(m["question"], m["of"]): m["value"] for m in found}
        # Undefined where chance turned all pairs the same way.
        assert alpha["overall", ""] in (1.0, None) and alpha["safer", ""] < 0
        assert alpha["axes", "helpful"] < 0
        labels = insight.labels(connection, project)
        assert labels["used"] == 12
        assert labels["kinds"]["overall (pair)"]["answers"] == 12
        assert labels["kinds"]["axes (rate)"]["axes"]["true"] == [[3.0, 24]]
        first = quality.by_judgment(quality.load(connection, quality.newest(connection, project)))
        assert {a.question for a in first.values()} == {"overall"} and len(first) == 12
        tasks = insight.disagreements(connection, project)["tasks"]
        assert len(tasks) == 6 and {a["question"] for a in tasks[0]["answers"]} == {
            "overall", "axes", "safer",
        }  # fmt: skip
        assert [r["answers"] for r in insight.raters(connection, project)["raters"]] == [6, 6]


def test_judges_answer_the_question_that_ranks_and_pairs_are_asked_again(store: Store):
    """A judge that is no person leaves the others out; people may not. A screen with a pair is repeated in reverse."""
    project = make_project(store, swap_rate=1.0)
    (task,) = asked(store, project)
    judge = make_rater(store, "judge")
    with store.write() as connection:
        rounds.judge(connection, task, judge, [2, 1], key="judge-1")
    (row,) = rows(store, project, "rankings")
    assert dict(zip(row["responses"], row["ranking"], strict=True)) == {TEXTS[0]: 2, TEXTS[1]: 1}
    rater = make_rater(store)
    asked(store, project, 12, round=1)
    shown: dict[str, list[str]] = {}
    for _ in range(12):
        given, texts = judged(store, project, rater, LEAST)
        with store.read() as connection:
            lease = connection.execute(
                select(schema.assignment.c.task, schema.task.c.swap_of, schema.task.c.options)
                .join(schema.task, schema.task.c.id == schema.assignment.c.task)
                .where(schema.assignment.c.id == given)
            ).one()
        if lease.swap_of:
            assert texts == shown[lease.swap_of][::-1] and len(lease.options["questions"]) == 6
            return
        shown[lease.task] = texts
    raise AssertionError("no screen was asked again")


@pytest.mark.parametrize(
    ("questions", "sentence"),
    [
        ([], "a list of 1 to 20"),
        ([{"name": "a", "kind": "pair"}] * 2, "two questions have the name 'a'"),
        ([{"name": "a b", "kind": "pair"}], "1 to 40 letters"),
        ([{"name": "skip", "kind": "pair"}], "skip and flag are no names"),
        ([{"name": "a", "kind": "pear"}], "unknown kind of task 'pear'"),
        ([{"name": "a", "kind": "screen"}], "a: the kind must be one of"),
        ([{"name": "a", "kind": "chat"}], "a conversation stands on a screen of its own"),
        ([{"name": "a", "kind": "rules"}], "a: tasks of the kind rules need rules"),
        (
            [{"name": "a", "kind": "pair", "requires": True}],
            "a question has no 'requires' .did you",
        ),
        ([{"name": "a", "kind": "pair"}, {"name": "b", "kind": "write"}], "cannot share a screen"),
        (
            [{"name": "a", "kind": "rate", "options": {"axes": [{"name": "text"}]}}],
            "no axis or rule can have the name 'text'",
        ),
    ],
)
def test_lists_that_cannot_be_asked(questions: Any, sentence: str):
    with pytest.raises(UserError, match=sentence):
        screens.checked_list(questions)
    if questions:
        with pytest.raises(UserError, match=sentence):
            projects.settings_from({"questions": questions})
    with pytest.raises(UserError, match=sentence):
        content.Ask("screen", "p", ["a", "b"], options={"questions": questions})


def test_a_task_of_one_kind_is_a_list_of_one(store: Store):
    """As it was before there were lists: its answer, its rows, its page."""
    project, rater = make_project(store), make_rater(store)
    make_task(store, project)
    given, shown = judged(store, project, rater, {"value": 1})
    with store.read() as connection:
        page = show.question(connection, given, rater)
        (one,) = page["questions"]
        assert (one["name"], one["kind"], one["required"]) == ("pair", "pair", True)
        assert not connection.execute(select(schema.question_answer)).all()
    (row,) = rows(store, project, "comparisons")
    assert row == rows(store, project, "comparisons", question="pair")[0]
    assert row["chosen"][0]["content"] == shown[0]
    assert not [name for name in rows(store, project, "judgments")[0] if "." in name]


def test_a_projects_questions_are_asked_of_what_is_imported(store: Store, tmp_path: Any):
    """In pairs, alone or side by side, as gold, and in rounds; without questions it is a sentence.

    Mutation caught: gold questions that look like no other question."""
    project = make_project(store)
    items = [("What is 1?", text, {}) for text in ("One.", "Two.", "Three.")]
    spec = ingest.TaskSpec("screen")
    with pytest.raises(UserError, match="no questions of its own yet"):
        ingest.samples(store, project, items, tasks=spec)
    with store.write() as connection:
        projects.change(connection, project, {"questions": QUESTIONS}, actor=None)
    assert ingest.samples(store, project, items, tasks=spec)["tasks"] == 3
    known = Comparison("What is 2?", ("Two.", "Three."), (1, 2))
    imported.comparisons(store, project, [known], gold=True)
    ratings = [{"name": "r", "kind": "rate", "options": {"axes": [{"name": "helpful"}]}}]
    with store.write() as connection:
        projects.change(connection, project, {"questions": ratings}, actor=None)
    assert ingest.samples(store, project, items, tasks=spec)["tasks"] == 3
    assert ingest.samples(store, project, items, tasks=replace(spec, together=True))["tasks"] == 1
    with store.read() as connection:
        t = schema.task.c
        rows = connection.execute(select(t.kind, t.completions, t.is_gold, t.options)).all()
    assert {r.kind for r in rows} == {"screen"}
    assert sorted(len(r.completions) for r in rows) == [1, 1, 1, 2, 2, 2, 2, 3]
    (gold,) = [r for r in rows if r.is_gold]
    assert [q["name"] for q in gold.options["questions"]] == [q["name"] for q in QUESTIONS]
    assert screens.comparing(QUESTIONS, 2)[0] == "screen"
    assert [screens.comparing(QUESTIONS, 3), screens.comparing(ratings, 2)] == [
        ("rank", {}), ("pair", {}),
    ]  # fmt: skip


def test_gold_is_the_first_question_that_ranks(store: Store):
    """Whatever is said to another one, in trials and on the lead's page; left out where it may be, it is wrong.

    Mutation caught: ranks of two questions mixed, or the second taken for the first that was not answered."""
    project = make_project(store, gold_rate=1.0)
    ranks = [QUESTIONS[0] | {"required": False}, QUESTIONS[5]]
    with store.write() as connection:
        prompt = content.add_prompt(connection, project, "What is known?")
        ids = [content.add_completion(connection, prompt, text) for text in TEXTS]
        how = {"options": {"questions": ranks}, "gold": {"ranks": {ids[0]: 1, ids[1]: 2}}}
        content.add_task(connection, project, "screen", prompt, ids, **how)
    make_task(store, project)  # gold questions come between others
    leases = []
    for said in (True, False):
        rater = make_rater(store)
        given = claim(store, project, rater)
        assert given
        with store.read() as connection:
            page = show.question(connection, given, rater)
        first = page["responses"][0]["text"] == TEXTS[0]
        wrong, right = {"ranks": [2, 1] if first else [1, 2]}, {"value": 1 if first else 8}
        known = {"ranks": [1, 2] if first else [2, 1]}
        answer(
            store, given, rater, {"overall": right, "safer": wrong} if said else {"safer": known}
        )
        leases.append(given)
    with store.read() as connection:
        assert list(map(trials.right_ones(connection, leases).get, leases)) == [True, False]
        shares = [r["gold"]["value"] for r in insight.raters(connection, project)["raters"]]
        assert sorted(shares) == [0.0, 1.0]
        said = quality.load(connection, quality.newest_gold(connection, project, per_rater=9))
        keys = quality.gold_keys(connection, {a.task for a in said})
    # Forty like the first, who was right and said something else besides: nothing rings.
    right = {a.judgment for a in said if a.question == "overall"}
    many = [
        replace(a, judgment=f"{a.judgment}{i}")
        for a in said
        if a.judgment in right
        for i in range(40)
    ]
    sure = projects.Settings(alert_gold=0.9, alert_seconds=0)
    assert not [a for a in alerts.rung([], many, keys, [], sure) if a.what == "gold"]
