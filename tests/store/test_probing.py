"""Attempts to break a rule: who replies, what each verdict is of, and what learners get of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from heedful.data.ratings import stream_ratings
from heedful.errors import UserError
from heedful.store.database.db import Store
from heedful.store.exports import snapshot
from heedful.store.intake import ingest
from heedful.store.lead import browse, history
from heedful.store.project import consent, content, projects
from heedful.store.project.content import Origin
from heedful.store.rating import show, talk
from heedful.store.tables import schema
from heedful.transfer.workspace import export_file
from heedful.types import Message
from heedful.web.probes import broken
from workspace import answer, claim, make_project, make_rater, make_task

POLITE, BRIEF = (
    {"code": "polite", "text": "It is polite."},
    {"code": "brief", "text": "It is brief."},
)
SYSTEM = "You are a guide."


def asked(store: Store, project: str, *rules: dict[str, str], talks: int = 3, **turns: int) -> int:
    spec = ingest.TaskSpec("probe", talks, {"rules": list(rules or (POLITE,)), **turns})
    return ingest.prompts(store, project, [(SYSTEM, Origin())], tasks=spec)["tasks"]


def talked(
    store: Store, project: str, verdicts: Sequence[bool | None], replies: str = "abcdef"
) -> tuple[str, str]:
    """Somebody new says "say a", "say b", …, is replied so, and says what broke the rule: (rater, assignment)."""
    rater = make_rater(store)
    given = claim(store, project, rater)
    assert given
    for place in range(len(verdicts)):
        said(store, given, rater, place, replies[place])
    answer(store, given, rater, {"broken": [*verdicts]})
    return rater, given


def said(store: Store, given: str, rater: str, place: int, reply: str) -> None:
    with store.read() as connection:
        ready = talk.ready(connection, given, rater, f"say {reply}")
    (model,) = ready.models
    one = {"text": reply, "model": model, "tokens": [place], "logprobs": [-0.5], "seed": 7}
    with store.write() as connection:
        assert talk.offer(connection, given, rater, place, f"say {reply}", [one]) == [reply]


def exported(store: Store, project: str, what: str) -> tuple[list[dict[str, Any]], dict[str, int]]:
    taken = snapshot.take(store, project, snapshot.Query(what))
    with store.read() as connection:
        return list(snapshot.rows(connection, taken.query, taken.ids)), taken.count.excluded


def test_one_rule_at_a_time(store: Store):
    """A question for each rule, each asked of as many people as are wanted; the same again adds nothing; a question
    about two rules is none.

    Mutation caught: all rules in one conversation."""
    project = make_project(store, models=["a"])
    assert asked(store, project, POLITE, BRIEF, talks=2) == 2
    assert asked(store, project, POLITE, BRIEF, talks=2) == 0
    with store.read() as connection:
        options = connection.execute(select(schema.task.c.options)).scalars().all()
    assert sorted(o["rules"][0]["code"] for o in options) == ["brief", "polite"]
    assert all(len(o["rules"]) == 1 and o["max_turns"] == 8 for o in options)
    with pytest.raises(UserError, match="about one of the rules alone"):
        make_task(store, project, "probe", (), options={"rules": [POLITE, BRIEF]})
    for options, words in (
        ({}, "kind probe need rules"),
        ({"rules": [POLITE], "min_turns": 9}, "min_turns"),
    ):
        with pytest.raises(UserError, match=words):
            ingest.TaskSpec("probe", options=options)


def test_the_same_model_to_the_end(store: Store):
    """One of the project's models replies, drawn for each conversation; it stays, the others' names in the settings or
    not, and nobody else takes its place once it is gone.

    Mutation caught: another model at each turn, whose replies would be counted as the first one's."""
    project = make_project(store, models=["a", "b", "c"])
    asked(store, project, talks=20)
    first = set()
    for _ in range(20):
        rater = make_rater(store)
        given = claim(store, project, rater)
        assert given
        said(store, given, rater, 0, "x")
        with store.read() as connection:
            (row,) = talk.history(connection, given)
            first.add(model := row.candidates[0]["model"])
            assert {talk.ready(connection, given, rater, "on").models for _ in range(9)} == {
                (model,)
            }
            (shown,) = show.turns(connection, given)
        assert shown == {"said": "say x", "replies": ["x"], "chosen": 0}
    assert first == {"a", "b", "c"}  # by chance, one of a thousand
    with store.write() as connection:
        projects.change(connection, project, {"models": ["d"]}, actor=None)
    with store.read() as connection, pytest.raises(UserError, match="has been taken away"):
        talk.ready(connection, given, rater, "on")
    assert answer(store, given, rater, {"broken": [None]}).disposition == "counted"


