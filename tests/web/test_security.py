"""Who may do what, and what attackers try: every route, every role, every field."""

from __future__ import annotations

import importlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from heedful.store.database.db import Store, new_id
from heedful.store.membership import members, people
from heedful.store.tables.columns import metadata
from heedful.web import app as web
from heedful.web.respond import HERE
from heedful.web.security import COOKIE
from web.conftest import PASSWORD, sign_in
from workspace import make_project, make_rater, make_tasks

# Callers: a visitor; people; an owner's tokens with one scope each; a rater's token that can only rate.
PEOPLE = {"rater", "lead", "owner"}
EVERYBODY = {"nobody", *PEOPLE, "token read", "token rate", "token lead", "rater's token"}
KNOWN = EVERYBODY - {"nobody"}
LOOK = KNOWN - {"token lead"}
RATE = LOOK - {"token read"}
LEAD_LOOK = {"lead", "owner", "token read", "token lead"}
LEAD = LEAD_LOOK - {"token read"}
OWNER_LOOK = LEAD_LOOK - {"lead"}
OWNER = LEAD - {"lead"}

P, A, R = "/api/projects/{project}", "/api/assignments/{assignment_id}", "/api/raters/{rater_id}"
G = "/api/groups/{group_id}"
# Every route and who gets past its door. Others get 401 or 403; at pages nobody is sent to the login.
DOORS: dict[str, set[str]] = {
    "POST /api/session": EVERYBODY, "POST /api/setup": EVERYBODY, "POST /api/invitations/accept": EVERYBODY,
    "GET /api/me": KNOWN,
    "POST /api/password": EVERYBODY, "GET /api/sessions": PEOPLE, "DELETE /api/sessions": PEOPLE,
    "DELETE /api/sessions/{session_id}": PEOPLE,
    "DELETE /api/session": PEOPLE, "POST /api/me/password": PEOPLE, "GET /api/tokens": PEOPLE,
    "POST /api/tokens": PEOPLE, "DELETE /api/tokens/{token_id}": PEOPLE,
    "GET /api/rate/projects": LOOK, "GET /api/projects/{project_id}/mine": LOOK,
    "GET /rate/{project_id}/mine": PEOPLE, "GET /api/projects/{project_id}/progress": LOOK, f"GET {A}": LOOK,
    "POST /api/projects/{project_id}/next": RATE, f"POST {A}/judgments": RATE, f"POST {A}/turns": RATE,
    f"POST {A}/turns/choose": RATE, f"POST {A}/critiques/{{place}}": RATE,
    "GET /api/invitations": LEAD_LOOK, "GET /api/raters": LEAD_LOOK, "GET /api/projects": LEAD_LOOK,
    f"GET {P}/questions": LEAD_LOOK, f"GET {P}/questions/count": LEAD_LOOK, "GET /api/tasks/{task}": LEAD_LOOK,
    f"POST {P}/questions/act": LEAD, f"POST {P}/questions/export": LEAD,
    f"POST {P}/delete": OWNER, f"POST {P}/restore": OWNER,
    "GET /api/jobs": OWNER_LOOK, "GET /api/jobs/{job}": OWNER_LOOK, f"POST {P}/jobs": OWNER,
    f"POST {A}/play": RATE, f"GET {P}/plays": LEAD_LOOK, f"POST {P}/plays": LEAD, f"POST {P}/plays/compare": LEAD,
    f"POST {P}/playground": LEAD, f"PUT {P}/playground/{{reply}}": LEAD,
    "POST /api/jobs/{job}/stop": OWNER, "GET /lead/{project}/training": {"lead", "owner"},
    f"GET {P}": LEAD_LOOK, f"GET {P}/overview": LEAD_LOOK,
    f"GET {P}/agreement": LEAD_LOOK, f"GET {P}/rated-alike": LEAD_LOOK, f"GET {P}/raters": LEAD_LOOK,
    f"GET {P}/probes": LEAD_LOOK, f"POST {P}/probes": LEAD,
    f"GET {P}/disagreements": LEAD_LOOK, f"GET {P}/labels": LEAD_LOOK, f"GET {P}/win-rates": LEAD_LOOK,
    f"GET {P}/aside": LEAD_LOOK, f"GET {P}/export": LEAD_LOOK, f"GET {P}/webhooks": LEAD_LOOK,
    "GET /api/models": LEAD_LOOK,
    "GET /api/runs": LEAD_LOOK, "GET /api/runs/{run}/metrics": LEAD_LOOK, "GET /api/runs/{run}/report": LEAD_LOOK,
    "POST /api/invitations": LEAD, "DELETE /api/invitations/{invitation_id}": LEAD, f"PATCH {R}": LEAD,
    "POST /api/projects": LEAD, f"PATCH {P}": LEAD, f"PUT {P}/guidelines": LEAD, f"POST {P}/import": LEAD,
    f"POST {P}/aside/take-back": LEAD, f"GET {P}/deliveries": LEAD_LOOK, "POST /api/webhooks/{key}/again": LEAD,
    f"POST {P}/webhooks": LEAD, "DELETE /api/webhooks/{key}": LEAD,
    "POST /api/tasks/{task}/review": LEAD, "POST /api/tasks/{task}/unpark": LEAD,
    f"GET {P}/alerts": LEAD_LOOK, f"POST {P}/alerts/dismiss": LEAD,
    f"GET {P}/reliability": LEAD_LOOK, f"GET {P}/suggestions": LEAD_LOOK, f"GET {P}/critiques": LEAD_LOOK,
    f"POST {P}/reliability": LEAD,
    f"GET {P}/members": LEAD_LOOK, f"PUT {P}/members": LEAD, f"DELETE {P}/members/{{rater_id}}": LEAD,
    f"POST {P}/members/{{rater_id}}/qualification": LEAD, f"GET {A}/lesson": LOOK,
    "GET /api/projects/{project_id}/profile": LOOK, "PUT /api/projects/{project_id}/profile": RATE,
    "DELETE /api/projects/{project_id}/profile": RATE, "POST /api/projects/{project_id}/profile": RATE,
    f"GET {P}/profiles": LEAD_LOOK, f"GET {P}/withdrawn": LEAD_LOOK,
    "GET /api/projects/{project_id}/consent": LOOK, "POST /api/projects/{project_id}/consent": RATE,
    "PUT /api/projects/{project_id}/consent/withdrawn": RATE, f"PUT {P}/disclosure": LEAD,
    f"PUT {P}/members/{{rater_id}}/withdrawn": LEAD,
    f"PUT {P}/groups": LEAD, f"DELETE {P}/groups/{{group_id}}": LEAD, "GET /api/groups": LEAD_LOOK,
    "POST /api/groups": LEAD, f"PATCH {G}": LEAD, f"DELETE {G}": LEAD, f"PUT {G}/members": LEAD,
    f"DELETE {G}/members/{{rater_id}}": LEAD,
    f"DELETE {R}/personal": OWNER, f"GET {R}/access": OWNER_LOOK, f"DELETE {R}/access": OWNER, f"POST {R}/reset": LEAD,
    "GET /api/audit": OWNER_LOOK,
    # Pages are for people at a screen.
    "GET /static/rate/kinds/{kind}.js": EVERYBODY,
    "GET /sso": EVERYBODY, "GET /sso/back": EVERYBODY, "DELETE /api/identity": PEOPLE,
    "GET /": EVERYBODY, "GET /login": EVERYBODY, "GET /join": EVERYBODY, "GET /setup": EVERYBODY,
    "GET /reset": EVERYBODY,
    "GET /docs": EVERYBODY, "GET /account": PEOPLE, "GET /rate": PEOPLE, "GET /rate/{project_id}": PEOPLE,
    "GET /people": {"lead", "owner"}, "GET /lead": {"lead", "owner"}, "GET /lead/{project}": {"lead", "owner"},
    "GET /lead/{project}/{part}": {"lead", "owner"},
    "GET /runs": {"lead", "owner"}, "GET /runs/{run}": {"lead", "owner"},
}  # fmt: skip
OPEN = {
    "POST /api/session",
    "POST /api/password",
    "POST /api/setup",
    "POST /api/invitations/accept",
}
WRITES = sorted(route for route in DOORS if not route.startswith("GET"))
BODIES: dict[str, Any] = {
    "POST /api/password": {"token": "t", "password": "short"},
    "POST /api/setup": {"login": "n", "password": "short", "token": "t"},
    "POST /api/invitations/accept": {"login": "n", "password": "short", "token": "t"},
    "POST /api/me/password": {"old": PASSWORD, "new": "short"},
    "POST /api/tokens": {"name": "t", "scopes": ["read"]}, "POST /api/projects": {"name": "another"},
    f"PATCH {P}": {"settings": {"gold_rate": 0.5}}, f"PUT {P}/guidelines": {"body": "Be kind."},
    f"POST {P}/aside/take-back": {"rater": "x"}, f"POST {P}/delete": {"name": "not its name"},
    f"POST {P}/jobs": {"command": "iterate", "name": "n", "model": "not here"},
    f"POST {P}/playground": {"model": "not here", "messages": [{"role": "user", "content": "Hi"}]},
    f"PUT {P}/playground/{{reply}}": {"thumb": 1},
    f"POST {P}/questions/act": {"action": "set_aside", "tasks": []},
    f"POST {P}/questions/export": {"what": "judgments", "tasks": []},
    f"PUT {P}/members": {"who": "{rater_id}", "role": "reviewer"}, f"PUT {P}/groups": {"group": "{group_id}"},
    f"POST {P}/members/{{rater_id}}/qualification": {"what": "pass"},
    "PUT /api/projects/{project_id}/profile": {"sentence": "Short ones."},
    "POST /api/projects/{project_id}/consent": {"version": "v"}, f"PUT {P}/disclosure": {"body": "We keep it."},
    "PUT /api/projects/{project_id}/consent/withdrawn": {"withdrawn": False},
    f"PUT {P}/members/{{rater_id}}/withdrawn": {"withdrawn": False},
    "POST /api/groups": {"name": "night"}, f"PATCH {G}": {"name": "day"}, f"PUT {G}/members": {"who": []},
    f"PATCH {R}": {"status": "paused"}, f"POST {A}/judgments": {"answer": {"value": 1}},
    f"POST {P}/probes": {"rules": [{"code": "r", "text": "Say no name."}]},
    f"POST {A}/play": {"said": "Hi"}, f"POST {P}/plays": {"env": "calculator"}, f"POST {P}/plays/compare": {},
    f"POST {A}/turns": {"said": "Hi"}, f"POST {A}/turns/choose": {"place": 0}, f"POST {P}/webhooks": {"url": "http://127.0.0.1/"},
}  # fmt: skip
QUERY = {f"GET {P}/export": "?what=comparisons", f"POST {P}/import": "?what=prompts"}


