"""Suspended is suspended; sessions, tokens and passwords are seen and ended by those who may."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from heedful.cli import main
from heedful.store.database import limits
from heedful.store.database.db import Store, open_store
from heedful.store.membership import access, people
from heedful.store.project import projects
from heedful.store.tables import schema
from heedful.web.routes import transfer
from web.conftest import PASSWORD, browser
from web.test_security import DOORS, World, contents
from workspace import make_project, make_task

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
# What somebody who is paused can still do: see that it is so, and go; and what needs no account.
LEFT = {
    "GET /api/me", "DELETE /api/session", "POST /api/session", "POST /api/setup", "POST /api/invitations/accept",
    "POST /api/password", "GET /login", "GET /join", "GET /setup", "GET /reset", "GET /docs",
    "GET /static/rate/kinds/{kind}.js", "GET /sso", "GET /sso/back",
}  # fmt: skip


@pytest.fixture
def world(app: Any, store: Store, tmp_path: Path, hashed: str) -> World:
    return World(app, store, tmp_path, hashed)


def set_status(store: Store, rater: str, status: str) -> None:
    with store.write() as connection:
        people.change_rater(connection, rater, actor=None, status=status)


@pytest.mark.parametrize("who", ["lead", "rater", "token", "rater's token"])
def test_whoever_is_paused_can_do_nothing(world: World, store: Store, who: str):
    """Every route, by session and by token; and goes on where they were when they are back."""
    rater = world.ids["rater" if "rater" in who else "lead"]
    with store.write() as connection:
        world.tokens["token"] = people.make_token(
            connection, world.ids["lead"], "t", people.SCOPES
        )[1]
    client = world.client(who)
    assert client.get("/api/me").status_code == 200
    set_status(store, rater, "paused")
    before = contents(store)
    for route in DOORS:
        if route not in LEFT:
            answer = world.ask(client, route)
            assert answer.status_code == (
                403 if " /api/" in route or "token" not in who else 303
            ), route
    assert contents(store) == before
    assert client.get("/api/me").status_code == (403 if "token" in who else 200)
    page = client.get("/rate", headers={"Accept": "text/html"}, follow_redirects=False)
    assert ("account is paused" in page.text) == ("token" not in who)
    if who == "rater":
        said = browser(world.app).post(
            "/api/session", json={"login": world.logins[who], "password": PASSWORD}
        )
        assert said.status_code == 403 and "paused" in said.json()["error"]
        wrong = browser(world.app).post(
            "/api/session", json={"login": world.logins[who], "password": "x"}
        )
        assert wrong.status_code == 401  # only who knows the password hears that it is paused
    set_status(store, rater, "active")
    assert client.get("/api/me").status_code == 200


def test_what_a_suspended_lead_has_made_is_worth_nothing(world: World, store: Store):
    """Invitations and links to a new password, which could be used by the lead."""
    lead = world.client("lead")
    link = lead.post("/api/invitations", json={"role": "rater"}).json()["url"].split("token=")[1]
    reset = lead.post(f"/api/raters/{world.ids['rater']}/reset").json()["url"].split("token=")[1]
    owner = world.client("owner")
    higher = owner.post("/api/invitations", json={"role": "lead"}).json()["url"].split("token=")[1]
    stranger = browser(world.app)

    def join(token: str) -> int:
        body = {"token": token, "login": token[:9], "password": PASSWORD}
        return stranger.post("/api/invitations/accept", json=body).status_code

    set_status(store, world.ids["lead"], "paused")
    assert join(link) == 400
    assert (
        stranger.post("/api/password", json={"token": reset, "password": PASSWORD}).status_code
        == 400
    )
    set_status(store, world.ids["lead"], "active")
    with store.write() as connection:  # who leads no more
        people.change_rater(connection, world.ids["lead"], actor=None, role="rater")
    assert join(link) == 400
    with store.write() as connection:
        people.change_rater(connection, world.ids["lead"], actor=None, role="lead")
    assert [join(link), join(higher)] == [201, 201]


def test_what_takes_long_asks_again_at_its_end(world: World, store: Store, monkeypatch):
    """An upload and an export that were begun before the lead was suspended."""
    lead, project = world.client("lead"), world.places["project"]
    export = transfer.export_file
    monkeypatch.setattr(
        transfer,
        "export_file",
        lambda *a, **k: set_status(store, world.ids["lead"], "paused") or export(*a, **k),
    )
    given = lead.get(f"/api/projects/{project}/export?what=prompts")
    assert given.status_code == 403 and "capital" not in given.text
    set_status(store, world.ids["lead"], "active")

    def body() -> Any:
        set_status(store, world.ids["lead"], "paused")
        yield b'{"prompt": "Why?"}\n'

    before = contents(store)["prompt"]
    sent = lead.post(f"/api/projects/{project}/import?what=prompts", content=body())
    assert sent.status_code == 403 and contents(store)["prompt"] == before


def test_a_conversation_ends(world: World, store: Store, app):
    """A stream that is open when the rater is suspended gives out nothing more, and keeps nothing."""

    class Talk:
        async def replies(self, models: Any, messages: Any, **_: Any) -> Any:
            yield 1
            set_status(store, world.ids["rater"], "paused")
            yield 2
            yield [
                {"text": "secret", "tokens": [1], "logprobs": [0.0], "finish_reason": "stop"}
            ] * 2

        async def close(self) -> None:
            pass

    app.state.talk = Talk()
    project = make_project(store, "chats", models=["a", "b"])
    make_task(store, project, "chat", ())
    rater = world.client("rater")
    task = rater.post(f"/api/projects/{project}/next", json={}).json()["task"]
    told = rater.post(f"/api/assignments/{task['assignment']}/turns", json={"said": "Hi"})
    assert "paused" in told.text and "secret" not in told.text
    assert contents(store)["offer"] == []


def test_a_new_password_ends_sessions_and_tokens(world: World, store: Store):
    """Of whoever knew the old one, and what they have made; not the session in which it was changed."""
    here, there = world.client("rater"), world.client("rater")
    script = world.client("rater's token")
    assert script.get("/api/me").status_code == 200
    changed = here.post("/api/me/password", json={"old": PASSWORD, "new": "another horse 10"})
    assert changed.status_code == 200
    assert [c.get("/api/me").status_code for c in (here, there, script)] == [200, 401, 401]


def test_sessions_are_listed_and_ended(world: World, store: Store, app):
    """By their owner and by the workspace's; with the browser and as much of the address as one knows a place by."""
    far = TestClient(
        app,
        base_url="http://heedful.test",
        client=("203.0.113.77", 1),
        headers={"User-Agent": FIREFOX},
    )
    said = far.post("/api/session", json={"login": world.logins["rater"], "password": PASSWORD})
    assert said.status_code == 200
    near, lead, owner = world.client("rater"), world.client("lead"), world.client("owner")
    listed = near.get("/api/sessions").json()
    assert [s["current"] for s in listed] == [True, False]
    assert (listed[1]["user_agent"], listed[1]["address"]) == (FIREFOX, "203.0.113.0/24")
    assert listed[1]["used_at"] and not {"token_hash", "csrf"} & set(listed[1])
    key = listed[1]["id"]
    assert lead.delete(f"/api/sessions/{key}").status_code == 400  # somebody else's
    assert near.delete("/api/sessions/%25").status_code == 400
    assert near.delete(f"/api/sessions/{key}").status_code == 200
    assert [c.get("/api/me").status_code for c in (far, near)] == [401, 200]
    several = [world.client("rater") for _ in range(3)]
    assert near.delete("/api/sessions").json() == {"ended": 3}
    assert {c.get("/api/me").status_code for c in several} == {401} and near.get(
        "/api/me"
    ).is_success
    # The owner of the workspace.
    script = world.client("rater's token")
    script.get("/api/me")
    place = f"/api/raters/{world.ids['rater']}/access"
    shown = owner.get(place).json()
    assert len(shown["sessions"]) == 1 and shown["tokens"][0]["used_at"]
    assert lead.get(place).status_code == lead.delete(place).status_code == 403
    assert owner.delete(f"/api/sessions/{shown['sessions'][0]['id']}").status_code == 200
    assert owner.delete(place).json() == {"sessions": 0, "tokens": 1}
    assert [c.get("/api/me").status_code for c in (near, script)] == [401, 401]
    assert owner.get("/api/raters/nobody/access").status_code == 400