@pytest.mark.parametrize(
    "broken, words",
    [
        ([True], "not 1 turns"),
        ([True, False, None, True], "each of 1 to 3 turns"),
        ([], "each of 1 to 3 turns"),
        ([True, 1], "true, false or null"),
        ({"0": True}, "must be a list"),
        (None, "must be a list"),
    ],
)
def test_a_verdict_for_each_reply(store: Store, broken: Any, words: str):
    """No more, no fewer, and in three words. Mutation caught: a reply without a verdict that counts as kept."""
    project, rater = make_project(store, models=["a"]), make_rater(store)
    asked(store, project, max_turns=3)
    given = claim(store, project, rater)
    assert given
    for place in range(2):
        said(store, given, rater, place, "ab"[place])
    with pytest.raises(UserError, match=words):
        answer(store, given, rater, {"broken": broken})
    with store.read() as connection:
        assert connection.execute(select(schema.judgment)).first() is None


def test_what_learners_get(store: Store, tmp_path: Path):
    """Each reply behind all that was said before it, kept 1 or broken 0, and nothing where somebody was unsure; of who
    was unsure of everything a reason. As files, and as ratings that `train attributes` reads.

    Mutations caught: a verdict with the reply of another turn (the second is unsure), broken for kept, the system
    message left out, a prompt that has its own reply."""
    project = make_project(store, models=["a"])
    asked(store, project)
    talked(store, project, [False, None, True])
    talked(store, project, [None])
    start = {"role": "system", "content": SYSTEM}

    def so_far(*words: str) -> list[dict[str, str]]:
        turns = [{"role": ("user", "assistant")[i % 2], "content": w} for i, w in enumerate(words)]
        return [start, *turns]

    expected = [
        (so_far("say a"), "a", 1.0),
        (so_far("say a", "a", "say b", "b", "say c"), "c", 0.0),
    ]
    rows, excluded = exported(store, project, "scores")
    assert [(r["prompt"], r["completion"][0]["content"], r["value"]) for r in rows] == expected
    assert {r["axis"] for r in rows} == {"polite"} and excluded == {"unsure": 1}
    rows, excluded = exported(store, project, "unpaired")
    assert [(r["prompt"], r["completion"][0]["content"], r["label"]) for r in rows] == expected
    assert excluded == {"unsure": 1}
    assert exported(store, project, "turns")[0] == []
    for kind in ("jsonl", "csv"):
        file = tmp_path / f"scores.{kind}"
        export_file(store, project, snapshot.Query("scores"), file)
        rated = [*stream_ratings(str(file))]
        assert [r.values for r in rated] == [{"polite": 1.0}, {"polite": 0.0}]
        assert [len(r.prompt) for r in rated] == [2, 6] and rated[1].prompt[0] == Message(
            "system", SYSTEM
        )
    manifest = json.loads((tmp_path / "scores.jsonl.manifest.json").read_text())
    assert manifest["rows"] == 2


def test_prompts_that_are_texts_beside_it(store: Store):
    """Other questions about the same prompt have it as text, in one file with conversations. Mutation caught: a column
    of texts in which messages stand."""
    project = make_project(store, models=["a"])
    asked(store, project)
    talked(store, project, [True])
    assert snapshot.take(store, project, snapshot.Query("scores")).form == "messages"
    with store.write() as connection:
        prompt = content.add_prompt(connection, project, SYSTEM)
        one = content.add_completion(connection, prompt, "Lima.")
        content.add_task(connection, project, "rules", prompt, [one], options={"rules": [BRIEF]})
    rater = make_rater(store)
    while given := claim(store, project, rater):
        with store.read() as connection:
            kind = show.question(connection, given, rater)["kind"]
        answer(
            store, given, rater, {"rules": {"brief": [True]}} if kind == "rules" else {"skip": None}
        )
    assert snapshot.take(store, project, snapshot.Query("scores")).form == "mixed"