class World:
    """A project, a question that a rater has on the screen, a run, and somebody of each kind."""

    def __init__(self, app: Any, store: Store, workspace: Path, hashed: str):
        self.app, self.store, self.logins, self.ids, self.tokens = app, store, {}, {}, {}
        with store.write() as connection:
            for role in ("owner", "lead", "rater"):
                login = self.logins[role] = f"{role}@example.org"
                token = people.invite(connection, role, actor=None)
                self.ids[role] = people.accept(connection, token, login=login, password_hash=hashed)
            for scope in people.SCOPES:
                made = people.make_token(connection, self.ids["owner"], scope, [scope])
                self.tokens[f"token {scope}"] = made[1]
            made = people.make_token(connection, self.ids["rater"], "r", ["rate"])
            self.tokens["rater's token"] = made[1]
        project, other = make_project(store), make_rater(store)
        task = make_tasks(store, project, 3)[0]
        with store.write() as connection:
            group = members.make_group(connection, "evening", actor=None)
        run = workspace / "runs"
        run.mkdir()
        (run / "report.html").write_text("<p>")
        (run / "metrics.jsonl").write_text('{"step": 1}\n')
        found = self.client("owner").get("/api/runs").json()[0]["id"]
        self.places = {
            "project": project, "project_id": project, "task": task, "rater_id": other, "run": found, "part": "labels",
            "job": "x", "reply": "x", "place": "0",
            "assignment_id": new_id(), "token_id": new_id(),
            "session_id": "0" * 16, "invitation_id": new_id(), "group_id": group, "key": new_id(), "kind": "pair",
        }  # fmt: skip

    def client(self, who: str, **headers: str) -> TestClient:
        """A browser with a session of its own, or a script with a token."""
        client = TestClient(self.app, base_url="http://heedful.test", raise_server_exceptions=False)
        if who in self.ids:
            sign_in(client, self.store, self.ids[who])
        elif who in self.tokens:
            client.headers["Authorization"] = f"Bearer {self.tokens[who]}"
        client.headers.update(headers)
        return client

    def ask(self, client: TestClient, route: str) -> Any:
        """A request that would do something."""
        method, path = route.split(" ")
        url = path.format(**self.places) + QUERY.get(route, "")
        said = {
            k: v.format(**self.places) if isinstance(v, str) else v
            for k, v in BODIES.get(route, {}).items()
        }
        body: dict[str, Any] = {"json": said} if method != "GET" else {}
        if path.endswith("/import"):
            body = {"content": '{"prompt": "Why?"}\n'}
        elif route == "POST /api/session":
            body = {"json": {"login": self.logins["owner"], "password": PASSWORD}}
        headers = {"Idempotency-Key": "key-00000001"}
        return client.request(method, url, headers=headers, follow_redirects=False, **body)


