"""A project that is open to its members only: every route of it, for every role, by session and by token."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from heedful.store.database.db import Store
from heedful.store.exports import hooks
from heedful.store.membership import members, people
from heedful.store.membership.rights import ROLES
from heedful.store.project import projects
from heedful.store.tables import schema
from web.conftest import browser
from web.test_security import BODIES, DOORS, P, World, contents
from workspace import claim, make_project, make_task

ABOUT = re.compile(r"\{(project|project_id|task|assignment_id|key)\}")
A = "/api/assignments/{assignment_id}"
# Every route that speaks of a project, by itself or through what is in it: the least role that gets past its door.
LEAST = {
    **dict.fromkeys(
        ("POST /api/projects/{project_id}/next", "GET /api/projects/{project_id}/progress", f"GET {A}",
         f"GET {A}/lesson", "GET /api/projects/{project_id}/consent", "POST /api/projects/{project_id}/consent",
         "PUT /api/projects/{project_id}/consent/withdrawn", "GET /api/projects/{project_id}/profile",
         "PUT /api/projects/{project_id}/profile", "DELETE /api/projects/{project_id}/profile",
         "POST /api/projects/{project_id}/profile",
         "GET /api/projects/{project_id}/mine", "GET /rate/{project_id}/mine",
         f"POST {A}/judgments", f"POST {A}/critiques/{{place}}",
         f"POST {A}/play", f"POST {A}/turns", f"POST {A}/turns/choose", "GET /rate/{project_id}"), "rater"),
    **dict.fromkeys(
        (f"GET {P}/overview", f"GET {P}/agreement", f"GET {P}/rated-alike", f"GET {P}/disagreements", f"GET {P}/aside",
         "POST /api/tasks/{task}/review", "POST /api/tasks/{task}/unpark", "GET /lead/{project}"), "reviewer"),
    **dict.fromkeys(
        (f"GET {P}", f"PATCH {P}", f"PUT {P}/guidelines", f"GET {P}/raters", f"GET {P}/labels", f"GET {P}/win-rates",
         f"GET {P}/plays", f"POST {P}/plays", f"POST {P}/plays/compare",
         f"GET {P}/probes", f"POST {P}/probes",
         f"POST {P}/aside/take-back", f"GET {P}/export", f"POST {P}/import", f"GET {P}/webhooks", f"POST {P}/webhooks",
         f"GET {P}/deliveries", "POST /api/webhooks/{key}/again", "DELETE /api/webhooks/{key}", f"GET {P}/members",
         f"GET {P}/alerts", f"POST {P}/alerts/dismiss", f"GET {P}/reliability",
         f"POST {P}/reliability", f"GET {P}/suggestions", f"GET {P}/critiques", f"GET {P}/profiles",
         f"GET {P}/withdrawn",
         f"POST {P}/playground", f"PUT {P}/playground/{{reply}}",
         f"POST {P}/members/{{rater_id}}/qualification", f"PUT {P}/members/{{rater_id}}/withdrawn",
         f"PUT {P}/disclosure",
         f"PUT {P}/members", f"DELETE {P}/members/{{rater_id}}", f"PUT {P}/groups", f"DELETE {P}/groups/{{group_id}}",
         f"GET {P}/questions", f"GET {P}/questions/count", "GET /api/tasks/{task}", f"POST {P}/questions/act",
         f"POST {P}/questions/export", "GET /lead/{project}/training", "GET /lead/{project}/{part}"), "lead"),
    **dict.fromkeys((f"POST {P}/delete", f"POST {P}/restore", f"POST {P}/jobs"), "owner"),
}  # fmt: skip
LEAST_API = {route: role for route, role in LEAST.items() if " /api/" in route}
# Who somebody is: the account's role, and the role in the project, by themselves or (a plus) through a group.
CALLERS = {
    "owner": ("owner", None), "outside lead": ("lead", None), "outsider": ("rater", None),
    "member": ("rater", "rater"), "member by group": ("rater", "+rater"), "reviewer": ("rater", "reviewer"),
    "lead by group": ("rater", "+lead"), "project lead": ("rater", "lead"),
}  # fmt: skip


class Closed(World):
    """A project for members only, with a question on a member's screen, a webhook, and somebody of each kind."""

    def __init__(self, app: Any, store: Store, workspace: Path, hashed: str):
        super().__init__(app, store, workspace, hashed)
        project = make_project(store, "closed", access="members")
        tasks = [make_task(store, project, question=f"Closed {i}?") for i in range(3)]
        with store.write() as connection:
            for who, (account, role) in CALLERS.items():
                token = people.invite(connection, account, actor=None)
                key = people.accept(connection, token, login=who, password_hash=hashed)
                self.ids[who], self.logins[who] = key, who
                secret = people.make_token(connection, key, "all", people.SCOPES)[1]
                self.tokens[f"{who}'s token"] = secret
                if role and role[0] == "+":
                    group = members.make_group(connection, who, actor=None)
                    members.join(connection, group, key, actor=None)
                    members.give(connection, project, group, role[1:], actor=None)
                elif role:
                    members.change(connection, project, key, actor=None, role=role)
            hook, _ = hooks.add(connection, project, "https://example.org/", actor=None)
        self.places |= {"project": project, "project_id": project, "task": tasks[1], "key": hook,
                        "assignment_id": claim(store, project, self.ids["member"])}  # fmt: skip


