"""Gold questions of any kind: what is known of their answers, who says it, and where that is told."""

from __future__ import annotations

from typing import Any

import pytest

from heedful.errors import UserError
from heedful.store.database.db import Store
from heedful.store.intake import known
from heedful.store.intake.ingest import TaskSpec
from heedful.store.lead import quality
from heedful.store.project import gold, projects
from heedful.store.rating import judging, show, trials
from heedful.web import alerts, insight
from workspace import answer, claim, make_project, make_rater, make_tasks

AXES = [{"name": "helpful", "low": 1, "high": 7}, {"name": "true", "low": 1, "high": 7}]
RULES = [{"code": "polite", "text": "It is polite."}, {"code": "short", "text": "It is short."}]
SCREEN: list[dict[str, Any]] = [
    {"name": "better", "kind": "pair"},
    {"name": "axes", "kind": "rate", "options": {"axes": AXES}},
    {"name": "rules", "kind": "rules", "options": {"rules": RULES}},
    {"name": "good", "kind": "thumbs"},
    {"name": "why", "kind": "note", "required": False},
]
ALL = {  # of "right" and "wrong", in this order
    "better": {"better": 0},
    "axes": {"scores": {"helpful": [6, 2]}},  # how true they are nobody knows
    "rules": {"rules": {"polite": [True, None], "short": [False, True]}},
    "good": {"thumbs": [1, -1]},
}
SAID = ALL | {"axes": {"scores": {"helpful": [6, 2], "true": [1, 1]}}}


def turned(said: dict[str, Any]) -> dict[str, Any]:
    """The same answer where the responses stand the other way round."""

    def other(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                k: 1 - v if k == "better" and type(v) is int else other(v) for k, v in value.items()
            }
        return value[::-1] if isinstance(value, list) else value

    return other(said)


def one(answer: dict[str, Any], prompt: str = "Q?", **more: Any) -> known.Gold:
    return known.Gold("line 1", prompt, ("right", "wrong"), answer, **more)


WRONG = [
    {"better": {"better": 1}},
    {"axes": {"scores": {"helpful": [6, 4], "true": [1, 1]}}},
    {"rules": {"rules": {"polite": [True, True], "short": [False, True]}}},
    {"rules": {"rules": {"polite": [True, None], "short": [None, True]}}},
    {"good": {"thumbs": [1, 0]}},
]


@pytest.mark.parametrize(
    "changed", [{}, {"axes": {"scores": {"helpful": [7, 1], "true": [7, 7]}}}, *WRONG]
)
def test_all_that_is_known_must_be_said(store: Store, changed: dict[str, Any]):
    """One part that is otherwise makes it wrong, an axis of which nothing is known does not, nor a rating that is as
    near as `within`. Mutations caught: any part enough, places taken for responses, a verdict where none applies let
    through, `within` for thumbs, or against the wrong side of it."""
    project, rater = make_project(store, questions=SCREEN, gold_rate=1.0), make_rater(store)
    known.questions(store, project, [one(ALL, within=1.0)], tasks=TaskSpec("screen"))
    make_tasks(store, project, 1)
    lease = claim(store, project, rater)
    assert lease
    with store.read() as connection:
        shown = [r["text"] for r in show.question(connection, lease, rater)["responses"]]
    said = SAID | changed
    answer(store, lease, rater, said if shown[0] == "right" else turned(said))
    expected = changed not in WRONG
    with store.read() as connection:
        assert trials.right_ones(connection, [lease]) == {lease: expected}
        (row,) = insight.raters(connection, project)["raters"]
        assert (row["gold"]["count"], row["gold"]["n"]) == (int(expected), 1)
        said_parts = quality.load(connection, quality.newest_gold(connection, project, per_rater=9))
        keys, right = quality.known(connection, said_parts)
        shares = quality.gold_shares(connection, project)
    assert list(right.values()) == [expected] and len(keys) == 1
    assert list(shares.values()) == [(int(expected), 1)]


