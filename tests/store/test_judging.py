"""What raters say: every kind's answer by completion id, once, with its corrections; nothing half-written."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from heedful.errors import UserError
from heedful.store import kinds
from heedful.store.database import audit
from heedful.store.database.db import Store
from heedful.store.kinds import KINDS
from heedful.store.rating import judging, show
from heedful.store.tables import schema
from workspace import answer, claim, make_project, make_rater, make_task

AXES = {"axes": [{"name": "tone", "low": 1, "high": 5, "step": 1}]}
RULES = {"rules": [{"code": "polite", "text": "Is it polite?"}]}
TALK = {"min_turns": 1, "max_turns": 3}


def parse(kind: str, options: dict, shown: list[str], said: dict) -> kinds.Parsed:
    """Of responses of ten characters each."""
    return kinds.parse(kind, kinds.Question(options, shown, lambda: [10] * len(shown)), said)


def test_a_pairs_value_becomes_ranks_and_strength():
    """1 is "the first is much better", 8 "the second is": a reversed scale swaps every label."""
    for value, first, strength in ((1, 1, 1.0), (4, 1, 1 / 7), (5, 2, 1 / 7), (8, 2, 1.0)):
        said = parse("pair", {}, ["x", "y"], {"value": value})
        assert dict(said.ranks) == {"x": first, "y": 3 - first}
        assert said.strength == pytest.approx(strength)
    for outcome in ("tie", "both_bad"):
        said = parse("pair", {}, ["x", "y"], {outcome: True})
        assert (said.outcome, dict(said.ranks), said.strength) == (outcome, {"x": 1, "y": 1}, 0.0)


def test_a_ranking_may_have_ties_gaps_and_holes():
    said = parse("rank", {}, list("wxyz"), {"ranks": [4, 2, None, 2]})
    assert said.ranks == (("w", 2), ("x", 1), ("z", 1)) and said.outcome == "answer"
    assert parse("rank", {}, ["x", "y"], {"ranks": [2, 2]}).outcome == "tie"


@pytest.mark.parametrize(
    "kind, options, said, part",
    [
        ("rate", AXES, {"scores": {"tone": [1, 5]}}, "scores"),
        ("thumbs", {}, {"thumbs": [1, -1]}, "scores"),
        ("rules", RULES, {"rules": {"polite": [True, None]}}, "rules"),
        (
            "critique",
            {},
            {"critiques": [{"response": 1, "start": 0, "end": 2, "text": "no"}]},
            "critiques",
        ),
        ("edit", {}, {"response": 0, "text": "Better."}, "edit"),
        ("write", {}, {"text": "Mine."}, "demonstration"),
        ("chat", TALK, {"turns": 2}, "turns"),
    ],
)
def test_every_other_kind(kind: str, options: dict, said: dict, part: str):
    wanted = {
        "rate": (("x", "tone", 1.0), ("y", "tone", 5.0)),
        "thumbs": (("x", "thumb", 1.0), ("y", "thumb", -1.0)),
        "rules": (("x", "polite", True),),
        "critique": (("y", 0, 2, "no"),),
        "edit": ("x", "Better."),
        "write": "Mine.",
        "chat": 2,
    }
    assert getattr(parse(kind, options, ["x", "y"], said), part) == wanted[kind]


@pytest.mark.parametrize(
    "kind, options, said, sentence",
    [
        ("pair", {}, {"value": 9}, "from 1 to 8"),
        ("pair", {}, {"value": True}, "from 1 to 8"),
        ("pair", {}, {"value": 1, "rank": 2}, "unexpected field 'rank'"),
        ("pair", {}, {"value": 1, "confidence": 2}, "confidence"),
        ("pair", {}, {"value": 1, "text": 5}, "text must be text"),
        ("pair", {}, {"flag": ""}, "flag must not be empty"),
        ("rank", {}, {"ranks": [1]}, "one entry for each of 2"),
        ("rank", {}, {"ranks": [None, None]}, "at least one"),
        ("rank", {}, {"ranks": [0, 1]}, "from 1 to 2"),
        ("rate", AXES, {"scores": {"tone": [1, 6]}}, "from 1 to 5"),
        ("rate", AXES, {"scores": {"tone": [1, float("nan")]}}, "from 1 to 5"),
        ("rate", AXES, {"scores": {}}, "must have the axes tone"),
        ("thumbs", {}, {"thumbs": [2, 0]}, "must be 1"),
        ("rules", RULES, {"rules": {"polite": ["yes", None]}}, "true, false or null"),
        ("critique", {}, {"critiques": []}, "at least one remark"),
        ("critique", {}, {"critiques": [{"start": 3, "end": 99, "text": "x"}]}, "start < end"),
        ("edit", {}, {"response": 2, "text": "x"}, "from 0 to 1"),
        ("write", {}, {"text": "  "}, "must not be empty"),
        ("write", {}, {"text": "x" * 200_001}, "longer than"),
        ("chat", TALK, {"turns": 4}, "1 to 3 turns"),
    ],
)
def test_an_answer_that_does_not_fit_is_one_sentence(kind, options, said, sentence):
    with pytest.raises(UserError, match=sentence):
        parse(kind, options, ["x", "y"], said)


def test_every_kind_can_be_skipped_and_flagged():
    for kind in KINDS:
        assert parse(kind, {}, [], {"skip": None}).outcome == "skip"
        assert parse(kind, {}, [], {"flag": "a name in it"}).text == "a name in it"


def ranks(store: Store, judgment: str) -> dict[str, int]:
    item, c = schema.ranking_item.c, schema.completion.c
    with store.read() as connection:
        query = select(c.text, item.rank).join(schema.ranking_item, item.completion == c.id)
        return {r.text: r.rank for r in connection.execute(query.where(item.judgment == judgment))}


def test_the_label_follows_the_response_not_the_side(store: Store):
    """Whichever order was shown, "A is better" is kept for the text that stood at A."""
    project = make_project(store)
    for i in range(6):
        make_task(store, project, responses=(f"a{i}", f"b{i}"), question=f"{i}?")
    rater = make_rater(store)
    while given := claim(store, project, rater):
        with store.read() as connection:
            page = show.question(connection, given, rater)
        first, second = (r["text"] for r in page["responses"])
        receipt = answer(store, given, rater, {"value": 1})
        assert ranks(store, receipt.judgment) == {first: 1, second: 2}


def test_the_page_sees_nothing_it_should_not(store: Store):
    """Ids, models, gold, round or score in the payload would unblind or help to cheat."""
    project, rater = make_project(store), make_rater(store)
    make_task(store, project, score=0.7)
    given = claim(store, project, rater)
    assert given
    with store.read() as connection:
        page = show.question(connection, given, rater)
    assert set(page) == {
        "assignment", "kind", "state", "lease_seconds", "prompt", "language", "responses", "options", "questions",
        "guidelines", "turns", "answer", "revision", "trial", "suggestion", "critiques",
    }  # fmt: skip
    assert [set(r) for r in page["responses"]] == [{"label", "text"}] * 2


def test_a_replay_returns_the_first_receipt_and_another_body_is_refused(store: Store):
    project, rater = make_project(store), make_rater(store)
    make_task(store, project)
    given = claim(store, project, rater)
    assert given
    first = answer(store, given, rater, {"value": 2}, key="k")
    again = answer(store, given, rater, {"value": 2}, key="k")
    assert again.replayed and again.judgment == first.judgment
    with pytest.raises(judging.Conflict):
        answer(store, given, rater, {"value": 3}, key="k")
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.judgment)).scalar() == 1


def test_two_raters_may_use_the_same_key(store: Store):
    project = make_project(store)
    make_task(store, project, overlap=2)
    for _ in range(2):
        rater = make_rater(store)
        given = claim(store, project, rater)
        assert given and not answer(store, given, rater, key="k").replayed


def test_a_correction_supersedes_and_keeps_what_was(store: Store):
    project, rater = make_project(store), make_rater(store)
    make_task(store, project)
    given = claim(store, project, rater)
    assert given
    first, second = (answer(store, given, rater, {"value": v}) for v in (1, 8))
    assert (first.revision, second.revision) == (1, 2)
    assert ranks(store, first.judgment) != ranks(store, second.judgment)
    with store.read() as connection:
        newest = judging.latest(connection, given)
        assert newest and newest.id == second.judgment and newest.supersedes == first.judgment
        slot = connection.execute(select(schema.task_slot)).one()
    assert (slot.state, slot.judgment) == ("done", first.judgment)


def test_a_skip_is_undone_by_an_answer_and_nothing_else(store: Store):
    """Mutation caught: a skip by a slip of the hand that is for good; a slot filled twice; a flag taken back."""
    project, rater, other = make_project(store), make_rater(store), make_rater(store)
    for i in range(2):
        make_task(store, project, question=f"Q{i}?")
    mine = []
    for _ in range(2):
        mine.append(given := claim(store, project, rater))
        assert given and answer(store, given, rater, {"skip": None}).disposition == "counted"
    back = answer(store, mine[0], rater, {"value": 1})
    assert (back.revision, back.disposition) == (2, "counted")
    with store.read() as connection:
        states = dict(
            connection.execute(select(schema.task_slot.c.judgment, schema.task_slot.c.state)).all()
        )
    assert states == {back.judgment: "done", None: "open"}
    with pytest.raises(UserError, match="answered be skipped"):
        answer(store, mine[0], rater, {"skip": None})
    theirs = claim(store, project, other)
    assert theirs and answer(store, theirs, other, {"flag": "odd"})
    assert (
        answer(store, mine[1], rater, {"value": 1}).disposition == "counted"
    )  # its slot is still free
    with pytest.raises(UserError, match="flagged cannot be answered"):
        answer(store, theirs, other, {"value": 1})


def test_a_skipped_slot_that_somebody_else_has_is_theirs(store: Store):
    project, rater, other = make_project(store), make_rater(store), make_rater(store)
    make_task(store, project)
    mine = claim(store, project, rater)
    assert mine and answer(store, mine, rater, {"skip": None})
    assert claim(store, project, other)
    assert answer(store, mine, rater, {"value": 1}).disposition == "surplus"


def test_nobody_answers_for_somebody_else(store: Store):
    project, rater, other = make_project(store), make_rater(store), make_rater(store)
    make_task(store, project)
    given = claim(store, project, rater)
    assert given
    with pytest.raises(UserError, match="no such assignment"):
        answer(store, given, other)
    with pytest.raises(UserError, match="no such assignment"), store.read() as connection:
        show.question(connection, given, other)


def test_an_edit_beats_its_original_and_is_a_demonstration(store: Store):
    project, rater = make_project(store), make_rater(store)
    make_task(store, project, "edit", ("Limaa.",))
    given = claim(store, project, rater)
    assert given
    with pytest.raises(UserError, match="same as before"):
        answer(store, given, rater, {"response": 0, "text": "Limaa."})
    receipt = answer(store, given, rater, {"response": 0, "text": "Lima."})
    assert ranks(store, receipt.judgment) == {"Lima.": 1, "Limaa.": 2}
    with store.read() as connection:
        written = connection.execute(select(schema.demonstration)).one()
        author = connection.execute(
            select(schema.completion.c.author).where(schema.completion.c.text == "Lima.")
        ).scalar_one()
    assert (written.text, written.judgment, author) == ("Lima.", receipt.judgment, rater)


def test_a_refused_answer_leaves_nothing(store: Store):
    """The error comes after the judgment's row: without the transaction it would stay."""
    project, rater = make_project(store), make_rater(store)
    make_task(store, project, "edit", ("same",))
    given = claim(store, project, rater)
    assert given
    with store.read() as connection:
        events = audit.count(connection)
    with pytest.raises(UserError):
        answer(store, given, rater, {"response": 0, "text": "same"})
    with store.read() as connection:
        assert connection.execute(select(schema.judgment)).all() == []
        assert audit.count(connection) == events