@pytest.fixture
def world(app: Any, store: Store, tmp_path: Path, hashed: str) -> Closed:
    return Closed(app, store, tmp_path, hashed)


def allowed(who: str, route: str) -> bool:
    account, role = CALLERS[who]
    has = "lead" if account == "owner" else role and role.lstrip("+")
    if LEAST[route] == "owner":
        return account == "owner"
    return has is not None and ROLES.index(has) >= ROLES.index(LEAST[route])


def test_every_route_of_a_project_has_a_least_role():
    """A new route that speaks of a project without an entry fails here."""
    assert set(LEAST) == {route for route in DOORS if ABOUT.search(route)}


@pytest.mark.long
def test_who_may_do_what_in_a_closed_project(world: Closed, store: Store):
    """By session and by token: past the door anything but 401 and 403; before it 403, and nothing has changed.
    Mutations caught: a route whose door does not ask about the project, a task or a webhook that is not traced to its
    project, a token that is not asked, a group's role that is not."""
    callers = [
        (who, world.client(by), routes)
        for who in CALLERS
        for by, routes in ((who, LEAST), (f"{who}'s token", LEAST_API))
        if by == who
        or who in ("outside lead", "outsider", "reviewer")  # a door is the same for the others
    ]
    for _, client, _ in callers:
        client.get("/api/me")  # when they were last here is noted
    before = contents(store)
    for who, client, routes in callers:
        for route in routes:
            if not allowed(who, route):
                answer = world.ask(client, route)
                assert answer.status_code == 403, (who, route, answer.status_code)
                assert "closed" not in answer.text, (who, route)
    assert contents(store) == before
    for who, client, routes in callers:
        for route in routes:  # what one deletes the others would not find
            if allowed(who, route) and route.startswith("GET"):
                _passed(who, route, world.ask(client, route))
    for who in ("member", "reviewer", "project lead"):
        for route, least in LEAST.items():
            if CALLERS[who][1] == least and not route.startswith("GET"):
                _passed(who, route, world.ask(world.client(who), route))


def _passed(who: str, route: str, answer: Any) -> None:
    assert answer.status_code < 500 and answer.status_code not in (401, 403), (
        who,
        route,
        answer.text,
    )


def test_lists_show_what_one_has_to_do_with(world: Closed):
    """Rater's page and list, lead's list, navigation. Mutation caught: names of closed projects in lists."""
    for who in CALLERS:
        _lists(world, who)