def test_a_forgotten_password(world: World, store: Store, app):
    """A link from the lead, once; of leads and owners from an owner; everything that was open ends."""
    lead, owner, rater = world.client("lead"), world.client("owner"), world.client("rater")
    assert lead.post(f"/api/raters/{world.ids['owner']}/reset").status_code == 403
    assert owner.post(f"/api/raters/{world.ids['lead']}/reset").status_code == 201
    url = lead.post(f"/api/raters/{world.ids['rater']}/reset").json()["url"]
    assert rater.get("/api/me").status_code == 200  # until it is used, nothing changes
    stranger, token = browser(app), url.split("token=")[1]
    assert "New password" in stranger.get("/reset?token=x").text
    weak = stranger.post("/api/password", json={"token": token, "password": "short"})
    assert weak.status_code == 400
    new = {"token": token, "password": "another horse 10"}
    assert stranger.post("/api/password", json=new).status_code == 200
    assert stranger.post("/api/password", json=new).status_code == 400
    assert rater.get("/api/me").status_code == 401
    login = world.logins["rater"]
    assert (
        stranger.post("/api/session", json={"login": login, "password": PASSWORD}).status_code
        == 401
    )
    assert stranger.post(
        "/api/session", json={"login": login, "password": "another horse 10"}
    ).is_success


