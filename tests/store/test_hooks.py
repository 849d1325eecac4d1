"""Deliveries are written with their judgments, taken by one sender, tried again later, and given up in the end."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from heedful.errors import UserError
from heedful.store.database import audit
from heedful.store.database.db import Store, now
from heedful.store.exports import hooks
from heedful.store.membership import members, people
from heedful.store.project import projects
from heedful.store.tables import schema
from workspace import answer, claim, make_project, make_rater, make_task

URL = "https://hooks.example.org/heedful"


@pytest.fixture
def project(store: Store) -> str:
    return make_project(store)


def add(store: Store, project: str, url: str = URL) -> tuple[str, str]:
    with store.write() as connection:
        return hooks.add(connection, project, url, actor=None)


def judge(store: Store, project: str) -> str:
    ada = make_rater(store)
    make_task(store, project)
    given = claim(store, project, ada)
    assert given
    return answer(store, given, ada, {"value": 1, "text": "half \ud83d"}).judgment


def take(store: Store) -> list[hooks.Delivery]:
    with store.write() as connection:
        return hooks.claim_due(connection)


def due_now(store: Store) -> None:
    with store.write() as connection:
        connection.execute(update(schema.webhook_delivery).values(due_at=now(connection) - 1))


def row(store: Store):
    with store.read() as connection:
        return connection.execute(select(schema.webhook_delivery)).one()


def test_a_judgment_is_delivered_with_its_provenance(store, project):
    _, secret = add(store, project)
    said = judge(store, project)
    (delivery,) = take(store)
    assert (delivery.url, delivery.secret) == (URL, secret)
    told = delivery.body["judgment"]
    assert (delivery.body["event"], told["judgment"]) == ("judgment", said)
    assert told["text"] == "half \ud83d"
    assert sorted(r["rank"] for r in told["ranks"]) == [1, 2]
    assert {c["text"] for c in told["completions"]} == {"Lima.", "I don't know."}


def test_only_one_sender_gets_a_delivery(store, project):
    """Mutation caught: two servers that both send."""
    add(store, project)
    judge(store, project)
    assert len(take(store)) == 1
    assert take(store) == []
    with store.read() as connection:
        assert not hooks.any_due(connection)
    due_now(store)  # the sender has died: its minute is over
    assert len(take(store)) == 1


def test_tried_again_after_twice_as_long_and_given_up_in_the_end(store, project):
    add(store, project)
    judge(store, project)
    waits = []
    planned = [10, 20, 40, 80, 160, 320, 640, 1280, 2560, *[3600] * 23]
    assert 86_400 <= sum(planned) < 86_400 + 3600  # for a day
    for wait in (*planned, None):
        (delivery,) = take(store)
        with store.write() as connection:
            before = now(connection)
            hooks.mark_failed(connection, delivery.id)
            after = now(connection)
        if row(store).state == "waiting" and wait:
            waits.append(before + wait <= row(store).due_at + 1e-3 <= after + wait + 2e-3)
        due_now(store)
    assert waits == [True] * len(planned) and len(waits) + 1 == hooks.MAX_ATTEMPTS
    assert row(store).state == "failed"
    assert take(store) == []


def test_sent_is_sent(store, project):
    key, _ = add(store, project)
    judge(store, project)
    (delivery,) = take(store)
    with store.write() as connection:
        hooks.mark_sent(connection, delivery.id)
    due_now(store)
    assert take(store) == []
    with store.read() as connection:
        (shown,) = hooks.of_project(connection, project)
    assert (shown["id"], shown["sent"], shown["waiting"], shown["failed"]) == (key, 1, 0, 0)
    assert "secret" not in shown


def test_what_was_given_up_is_seen_and_sent_again(store, project):
    """With what was answered; under the same id, one of them or all of a webhook."""
    key, _ = add(store, project)
    judge(store, project)
    (first,) = take(store)
    with store.write() as connection:
        hooks.mark_failed(connection, first.id, status=410, give_up=True)
        (shown,) = hooks.deliveries(connection, project)
        assert (shown["id"], shown["status"], shown["attempts"]) == (first.id, 410, 1)
        assert hooks.send_again(connection, first.id, actor=None) == 1
        assert hooks.deliveries(connection, project) == []
        with pytest.raises(UserError, match="nothing to send again"):
            hooks.send_again(connection, first.id, actor=None)
    (second,) = take(store)
    assert second == first
    with store.write() as connection:
        hooks.mark_failed(connection, first.id, error="no route to host", give_up=True)
        assert hooks.deliveries(connection, project)[0]["error"] == "no route to host"
        assert hooks.send_again(connection, key, actor=None) == 1
    (third,) = take(store)
    with store.write() as connection:
        hooks.mark_sent(connection, third.id, 204)
        assert hooks.deliveries(connection, project, state="sent")[0]["status"] == 204


def test_a_webhook_waits_while_who_added_it_is_paused(store, project):
    """A suspended lead hears nothing, and nothing is lost. Mutation caught: a thread that finds it due every second."""
    lead = make_rater(store, "lead")
    with store.write() as connection:
        hooks.add(connection, project, URL, actor=lead)
    judge(store, project)

    def set_status(status: str) -> None:
        with store.write() as connection:
            people.change_rater(connection, lead, actor=None, status=status)

    set_status("paused")
    with store.read() as connection:
        assert not hooks.any_due(connection)
        (shown,) = hooks.of_project(connection, project)
    assert take(store) == [] and (shown["waiting"], shown["paused"]) == (1, True)
    set_status("active")
    assert len(take(store)) == 1


def test_a_removed_webhook_is_forgotten(store, project):
    """Also while something is on its way to it."""
    key, _ = add(store, project)
    judge(store, project)
    (delivery,) = take(store)
    with store.write() as connection:
        hooks.remove(connection, key, actor=None)
    with store.write() as connection:
        hooks.mark_failed(connection, delivery.id)
        hooks.mark_sent(connection, delivery.id)
        assert hooks.of_project(connection, project) == []
        assert audit.broken_at(connection) is None
        with pytest.raises(UserError, match="no such webhook"):
            hooks.remove(connection, key, actor=None)


def test_other_projects_hear_nothing(store, project):
    add(store, make_project(store, "other"))
    judge(store, project)
    assert take(store) == []


def test_what_cannot_be_added(store, project):
    add(store, project)
    for where, words in ((project, "already"), ("nonsense", "no such project")):
        with pytest.raises(UserError, match=words):
            add(store, where)


def test_a_webhook_is_silent_once_its_adder_leads_no_more(store, project):
    """Closed to them, or no lead of it any more; back when they are. Mutation caught: a project's answers told to
    somebody who was taken off it."""
    lead = make_rater(store, "lead")
    with store.write() as connection:
        hooks.add(connection, project, URL, actor=lead)
        projects.change(connection, project, {"access": "members"}, actor=None)
    judge(store, project)
    with store.read() as connection:
        assert not hooks.any_due(connection)
        assert hooks.of_project(connection, project)[0]["paused"]
    assert take(store) == []
    with store.write() as connection:
        members.change(connection, project, lead, actor=None, role="lead")
        assert hooks.any_due(connection)
    assert len(take(store)) == 1