def _lists(world: Closed, who: str) -> None:
    account, role = CALLERS[who]
    client, inside = world.client(who), account == "owner" or role is not None
    assert ("closed" in [p["name"] for p in client.get("/api/rate/projects").json()]) == inside
    page = client.get("/rate")
    assert (">closed<" in page.text) == inside
    leads = account != "rater" or (role or "").lstrip("+") in ("reviewer", "lead")
    assert (">Projects</a>" in page.text) == leads
    assert (">People</a>" in page.text) == (account != "rater")
    listed = client.get("/api/projects")
    assert listed.status_code == (200 if leads else 403)
    if leads:
        names = {p["name"]: p["role"] for p in listed.json()}
        assert ("closed" in names) == (
            account == "owner" or (role or "").lstrip("+") in ("reviewer", "lead")
        )
        assert ("capitals" in names) == (account != "rater")
        landed = client.get("/", follow_redirects=False)
        assert landed.headers["location"].endswith("/lead")


def test_a_reviewer_sees_no_models_and_no_settings(world: Closed):
    """Who judges again must not know who wrote what. Mutation caught: all parts offered to who may not open them."""
    project = world.places["project"]
    text = world.client("reviewer").get(f"/lead/{project}").text
    parts = re.findall(rf'href="[^"]*lead/{project}(?:/(\w+))?"', text)
    assert parts == ["", "agreement", "aside"]
    everything = world.client("project lead").get(f"/lead/{project}").text
    assert f"lead/{project}/settings" in everything and f"lead/{project}/members" in everything


def test_paused_in_one_project(world: Closed, store: Store):
    """There nothing, elsewhere everything; with a click, and back with another."""
    lead, member = world.client("project lead"), world.client("member")
    project, other = world.places["project"], make_project(store, "other")
    make_task(store, other)
    place = f"/api/projects/{project}/members"
    assert lead.put(place, json={"who": world.ids["member"], "paused": True}).status_code == 200
    refused = member.post(f"/api/projects/{project}/next", json={})
    assert refused.status_code == 403 and "paused in this project" in refused.json()["error"]
    assert world.ask(member, f"POST {A}/judgments").status_code == 403
    assert "paused in this project" in member.get(f"/rate/{project}").text
    assert member.post(f"/api/projects/{other}/next", json={}).json()["task"]
    assert "closed" not in [p["name"] for p in member.get("/api/rate/projects").json()]
    (row,) = [m for m in lead.get(place).json()["members"] if m["rater"] == world.ids["member"]]
    assert (row["role"], row["direct"], row["paused"]) == (None, "rater", True)
    assert lead.put(place, json={"who": world.ids["member"], "paused": False}).status_code == 200
    assert world.ask(member, f"POST {A}/judgments").status_code == 201


def test_no_way_round(world: Closed, store: Store):
    """What would let a lead of the workspace into a project that is not theirs: by its group, by a member's account."""
    lead, owner = world.client("outside lead"), world.client("owner")
    with store.read() as connection:
        group = members.group_by_name(connection, "lead by group")
    me = {"who": [world.ids["outside lead"]]}
    assert lead.put(f"/api/groups/{group}/members", json=me).status_code == 403
    assert lead.delete(f"/api/groups/{group}").status_code == 403
    assert lead.post(f"/api/raters/{world.ids['member']}/reset").status_code == 403
    assert lead.post(f"/api/raters/{world.ids['outsider']}/reset").status_code == 201
    listed = {g["name"]: g for g in lead.get("/api/groups").json()}
    assert listed["lead by group"]["projects"] == [] and listed["lead by group"]["others"] == 1
    assert owner.put(f"/api/groups/{group}/members", json=me).status_code == 200
    assert lead.get(f"/api/projects/{world.places['project']}").status_code == 200