def test_a_known_browser_is_shut_out_by_nobody(world: World, store: Store, app, monkeypatch):
    """Behind one address with a guesser who is at it all the time: where one has signed in before, one comes in."""
    login = world.logins["owner"]
    monkeypatch.setattr(
        people, "verify_password", lambda stored, said: said == PASSWORD and bool(stored)
    )
    known, stranger = browser(app, login), browser(app)
    guess = {"login": login, "password": "wrong password"}
    assert [stranger.post("/api/session", json=guess).status_code for _ in range(9)][-1] == 429
    right = {"login": login, "password": PASSWORD}
    assert stranger.post("/api/session", json=right).status_code == 429
    assert known.post("/api/session", json=right).status_code == 200
    # It is worth nothing for another account, nor as a way to guess on.
    other = {"login": world.logins["lead"], "password": "wrong password"}
    tries = [known.post("/api/session", json=other).status_code for _ in range(9)]
    assert tries[-1] == 429
    tries = [known.post("/api/session", json=guess).status_code for _ in range(9)]
    assert tries == [401] * limits.ACCOUNT_AT_ADDRESS.burst + [429]
    with store.write() as connection:
        access.end_all(connection, world.ids["owner"])
    assert known.post("/api/session", json=right).status_code == 429


def test_people_at_the_command_line(tmp_path: Path, capsys, hashed: str):
    """Listed, paused, ended, and a link that sets a new password, for an owner who cannot sign in."""
    assert main(["init", str(tmp_path)]) == 0
    store = open_store(tmp_path)
    with store.write() as connection:
        token = people.invite(connection, "owner", actor=None)
        key = people.accept(connection, token, login="ada@e.org", password_hash=hashed)
        people.begin_session(connection, key)

    def say(*words: str) -> Any:
        capsys.readouterr()
        assert main(["people", *words, "--workspace", str(tmp_path)]) == 0
        return json.loads(capsys.readouterr().out)

    (ada,) = say()
    assert (ada["login"], ada["role"], ada["status"]) == ("ada@e.org", "owner", "active")
    assert len(say("show", ada["pseudonym"])["sessions"]) == 1
    assert say("end", "ADA@e.org")["ended"] == {"sessions": 1, "tokens": 0}
    link = say("reset", "ada@e.org", "--url", "https://x.org/h/")["link"]
    assert link.startswith("https://x.org/h/reset?token=")
    with store.read() as connection:
        assert access.link_of(connection, link.split("token=")[1]).login == "ada@e.org"
        actions = list(connection.execute(select(schema.audit_event.c.action)).scalars())
    assert actions[-2:] == ["access.end", "password.link"]
    with store.write() as connection:
        projects.create(connection, "poems", projects.Settings(access="members"))
        token = people.invite(connection, "rater", actor=None)
        people.accept(connection, token, login="bao", password_hash=hashed)
    assert [p["projects"] for p in say()] == [{"poems": "lead"}, {}]
    joined = say("join", "bao", "--project", "poems", "--role", "reviewer")
    assert joined["projects"] == {"poems": "reviewer"}
    assert say("join", "bao", "--group", "evening")["groups"] == ["evening"]
    assert say("leave", "bao", "--project", "poems")["projects"] == {}
    assert say("leave", "bao", "--group", "evening")["groups"] == []
    for words, sentence in [
        (["join", "bao"], "--project or --group"),
        (["join", "bao", "--project", "poem"], "there is no project 'poem'"),
        (["leave", "bao", "--group", "evenin"], "did you mean 'evening'"),
        (["show", "bao", "--role", "lead"], "--role is for"),
        (["pause", "ada@e.org"], "last owner"),
        (["reset"], "give a login"),
        (["reset", "adda@e.org"], "did you mean 'ada@e.org'"),
        (["list", "ada"], "names nobody"),
    ]:
        assert main(["people", *words, "--workspace", str(tmp_path)]) == 2
        assert sentence in capsys.readouterr().err
    store.close()