@pytest.fixture
def world(app: Any, store: Store, tmp_path: Path, hashed: str) -> World:
    return World(app, store, tmp_path, hashed)


def contents(store: Store) -> dict[str, list[Any]]:
    """Everything in the database."""
    with store.read() as connection:
        rows = {t.name: connection.execute(select(t)).all() for t in metadata.sorted_tables}
    return {name: sorted(map(repr, found)) for name, found in rows.items()}


def test_every_route_has_a_door(app):
    """A new route without an entry in DOORS fails here, and so does one that was added beside the routers."""
    routers = [importlib.import_module(f"heedful.web.routes.{name}").router for name in web.ROUTES]
    routes = {
        f"{method} {route.path}"
        for router in routers
        for route in router.routes
        for method in route.methods
    }
    assert routes == set(DOORS)
    described = {
        f"{method.upper()} {path}"
        for path, all_ in app.openapi()["paths"].items()
        for method in all_
    }
    assert described == {route for route in DOORS if " /api/" in route}
    paths = {
        r.path for r in app.routes if hasattr(r, "path")
    }  # of some versions also those of routers
    assert paths - {route.split()[1] for route in DOORS} == {"/openapi.json", "/static"}


@pytest.mark.parametrize("who", sorted(EVERYBODY))
def test_who_may_do_what(world: World, who: str):
    """Past the door anything but 401, 403 and an error of the server; before it nothing else."""
    found = {}
    for route in DOORS:
        if who in DOORS[route] and route in WRITES:
            continue
        answer = world.ask(world.client(who), route)
        found[route] = answer.status_code
    before = contents(world.store)
    for route in WRITES:
        if who in DOORS[route]:
            answer = world.ask(world.client(who), route)
            assert answer.status_code < 500 and answer.status_code not in (401, 403), route
    if who != "nobody":
        assert contents(world.store) != before  # the requests are such as would do something
    for route, status in found.items():
        if who in DOORS[route]:
            assert status < 500 and status not in (401, 403), (route, status)
        elif " /api/" in route:
            assert status == (401 if who == "nobody" else 403), (route, status)
        else:
            assert status == (403 if who == "rater" else 303), (route, status)


