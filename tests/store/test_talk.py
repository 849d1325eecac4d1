"""Conversations: what the models are told, which reply goes on, and what is kept of the other one."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sqlalchemy import select

from heedful.errors import UserError
from heedful.store.database.db import Store
from heedful.store.exports import snapshot
from heedful.store.rating import show, talk
from heedful.store.rating.judging import Conflict
from heedful.store.tables import schema
from workspace import answer, claim, make_project, make_rater, make_task

TWO = (
    {"text": "from a", "model": "a", "tokens": [1], "logprobs": [-0.5], "seed": 7},
    {"text": "from b", "model": "b", "tokens": [2], "logprobs": [-0.25], "seed": 8},
)


@pytest.fixture
def started(store: Store) -> tuple[str, str, str]:
    """(project, rater, assignment) of a conversation that nobody has said anything in."""
    project, rater = make_project(store, models=["a", "b"]), make_rater(store)
    options = {"min_turns": 1, "max_turns": 3}
    make_task(store, project, "chat", (), "You are a guide.", options=options)
    given = claim(store, project, rater)
    assert given
    return project, rater, given


def ready(store: Store, given: str, rater: str, said: str = "Hi", **more: Any) -> talk.Ready:
    with store.read() as connection:
        return talk.ready(connection, given, rater, said, **more)


def offer(
    store: Store, given: str, rater: str, place: int = 0, said: str = "Hi", **more: Any
) -> list[str]:
    with store.write() as connection:
        return talk.offer(connection, given, rater, place, said, TWO, **more)


def choose(store: Store, given: str, rater: str, place: int, **more: Any) -> int:
    with store.write() as connection:
        return talk.choose(connection, given, rater, place, **more)


def rows(store: Store, table: Any) -> list[Any]:
    with store.read() as connection:
        return list(connection.execute(select(table)).all())


def turn(store: Store, given: str, rater: str, place: int, text: str, said: str = "Hi") -> int:
    """A whole turn, in which the reply with this text is the better one."""
    return choose(store, given, rater, offer(store, given, rater, place, said).index(text))


def test_models_hear_the_chosen_replies_only(store: Store, started):
    """The start, what the rater said, and the replies that the talk went on with, in their order."""
    _, rater, given = started
    start = [{"role": "user", "content": "You are a guide."}]
    first = ready(store, given, rater, "one")
    assert (first.place, first.messages) == (0, [*start, {"role": "user", "content": "one"}])
    turn(store, given, rater, 0, "from b", "one")
    turn(store, given, rater, 1, "from a", "two")
    third = ready(store, given, rater, "three")
    assert third.place == 2
    assert third.messages == [
        *start,
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "from b"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "from a"},
        {"role": "user", "content": "three"},
    ]


def test_which_models_reply(store: Store):
    """Two different ones of several; of one alone two samples; tokens and temperature are the project's."""
    rater = make_rater(store)
    settings = {"talk_tokens": 9, "talk_temperature": 0.5}
    for name, models in (("three", ["a", "b", "c"]), ("one", ["a"])):
        project = make_project(store, name, models=models, **settings)
        make_task(store, project, "chat", ())
        given = claim(store, project, rater)
        assert given
        found = [ready(store, given, rater, rng=random.Random(i)) for i in range(30)]
        assert {(r.max_tokens, r.temperature) for r in found} == {(9, 0.5)}
        if len(models) == 1:
            assert {r.models for r in found} == {("a", "a")}
        else:
            assert all(len(set(r.models)) == 2 for r in found)
            assert len({r.models for r in found}) == 6


def test_the_order_is_chance_and_the_choice_is_of_a_candidate(store: Store, started):
    """Places on the screen are turned into candidates with the order that was shown."""
    project, _, _ = started
    orders = set()
    for seed in range(8):
        make_task(store, project, "chat", (), f"start {seed}")
        other = make_rater(store)
        given = claim(store, project, other)
        assert given
        texts = offer(store, given, other, rng=random.Random(seed))
        (row,) = [r for r in rows(store, schema.offer) if r.assignment == given]
        assert row.candidates == list(TWO)  # in the models' order, whatever was shown
        assert texts == [TWO[i]["text"] for i in row.order_shown]
        orders.add(tuple(row.order_shown))
        assert choose(store, given, other, 1, strength=0.75) == 1
        (kept,) = [t for t in rows(store, schema.turn) if t.offer == row.id]
        assert (kept.chosen, kept.strength) == (row.order_shown[1], 0.75)
        with store.read() as connection:
            (shown,) = show.turns(connection, given)
        assert shown == {"said": "Hi", "replies": texts, "chosen": 1}
    assert orders == {(0, 1), (1, 0)}