def test_the_audit_chain_shows_what_was_tampered_with(store: Store):
    project, rater = make_project(store), make_rater(store)
    make_task(store, project)
    given = claim(store, project, rater)
    assert given
    answer(store, given, rater)
    with store.read() as connection:
        assert audit.count(connection) == 2 and audit.broken_at(connection) is None
    drop = "DROP TRIGGER immutable_audit_event_update"
    with store.write() as connection:
        connection.exec_driver_sql(
            drop + (" ON audit_event" if store.dialect == "postgresql" else "")
        )
        connection.execute(
            schema.audit_event.update().where(schema.audit_event.c.seq == 1).values(actor="x")
        )
    with store.read() as connection:
        assert audit.broken_at(connection) == 1


def test_a_webhook_is_owed_with_the_judgment(store: Store):
    project, rater = make_project(store), make_rater(store)
    make_task(store, project)
    with store.write() as connection:
        connection.execute(
            schema.webhook.insert().values(
                id="w", project=project, url="https://x", secret="s", created_at=0.0
            )
        )
    given = claim(store, project, rater)
    assert given
    receipt = answer(store, given, rater)
    with store.read() as connection:
        owed = connection.execute(select(schema.webhook_delivery)).one()
    assert (owed.judgment, owed.state) == (receipt.judgment, "waiting")
