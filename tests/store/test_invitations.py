"""Whom a pasted list names; what an invitation gives, and that it gives nothing its maker could not."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from heedful.errors import UserError
from heedful.store.database.db import Store
from heedful.store.membership import invitations, members, people, rights
from heedful.store.membership.invitations import Addressee, Gives, addressees
from heedful.store.tables import schema
from workspace import make_project, make_rater


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("", []),
        ("Ada Lovelace", [("Ada Lovelace", None)]),
        ("ada@e.org\r\n\n bao@e.org ", [(None, "ada@e.org"), (None, "bao@e.org")]),
        ("Ada Lovelace <ada@e.org>", [("Ada Lovelace", "ada@e.org")]),
        ('name,email\n"Lovelace, Ada",ada@e.org', [("Lovelace, Ada", "ada@e.org")]),
        ("E-Mail;Name\nada@e.org;Ada", [("Ada", "ada@e.org")]),
        ("Ada\tada@e.org", [("Ada", "ada@e.org")]),
        ("ada@e.org\nADA@e.org\nAda\nada", [(None, "ada@e.org"), ("Ada", None)]),
        ("<ada@e.org>", [(None, "ada@e.org")]),
        ("Ada <ada@e.org>, bao", [("Ada bao", "ada@e.org")]),
    ],
)
def test_a_list_as_people_paste_it(text: str, wanted: list[tuple[str | None, str | None]]):
    """Mutations caught: a header that is invited, quotes of CSV, one person twice, an address kept within a name."""
    assert addressees(text) == [Addressee(*both) for both in wanted]


def test_a_list_that_cannot_be():
    for text, words in [
        ("x" * 201, "no name or address"),
        ("a\x07b", "printable"),
        ("\n".join(map(str, range(501))), "501 people"),
    ]:
        with pytest.raises(UserError, match=words):
            addressees(text)


def invited(store: Store, actor: str | None, role: str = "rater", **options: Any) -> str:
    with store.write() as connection:
        return invitations.make(connection, role, actor=actor, **options)[1]


def accepted(store: Store, token: str, login: str) -> str:
    with store.write() as connection:
        return people.accept(connection, token, login=login, password_hash="x")


def roles(store: Store, rater: str) -> dict[str, str]:
    with store.read() as connection:
        return dict(rights.everywhere(connection, rater, "rater"))


def test_what_an_invitation_gives(store: Store):
    """Groups and roles, on acceptance and not before; the name it was for becomes the account's.
    Mutations caught: given when it is made, the role lost, a name that is asked for twice."""
    project, closed = (
        make_project(store, "a", access="members"),
        make_project(store, "b", access="members"),
    )
    owner = make_rater(store, "owner")
    with store.write() as connection:
        group = members.make_group(connection, "evening", actor=None)
        members.give(connection, closed, group, "rater", actor=None)
    token = invited(
        store,
        owner,
        person=Addressee("Ada", "ada@e.org"),
        gives=Gives([group], {project: "reviewer"}),
    )
    with store.read() as connection:
        (row,) = invitations.listed(connection, everything=True)
    assert (row["state"], row["name"], row["groups"], row["projects"]) == (
        "open",
        "Ada",
        ["evening"],
        {project: "reviewer"},
    )
    ada = accepted(store, token, "ada")
    assert roles(store, ada) == {project: "reviewer", closed: "rater"}
    with store.read() as connection:
        (mine,) = invitations.listed(connection, everything=True)
        (theirs,) = invitations.listed(connection, everything=False)
        named = connection.execute(select(schema.rater_pii.c.name)).scalars().all()
    assert named == ["Ada"] and mine["state"] == theirs["state"] == "used"
    assert (
        mine["used_by"] and theirs["used_by"] is None
    )  # whose pseudonym it is stays between owners
    with store.write() as connection:
        people.erase(connection, ada, actor=owner)
        assert connection.execute(select(schema.invitation_pii)).all() == []


def test_it_gives_nothing_that_its_maker_could_not(store: Store):
    """At its acceptance: a lead who was taken off a project meanwhile, a group that got another one, one that is
    gone. Mutation caught: rights of the day on which it was made."""
    lead, owner = make_rater(store, "lead"), make_rater(store, "owner")
    mine, lost, other = (make_project(store, name, access="members") for name in "abc")
    with store.write() as connection:
        for project in (mine, lost):
            members.change(connection, project, lead, actor=None, role="lead")
        kept, widened, gone = (members.make_group(connection, name, actor=None) for name in "xyz")
        gives = Gives([kept, widened, gone], {mine: "rater", lost: "rater"})
        assert invitations.refuse(connection, gives, lead, "lead") is None
        assert "only a lead of a project" in str(
            invitations.refuse(connection, Gives(projects={other: "rater"}), lead, "lead")
        )
    token = invited(store, lead, gives=gives)
    with store.write() as connection:
        members.remove(connection, lost, lead, actor=None)
        members.give(connection, other, widened, "lead", actor=owner)
        members.delete_group(connection, gone, actor=owner)
        assert "do not lead" in str(invitations.refuse(connection, Gives([widened]), lead, "lead"))
    person = accepted(store, token, "p")
    assert roles(store, person) == {mine: "rater"}
    with store.read() as connection:
        groups = {g["name"]: len(g["people"]) for g in members.groups(connection)}
    assert groups == {"x": 1, "y": 0}


def test_states(store: Store):
    """Open, used, expired, withdrawn; who withdraws one takes the name away too."""
    owner = make_rater(store, "owner")
    tokens = [
        invited(store, owner, person=Addressee(name))
        for name in ("used", "expired", "withdrawn", "open")
    ]
    accepted(store, tokens[0], "a")
    with store.write() as connection:
        keys = dict(
            map(
                tuple,
                connection.execute(
                    select(schema.invitation_pii.c.name, schema.invitation_pii.c.invitation)
                ),
            )
        )
        late = schema.invitation.update().where(schema.invitation.c.id == keys["expired"])
        connection.execute(late.values(expires_at=1.0))
        assert invitations.withdraw(connection, keys["withdrawn"], actor=owner)
        assert not invitations.withdraw(connection, keys["used"], actor=owner)
        invitations.sent(connection, {keys["open"]: None, keys["expired"]: "no such mailbox"})
        listed = {row["id"]: row for row in invitations.listed(connection, everything=True)}
    for name, key in keys.items():
        assert listed[key]["state"] == name
        assert listed[key]["name"] == (None if name == "withdrawn" else name)
    assert (
        listed[keys["open"]]["sent_at"] and listed[keys["expired"]]["problem"] == "no such mailbox"
    )
    for token, why in zip(tokens[:3], (invitations.USED, *[invitations.STALE] * 2), strict=True):
        with pytest.raises(UserError, match=why):
            accepted(store, token, "b")