def test_whoever_closes_a_project_stays_in(person, store: Store):
    """And whoever makes one leads it. Mutation caught: a lead who shuts themselves out with a click."""
    lead, other = person("lead"), person("lead")
    mine = make_project(store)
    place = f"/api/projects/{mine}"
    closed = lead.browser.patch(place, json={"settings": {"access": "members"}})
    assert closed.status_code == 200
    assert lead.browser.get(place).status_code == 200
    assert other.browser.get(place).status_code == 403
    made = other.browser.post(
        "/api/projects", json={"name": "new", "settings": {"access": "members"}}
    ).json()["id"]
    assert other.browser.get(f"/api/projects/{made}").status_code == 200
    assert lead.browser.get(f"/api/projects/{made}").status_code == 403
    assert lead.browser.get(f"/lead/{made}").status_code == 403


def test_what_takes_long_asks_about_the_project_again(world: Closed, store: Store):
    """An upload that was begun before its lead was paused in the project."""
    lead, project = world.client("project lead"), world.places["project"]

    def body() -> Any:
        with store.write() as connection:
            members.change(connection, project, world.ids["project lead"], actor=None, paused=True)
        yield b'{"prompt": "Why?"}\n'

    before = contents(store)["prompt"]
    sent = lead.post(f"/api/projects/{project}/import?what=prompts", content=body())
    assert sent.status_code == 403 and contents(store)["prompt"] == before


def test_members_and_groups_by_the_interface(world: Closed, store: Store):
    """What a lead's page does, and that its answers are what the store holds."""
    owner, project = world.client("owner"), world.places["project"]
    place = f"/api/projects/{project}"
    assert owner.put(f"{place}/members", json={"who": "OUTSIDER"}).status_code == 200  # by login
    refused = world.client("project lead").put(f"{place}/members", json={"who": "outside lead"})
    assert (
        refused.status_code == 400 and "nobody here" in refused.json()["error"]
    )  # logins are secret
    group = owner.post("/api/groups", json={"name": "night"}).json()["id"]
    assert (
        owner.put(
            f"/api/groups/{group}/members", json={"who": ["outside lead", "nobody"]}
        ).status_code
        == 400
    )
    with store.read() as connection:
        assert [g["people"] for g in members.groups(connection) if g["name"] == "night"] == [[]]
    owner.put(f"/api/groups/{group}/members", json={"who": ["outside lead"]})
    assert (
        owner.put(f"{place}/groups", json={"group": group, "role": "reviewer"}).status_code == 200
    )
    seen = owner.get(f"{place}/members").json()
    by_id = {m["rater"]: m for m in seen["members"]}
    assert by_id[world.ids["outsider"]]["direct"] == "rater"
    assert by_id[world.ids["outside lead"]] | {"pseudonym": ""} == {
        "rater": world.ids["outside lead"], "pseudonym": "", "status": "active", "role": "reviewer", "direct": None,
        "paused": False, "groups": ["night"],
    }  # fmt: skip
    assert {g["name"]: (g["role"], g["people"]) for g in seen["groups"]}["night"] == ("reviewer", 1)
    assert seen["access"] == "members"
    assert owner.delete(f"{place}/groups/{group}").status_code == 200
    assert owner.delete(f"{place}/members/{world.ids['outsider']}").status_code == 200
    assert owner.delete(f"{place}/members/{world.ids['outsider']}").status_code == 400
    with store.read() as connection:
        actions = connection.execute(select(schema.audit_event.c.action)).scalars().all()
    assert actions[-3:] == ["group.give", "group.take", "member.remove"]


def test_a_token_of_a_project_lead(world: Closed):
    """May have the scope lead, which is worth what its owner may."""
    lead = world.client("project lead")
    body = {"name": "t", "scopes": ["lead"]}
    assert lead.post("/api/tokens", json=body).status_code == 201
    assert world.client("member").post("/api/tokens", json=body).status_code == 403


def test_an_open_project_is_as_before(app, person, store: Store):
    """The default: every rater is asked, every lead leads. Mutation caught: `access` that is members unless said."""
    assert projects.Settings().access == "everybody" and BODIES
    rater, project = person("rater"), make_project(store)
    make_task(store, project)
    assert rater.browser.post(f"/api/projects/{project}/next", json={}).json()["task"]
    assert browser(app).get("/api/rate/projects").status_code == 401