def test_replies_are_responses(store: Store):
    """Of the conversation up to there, with their model, tokens and seed, so that others can be asked about them;
    corrected, the new verdicts count and the replies are the same.

    Mutation caught: a response to the system message alone; a reply that is kept twice."""
    project = make_project(store, models=["a"])
    asked(store, project)
    rater, given = talked(store, project, [False, True])
    answer(store, given, rater, {"broken": [True, True]})
    with store.read() as connection:
        kept = connection.execute(
            select(schema.completion).order_by(schema.completion.c.text)
        ).all()
        prompts = {r.id: r for r in connection.execute(select(schema.prompt))}
    assert [(r.text, r.model, r.token_ids, r.seed) for r in kept] == [
        ("a", "a", [0], 7),
        ("b", "a", [1], 7),
    ]
    assert [len(prompts[r.prompt].content) for r in kept] == [2, 4]
    assert {prompts[r.prompt].source for r in kept} == {"probe"}
    rows, excluded = exported(store, project, "scores")
    assert [r["value"] for r in rows] == [0.0, 0.0] and excluded == {"corrected later": 1}


def test_what_the_lead_reads(store: Store):
    """A question's history has each reply with its verdict; two conversations do not differ, since nobody heard the
    other's replies, and are found by a rule and what was said of it.

    Mutation caught: replies looked for among the question's own responses, which it has none of."""
    project = make_project(store, models=["a"])
    asked(store, project)
    talked(store, project, [False, None, True])
    talked(store, project, [False])
    with store.read() as connection:
        (task,) = connection.execute(select(schema.task.c.id)).scalars()
        (row,) = history.rows(connection, [task])
        assert row["prompt"] == f"{SYSTEM}\n{POLITE['text']}"
        events = [e for e in history.history(connection, task)["events"] if e["what"] == "answer"]
        assert [[t["verdict"] for t in e["turns"]] for e in events] == [
            ["kept", "unsure", "broken"],
            ["kept"],
        ]
        assert all(e["rules"] == {} for e in events)

        def found(**wanted: Any) -> list[str]:
            return [*browse.matching(connection, project, browse.Filter(**wanted))]

        assert found(differ=True) == []
        assert found(answer="polite=no") == [task] and found(answer="brief=no") == []


def test_how_often_a_rule_is_broken(store: Store):
    """Of conversations, not of replies: once is broken; kept is all kept; who was unsure and saw nothing broken is
    counted apart. By model and for all of them, with Wilson's interval at least; what was withdrawn or corrected is
    not there.

    Mutations caught: replies for conversations, unsure for kept, models mixed up, a correction counted twice."""
    project = make_project(store, models=["a"])
    asked(store, project, POLITE, talks=9)
    for verdicts in ([False, True], [False], [None, True], [False, None], [False, False]):
        rater, given = talked(store, project, verdicts)
    answer(store, given, rater, {"broken": [True, False]})
    with store.read() as connection:
        (rule,) = broken(connection, project)["rules"]
    assert (rule["code"], rule["text"]) == ("polite", "It is polite.")
    (one,) = rule["models"]
    assert (one["model"], one["talks"], one["broken"], one["unsure"]) == ("a", 4, 3, 1)
    assert one["replies"] == {"broken": 3, "kept": 4, "unsure": 2}
    assert one["value"] == 0.75 and one["low"] < 0.31 and one["high"] > 0.95
    with store.write() as connection:
        projects.change(connection, project, {"models": ["b"]}, actor=None)
    talked(store, project, [False])
    gone, _ = talked(store, project, [True])
    with store.write() as connection:
        consent.withdraw(connection, project, gone, actor=gone)
        report = broken(connection, project)
    models = {of["model"]: of["value"] for of in report["rules"][0]["models"]}
    assert models == {"": 0.6, "a": 0.75, "b": 0.0} and report["used"] == 6