def turns(store: Store, project: str) -> list[dict[str, Any]]:
    found = snapshot.take(store, project, snapshot.Query("turns"))
    with store.read() as connection:
        return list(snapshot.rows(connection, found.query, found.ids))


def test_one_thing_after_the_other(store: Store, started):
    """While a choice is due nothing can be said; what was chosen stays chosen."""
    _, rater, given = started
    with pytest.raises(UserError, match="nothing to choose"):
        choose(store, given, rater, 0)
    offer(store, given, rater)
    with pytest.raises(Conflict, match="choose one"):
        ready(store, given, rater)
    for place in (-1, 2):
        with pytest.raises(UserError, match="place"):
            choose(store, given, rater, place)
    for strength in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match="strength"):
            choose(store, given, rater, 0, strength=strength)
    assert rows(store, schema.turn) == []
    assert choose(store, given, rater, 0) == 1
    assert choose(store, given, rater, 0) == 1
    with pytest.raises(Conflict, match="other reply"):
        choose(store, given, rater, 1)
    assert len(rows(store, schema.turn)) == 1
    assert ready(store, given, rater).place == 1


def test_two_tabs(store: Store, started):
    """Both heard their models out; the second one's replies are not kept beside the first's."""
    _, rater, given = started
    both = [ready(store, given, rater, said) for said in ("here", "there")]
    offer(store, given, rater, both[0].place, "here")
    with pytest.raises(Conflict, match="another tab"):
        offer(store, given, rater, both[1].place, "there")
    assert [row.said for row in rows(store, schema.offer)] == ["here"]
    choose(store, given, rater, 0)
    with pytest.raises(Conflict, match="another tab"):
        offer(store, given, rater, 0, "late")


def test_what_cannot_be_said(store: Store, started):
    """Nothing, too much, to nobody, in another kind of task, in somebody else's, after the end."""
    project, rater, given = started
    for said, words in ((" \n", "say something"), ("x" * 200_001, "at most")):
        with pytest.raises(UserError, match=words):
            ready(store, given, rater, said)
    other = make_rater(store)
    for call in (
        lambda: ready(store, given, other),
        lambda: offer(store, given, other),
        lambda: choose(store, given, other, 0),
    ):
        with pytest.raises(UserError, match="no such assignment"):
            call()
    pair = make_task(store, project)
    assert pair
    asked = claim(store, project, rater, holding=[given])
    assert asked
    with pytest.raises(UserError, match="no conversation"):
        ready(store, asked, rater)
    silent = make_project(store, "silent")
    make_task(store, silent, "chat", ())
    alone = claim(store, silent, rater)
    assert alone
    with pytest.raises(UserError, match="names no models"):
        ready(store, alone, rater)
    assert rows(store, schema.offer) == []


def test_a_conversation_has_an_end(store: Store, started):
    """After the last turn nothing more can be said, nor after the answer."""
    _, rater, given = started
    for place in range(3):
        assert turn(store, given, rater, place, "from a") == place + 1
    with pytest.raises(UserError, match="at most 3 turns"):
        ready(store, given, rater)
    for n in (1, 2):
        with pytest.raises(UserError, match=f"not {n} turns"):
            answer(store, given, rater, {"turns": n})
    assert answer(store, given, rater, {"turns": 3}).disposition == "counted"
    with pytest.raises(UserError, match="is over"):
        ready(store, given, rater)


def test_no_answer_while_a_choice_is_due(store: Store, started):
    """Turns that are not chosen in are no turns."""
    _, rater, given = started
    offer(store, given, rater)
    with pytest.raises(UserError, match="not 1 turns"):
        answer(store, given, rater, {"turns": 1})
    choose(store, given, rater, 1)
    assert answer(store, given, rater, {"turns": 1}).revision == 1


def test_what_is_kept_of_a_conversation(store: Store, started):
    """Text, tokens and seed of both replies, any character of them, and how the conversation went on."""
    project, rater, given = started
    strange = "\x00 \ud800 \u202e '); DROP TABLE offer;--"
    turn(store, given, rater, 0, "from b", strange)
    turn(store, given, rater, 1, "from a")
    answer(store, given, rater, {"turns": 2})
    assert [row.candidates for row in rows(store, schema.offer)] == [list(TWO)] * 2
    first, second = turns(store, project)
    assert [t["chosen"][0]["content"] for t in (first, second)] == ["from b", "from a"]
    assert [t["rejected"][0]["content"] for t in (first, second)] == ["from a", "from b"]
    assert [m["content"] for m in first["prompt"]] == ["You are a guide.", strange]
    assert [m["content"] for m in second["prompt"]][2:] == ["from b", "Hi"]
