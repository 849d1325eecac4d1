"""Who has which role in which project: each way to get one, and what takes it away."""

from __future__ import annotations

from itertools import product

import pytest
from sqlalchemy import select

from heedful.errors import UserError
from heedful.store.database.db import Store
from heedful.store.membership import members, people, rights
from heedful.store.membership.rights import ROLES
from heedful.store.project import projects
from heedful.store.tables import schema
from workspace import make_project, make_rater

CASES = list(
    product(
        ("owner", "lead", "rater"),
        ("everybody", "members"),
        (None, *ROLES),
        (None, *ROLES),
        (False, True),
    )
)


def expected(
    account: str, access: str, direct: str | None, group: str | None, paused: bool
) -> str | None:
    """The rule in words: the strongest role that anything gives; an owner leads always; paused is none."""
    if account == "owner":
        return "lead"
    if paused:
        return None
    order = [None, "rater", "reviewer", "lead"]
    by_account = None if access == "members" else {"lead": "lead", "rater": "rater"}[account]
    return max((direct, group, by_account), key=order.index)


def test_every_way_to_a_role(store: Store):
    """All 96 combinations of account, access, membership, group and pause. Mutations caught: a role that a weaker one
    hides, a group that is not asked, an open project's lead who is only a member, a pause that a group undoes."""
    people = {account: make_rater(store, account) for account in ("owner", "lead", "rater")}
    projects_of, wrong = {}, []
    cases = (
        CASES if store.dialect == "sqlite" else CASES[::7]
    )  # the rule is the same, the SQL not quite
    with store.write() as connection:
        for account, access, direct, group, paused in cases:
            name, person = f"{account} {access} {direct} {group} {paused}", people[account]
            settings = projects.Settings(access=access)
            key = projects_of[name] = projects.create(connection, name, settings)
            if group:
                one = members.make_group(connection, name, actor=None)
                members.join(connection, one, person, actor=None)
                members.give(connection, key, one, group, actor=None)
            if direct or paused:
                members.change(connection, key, person, actor=None, role=direct, paused=paused)
        everywhere = {a: rights.everywhere(connection, key, a) for a, key in people.items()}
        for account, access, direct, group, paused in cases:
            key = projects_of[f"{account} {access} {direct} {group} {paused}"]
            has = rights.standing(connection, key, people[account], account)
            wanted = expected(account, access, direct, group, paused)
            if has is None or has.role != wanted or everywhere[account].get(key) != wanted:
                wrong.append((account, access, direct, group, paused, has, wanted))
    assert wrong == []


def test_each_role_may_what_the_weaker_may():
    """Mutation caught: `may` that compares the words themselves."""
    table = {role: [rights.Standing(role).may(least) for least in ROLES] for role in ROLES}
    assert table == {
        "rater": [True, False, False],
        "reviewer": [True, True, False],
        "lead": [True, True, True],
    }
    assert not rights.Standing(None).may("rater")


def test_a_role_ends_as_it_began(store: Store):
    """Removed, taken, left, deleted: each takes away what it gave and no more; the audit log has each step."""
    project, person = make_project(store, access="members"), make_rater(store)

    def role() -> str | None:
        with store.read() as connection:
            has = rights.standing(connection, project, person, "rater")
        return has and has.role

    with store.write() as connection:
        group = members.make_group(connection, "evening", actor=None)
        members.join(connection, group, person, actor=None)
        members.join(connection, group, person, actor=None)  # once more is nothing
        members.give(connection, project, group, "rater", actor=None)
        members.give(connection, project, group, "reviewer", actor=None)  # the newest counts
        members.change(connection, project, person, actor=None, role="lead")
    assert role() == "lead"
    steps = [
        (lambda c: members.change(c, project, person, actor=None, paused=True), None),
        (lambda c: members.remove(c, project, person, actor=None), None),  # still paused
        (lambda c: members.change(c, project, person, actor=None, paused=False), "reviewer"),
        (lambda c: members.take(c, project, group, actor=None), None),
        (lambda c: members.give(c, project, group, "rater", actor=None), "rater"),
        (lambda c: members.leave(c, group, person, actor=None), None),
        (lambda c: members.join(c, group, person, actor=None), "rater"),
        (lambda c: members.delete_group(c, group, actor=None), None),
    ]
    for step, wanted in steps:
        with store.write() as connection:
            step(connection)
        assert role() == wanted
    with store.read() as connection:
        rows = [
            connection.execute(select(t)).all()
            for t in (schema.project_member, schema.group_member, schema.project_group)
        ]
        actions = list(connection.execute(select(schema.audit_event.c.action)).scalars())
    assert rows == [[], [], []]
    assert actions.count("group.join") == 2 and actions[-1] == "group.delete"


def test_what_cannot_be(store: Store):
    """One sentence, and nothing changes."""
    project, person = make_project(store), make_rater(store)
    with store.write() as connection:
        group = members.make_group(connection, "evening", actor=None)
    refused = [
        (
            lambda c: members.make_group(c, " evening ", actor=None),
            "there is a group 'evening' already",
        ),
        (lambda c: members.make_group(c, " ", actor=None), "a group needs a name"),
        (lambda c: members.change(c, project, person, actor=None, role="boss"), "not 'boss'"),
        (lambda c: members.change(c, "x", person, actor=None, role="lead"), "no such project"),
        (lambda c: members.change(c, project, "x", actor=None, role="lead"), "no such rater"),
        (lambda c: members.give(c, project, "x", "lead", actor=None), "no such group"),
        (lambda c: members.remove(c, project, person, actor=None), "no such member"),
        (lambda c: members.leave(c, group, person, actor=None), "no such person"),
        (lambda c: members.take(c, project, group, actor=None), "no role"),
        (lambda c: members.group_by_name(c, "evenin"), "did you mean 'evening'"),
        (lambda c: members.person_of(c, "nobody"), "nobody here is called"),
        (
            lambda c: projects.change(c, project, {"access": "some"}, actor=None),
            "everybody or members",
        ),
    ]
    for step, words in refused:
        with pytest.raises(UserError, match=words), store.write() as connection:
            step(connection)


def test_who_is_forgotten_is_nowhere(store: Store):
    """Mutation caught: an erased person who is still listed as a member."""
    project = make_project(store)
    with store.write() as connection:
        people.accept(
            connection, people.invite(connection, "owner", actor=None), login="o", password_hash="x"
        )
        key = people.accept(
            connection, people.invite(connection, "rater", actor=None), login="a", password_hash="x"
        )
        group = members.make_group(connection, "evening", actor=None)
        members.join(connection, group, key, actor=None)
        members.change(connection, project, key, actor=None, role="lead")
        people.erase(connection, key, actor=key)
        assert members.of_project(connection, project) == []
        assert members.groups(connection)[0]["people"] == []