def test_what_a_lead_may_not(world: World, store: Store):
    """Behind the door: owners' rights stay with owners, and scopes with those who have them."""
    lead, rater = world.client("lead"), world.client("rater")
    before = contents(store)
    for role in ("lead", "owner"):
        assert lead.post("/api/invitations", json={"role": role}).status_code == 403
        change = lead.patch(f"/api/raters/{world.ids['owner']}", json={"status": "paused"})
        assert change.status_code == 403
    promoted = lead.patch(f"/api/raters/{world.ids['rater']}", json={"role": "lead"})
    assert promoted.status_code == 403
    wide = rater.post("/api/tokens", json={"name": "t", "scopes": ["rate", "lead"]})
    assert wide.status_code == 403
    assert contents(store) | {"session": []} == before | {"session": []}
    assert not {"login", "name"} & set(lead.get("/api/raters").json()[0])


FOREIGN = (
    {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://["}, {"Referer": "https://evil.example/x"},
    {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://heedful.test.evil.example"},
)  # fmt: skip


def test_no_other_site_can_write(world: World, store: Store):
    """Without the token, with a wrong one, or from elsewhere every write is refused and changes nothing."""
    client = world.client("owner")
    csrf = client.headers.pop("X-CSRF-Token")
    before = contents(store)
    for route in WRITES:
        variants = [{"X-CSRF-Token": csrf} | foreign for foreign in FOREIGN]
        if route not in OPEN:
            variants += [
                {},
                {"X-CSRF-Token": "wrong"},
                {"X-CSRF-Token": ""},
                {"Origin": "http://heedful.test"},
            ]
        for headers in variants:
            client.headers.update(headers)
            assert world.ask(client, route).status_code == 403, (route, headers)
            for name in headers:
                del client.headers[name]
    assert contents(store) == before
    ours = {"X-CSRF-Token": csrf, "Origin": "http://heedful.test", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/api/projects", json={"name": "mine"}, headers=ours).status_code == 201


def log_in(app: Any, login: str, password: str, address: str, **headers: str) -> Any:
    client = TestClient(app, base_url="http://heedful.test", client=(address, 1), headers=headers)
    return client.post("/api/session", json={"login": login, "password": password})


def test_sessions_are_new_after_each_sign_in(world: World, app):
    """No old token works: nobody can plant one, and whoever knew the old password is out."""
    login = world.logins["rater"]
    other = world.client("rater")
    client = TestClient(app, base_url="http://heedful.test")
    seen = []
    for _ in range(2):
        said = client.post("/api/session", json={"login": login, "password": PASSWORD})
        cookie = said.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=lax" in cookie and "path=/" in cookie
        seen.append((client.cookies[COOKIE], said.json()["csrf"]))
    (first, _), (second, csrf) = seen
    assert first != second
    headers = {"X-CSRF-Token": csrf}
    new = {"old": PASSWORD, "new": "another horse 10"}
    assert (
        client.post("/api/me/password", json=new | {"old": "x"}, headers=headers).status_code == 403
    )
    changed = client.post("/api/me/password", json=new, headers=headers)
    third = client.cookies[COOKIE]
    assert changed.status_code == 200 and third not in (first, second)

    def me(token: str) -> int:
        stranger = TestClient(app, base_url="http://heedful.test", cookies={COOKIE: token})
        return stranger.get("/api/me").status_code

    assert [me(token) for token in (first, second, third)] == [401, 401, 200]
    assert other.get("/api/me").status_code == 401  # in another browser
    assert log_in(app, login, PASSWORD, "10.0.0.1").status_code == 401
    out = {"X-CSRF-Token": changed.json()["csrf"]}
    assert client.delete("/api/session", headers=out).status_code == 200
    assert me(third) == 401 and COOKIE not in client.cookies


def test_behind_https_the_cookie_is_secure(store: Store, world: World):
    """Never sent over a plain line."""
    app = web.create_app(store, base_url="https://rate.example.org")
    said = log_in(
        app, world.logins["rater"], PASSWORD, "10.0.0.1", Origin="https://rate.example.org"
    )
    assert said.status_code == 200 and "secure" in said.headers["set-cookie"].lower()


class Inline(HTMLParser):
    """Whatever in a page the policy forbids, or would run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        ours = tag == "img" and re.match(r"\.?(\.\./)*/?static/", dict(attrs).get("src") or "")
        if (tag in ("style", "img", "b") and not ours) or (
            tag == "script" and not dict(attrs).get("src")
        ):
            self.found.append(tag)
        for name, value in attrs:
            if (
                name.startswith("on")
                or name == "style"
                or re.match(r"\s*(javascript|data):", value or "")
            ):
                self.found.append(f"{tag} {name}={value}")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script" and data.strip():
            self.found.append(data)


def test_every_answer_has_its_headers_and_no_page_runs_what_is_in_it(
    world: World, app, store: Store, tmp_path
):
    """Pages, errors and failures alike; names that people give stay text."""
    name = "<b>x</b><img src=x onerror=alert(1)>\"' onclick=x </script><script>alert(1)</script>"
    world.places["project"] = world.places["project_id"] = make_project(store, name)
    (tmp_path / "runs" / "config.yaml").write_text(name)
    app.add_api_route("/boom", lambda: 1 / 0)
    html = {"Accept": "text/html"}
    asked = [
        (who, route, {})
        for who in ("owner", "rater", "nobody")
        for route in DOORS
        if route not in WRITES
    ]
    asked += [(who, route, html) for who, route, _ in asked]
    asked += [
        ("nobody", f"GET {path}", h)
        for path in ("/no", "/static/no", "/boom", "/openapi.json")
        for h in ({}, html)
    ]
    asked += [
        ("nobody", "PUT /login", {}),
        ("owner", "POST /api/tokens", {"Content-Length": "9000000"}),
    ]
    asked += [
        ("owner", f"GET /lead/{{project}}/{part}", html)
        for part in ("raters", "aside", "files", "settings", "no")
    ]
    asked += [
        ("nobody", f"GET /join?token={quote(name)}", {}),
        ("nobody", "GET /static/api.js", {}),
    ]
    seen = set()
    for who, route, headers in asked:
        answer = world.ask(world.client(who, **headers), route)
        seen.add(answer.status_code)
        assert str(tmp_path) not in answer.text, (
            route
        )  # where the server keeps its files is its own
        rules = answer.headers["content-security-policy"]
        if not route.endswith("/report") or answer.status_code != 200:
            assert (
                "unsafe" not in rules
                and "default-src 'none'" in rules
                and "script-src 'self'" in rules
            ), route
            assert "frame-ancestors 'none'" in rules and answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        if "/static/" not in route:
            assert answer.headers["cache-control"] == "no-store", route
        if answer.headers.get("content-type", "").startswith("text/html") and not route.endswith(
            "/report"
        ):
            page = Inline()
            page.feed(answer.text)
            assert page.found == [], (who, route)
    assert seen >= {200, 303, 401, 403, 404, 405, 413, 500}


def test_templates_escape_everything():
    """No way round the escaping, and nothing inline, also where no test looks."""
    for path in (HERE / "templates").rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(
            r"\|\s*safe|autoescape|<style|\son\w+=|\sstyle=|<script(?![^>]*\ssrc=)", text
        ), path