def test_ratings_train_qualify_and_ring(store: Store):
    """Ratings alone, as a project of `rate` has them: a lesson by place, a verdict, and the alert.

    Mutations caught: gold of ratings that counts as wrong for everybody, or is left out; nobody ever let in."""
    project = make_project(store, training_questions=1, qualification_questions=2, gold_rate=0.9)
    spec = TaskSpec("rate", options={"axes": AXES})
    items = [
        known.Gold(
            "",
            f"G{i}?",
            (f"{i}",),
            {"scores": {"helpful": [3 + i % 2]}},
            0.5,
            "So." if i < 1 else None,
        )
        for i in range(14)
    ]
    known.questions(store, project, items, tasks=spec)
    known.questions(store, project, items, tasks=spec)  # again adds nothing
    options = {"options": {"axes": AXES}}
    make_tasks(store, project, 16, kind="rate", responses=("x",), overlap=2, **options)
    good, bad = make_rater(store), make_rater(store)
    for rater, off in ((good, 0.5), (bad, 1.0)):
        for stage in ("training", "qualification", "qualification", None):
            lease = claim(store, project, rater)
            if stage is None:
                assert bool(lease) == (rater == good)
                break
            with store.read() as connection:
                shown = show.question(connection, lease or "", rater)
            assert shown["trial"]["stage"] == stage
            value = 3 + int(shown["responses"][0]["text"]) % 2 + off
            answer(store, lease or "", rater, {"scores": {"helpful": [value], "true": [1]}})
            if stage == "training":
                with store.read() as connection:
                    told = trials.lesson(
                        connection, judging.assignment_of(connection, lease or "", rater)
                    )
                assert told["right"] == (rater == good) and told["ranks"] is None
                (part,) = told["known"]
                assert part["scores"] == {"helpful": [3]} and part["within"] == 0.5
    with store.write() as connection:
        changed = {"qualification_questions": 0, "training_questions": 0, "alert_seconds": 0.0}
        projects.change(connection, project, changed, actor=None)
    for rater, off in ((good, 0.5), (bad, 1.0)):
        while lease := claim(store, project, rater):
            with store.read() as connection:
                text = show.question(connection, lease, rater)["responses"][0]["text"]
            value = 3 + int(text) % 2 + off if text != "x" else 3
            answer(store, lease, rater, {"scores": {"helpful": [value], "true": [1]}})
    with store.read() as connection:
        rung = alerts.of_project(connection, project)
        assert [(a["what"], a["rater"]) for a in rung if a["what"] == "gold"] == [("gold", bad)]


def test_what_cannot_be_known_is_a_sentence(store: Store):
    """Before anything is kept. Mutations caught: one row kept before another is refused; a text as a known answer."""
    project = make_project(store, questions=SCREEN)
    good = one(ALL, "Kept?")
    for said, words in (
        ({"why": {"text": "x"}}, "kind note is answered cannot be known"),
        ({"beter": {"better": 0}}, "no question 'beter' here .did you mean 'better'"),
        ({}, "must be an object"),
        ({"axes": {"scores": {"helpful": [8, 1]}}}, "from 1 to 7"),
        ({"axes": {"scores": {"wit": [8, 1]}}}, "scores must have the axes"),
        ({"good": {"skip": None}}, "no known answer"),
        ({"good": {"thumbs": [1]}}, "thumbs"),
    ):
        with pytest.raises(UserError, match=f"line 1: .*{words}"):
            known.questions(store, project, [good, one(said)], tasks=TaskSpec("screen"))
    with store.read() as connection:
        assert trials.stock(connection, project)["gold"] == 0


def test_what_is_kept_is_read_as_it_was():
    """Comparisons of before, too: their ranks are of the question that compares. Mutation caught: under no name."""
    kept = gold.key_of("rate", {"axes": AXES}, ["a", "b"], {"scores": {"true": [3, 4]}}, 1.0)
    assert gold.read("rate", {"axes": AXES}, kept) == {
        "": gold.Known(scores={("a", "true"): 3.0, ("b", "true"): 4.0}, within=1.0)
    }
    ranks = {"ranks": {"a": 1, "b": 2}}
    assert gold.read("pair", {}, ranks) == {"": gold.Known(ranks["ranks"])}
    assert gold.read("screen", {"questions": SCREEN}, ranks).keys() == {"better"}
