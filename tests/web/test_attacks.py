"""What attackers send: quotes for the database, paths, endless bodies, guesses, other people's ids."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from sqlalchemy import func, select
from starlette.testclient import TestClient

from heedful.store.database import limits
from heedful.store.database.db import Store, new_id, open_store
from heedful.store.kinds import KINDS
from heedful.store.membership import people
from heedful.store.rating import talk
from heedful.store.tables import schema
from heedful.web import app as web
from heedful.web.bodies import SMALL
from heedful.web.doors import Terms
from heedful.web.models import Models
from heedful.web.routes import transfer
from web.conftest import PASSWORD, browser
from workspace import make_project, make_task, make_tasks

UUID7 = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
SQL = '\'); DROP TABLE rater;-- "x" %s :a ?1 \\ $1 `b` [c] /* */ || _%'
ANY = SQL + "\x00\x1a0000"


def ask(person, project: str) -> dict[str, Any]:
    said = person.browser.post(f"/api/projects/{project}/next", json={})
    assert said.status_code == 200, said.text
    return said.json()["task"]


def answer(person, assignment: str, said: dict[str, Any], **more: Any):
    return person.browser.post(
        f"/api/assignments/{assignment}/judgments",
        json={"answer": said} | more,
        headers={"Idempotency-Key": new_id()},
    )


def column(store: Store, column: Any) -> list[Any]:
    with store.read() as connection:
        return list(connection.execute(select(column)).scalars())


def test_names_and_texts_are_kept_as_they_are(store: Store, app, person):
    """Quotes, semicolons, placeholders and NUL in every field of an account and a project."""
    owner = person("owner").browser
    project = owner.post("/api/projects", json={"name": ANY}).json()["id"]
    assert owner.get(f"/api/projects/{project}").json()["name"] == ANY
    named = {"settings": {"models": [SQL, SQL[::-1]]}}
    assert owner.patch(f"/api/projects/{project}", json=named).status_code == 400
    app.state.models = Models(named=(ANY, SQL, SQL[::-1]))  # the server was started with these
    assert owner.patch(f"/api/projects/{project}", json=named).is_success
    no_path = {"settings": {"models": [ANY]}}
    assert owner.patch(f"/api/projects/{project}", json=no_path).status_code == 400
    owner.put(f"/api/projects/{project}/guidelines", json={"body": ANY})
    found = owner.get(f"/api/projects/{project}").json()
    assert found["settings"]["models"] == [SQL, SQL[::-1]] and found["guidelines"][0]["body"] == ANY
    token = owner.post("/api/tokens", json={"name": ANY, "scopes": ["read"], "days": 1})
    assert token.status_code == 201 and owner.get("/api/tokens").json()[0]["name"] == ANY
    invited = owner.post("/api/invitations", json={"role": "rater"}).json()["url"]
    account = {
        "login": SQL,
        "name": ANY,
        "password": SQL[::-1],
        "token": invited.partition("token=")[2],
    }
    assert browser(app).post("/api/invitations/accept", json=account).status_code == 201
    signed_in = browser(app).post("/api/session", json={"login": SQL, "password": SQL[::-1]})
    assert signed_in.status_code == 200
    (row,) = [r for r in owner.get("/api/raters").json() if r["name"] == ANY]
    assert row["login"] == SQL.casefold() and row["id"] == signed_in.json()["rater"]
    url = "http://192.0.2.1/?" + "a');DROP%20TABLE%20rater;--"
    hook = owner.post(f"/api/projects/{project}/webhooks", json={"url": url})
    assert (
        hook.status_code == 400
        or owner.get(f"/api/projects/{project}/webhooks").json()[0]["url"] == url
    )


def test_imports_are_kept_as_they_are(store: Store, person):
    """Rows of a file, and what is said of it in the address."""
    lead, project = person("lead").browser, make_project(store)
    row = {"prompt": ANY, "completion": ANY[::-1], "model": ANY}
    query = {
        "what": "samples",
        "licence": SQL,
        "language": SQL[:35],
        "name": f"{SQL}.jsonl",
        "ask": "thumbs",
    }
    said = lead.post(f"/api/projects/{project}/import", params=query, content=json.dumps(row))
    assert said.status_code == 200, said.text
    (prompt,) = column(store, schema.prompt.c.content)
    assert prompt == ANY or prompt == [{"role": "user", "content": ANY}]
    assert column(store, schema.completion.c.text) == [ANY[::-1]]
    assert column(store, schema.completion.c.model) == [ANY]
    assert column(store, schema.prompt.c.licence) == [SQL]
    assert column(store, schema.prompt.c.language) == [SQL[:35]]


def test_answers_are_kept_as_they_are(store: Store, person):
    """Every text that an answer of any kind can hold."""
    project, rater = make_project(store), person("rater")
    rules = {"rules": [{"code": SQL, "text": SQL}]}
    options = {"rate": {"axes": [{"name": SQL}]}, "rules": rules, "probe": rules}
    said: dict[str, dict[str, Any]] = {
        "pair": {"value": 1, "text": ANY},
        "rank": {"ranks": [1, 2], "text": ANY}, "rate": {"scores": {SQL: [3]}, "text": ANY},
        "thumbs": {"thumbs": [1], "text": ANY}, "rules": {"rules": {SQL: [True]}, "text": ANY},
        "critique": {"critiques": [{"response": 0, "start": 0, "end": 2, "text": ANY}]},
        "edit": {"response": 0, "text": ANY, "comment": ANY}, "write": {"text": ANY, "comment": ANY},
        "chat": {"skip": ANY}, "probe": {"skip": ANY}, "note": {"text": ANY},
    }  # fmt: skip
    # These hold no text, or none of their own: a play is stored as turns.
    assert KINDS.keys() - said.keys() == {"presses", "triplet", "play"}
    for kind in said:
        texts = [f"{SQL}{i}" for i in range(KINDS[kind].responses[0])]
        make_task(store, project, kind, texts, kind, options=options.get(kind, {}))
    for _ in said:
        task = ask(rater, project)
        done = answer(rater, task["assignment"], said[task["kind"]], ui_version=SQL[:40])
        assert done.status_code == 201, done.text
        again = rater.browser.get(f"/api/assignments/{task['assignment']}").json()
        assert again["answer"] == said[task["kind"]]
    assert column(store, schema.judgment.c.text).count(ANY) == len(said) - 1
    assert column(store, schema.critique.c.text) == [ANY]
    assert sorted(column(store, schema.demonstration.c.text)) == [ANY, ANY]
    assert set(column(store, schema.judgment.c.ui_version)) == {SQL[:40]}
    assert column(store, schema.score.c.axis).count(SQL) == 1
    assert column(store, schema.rule_flag.c.rule) == [SQL]


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py",
        "/static/%2e%2e%2f%2e%2e%2fstore/database/db.py",
        "/static/%2fetc/passwd", "/static//etc/passwd", "/static/..%5capp.py", "/static/%00",
        "/static/rate/../../app.py",
        "/api/runs/..%2f..%2fetc/metrics",
        "/api/runs/../../etc/metrics", "/api/runs/%2e%2e/report", "/api/runs/%00/report",
        "/runs/..%2f..%2fetc%2fpasswd", "/runs/%2e%2e", "/lead/%2e%2e/%2e%2e", "/rate/..%2f..",
    ],
)  # fmt: skip
def test_no_path_leads_out(store: Store, app, person, tmp_path: Path, path: str):
    """As a browser would never send it: the path as it is, not tidied up on the way."""
    (tmp_path / "report.html").write_text("a report")
    owner = person("owner").browser
    cookie = "; ".join(f"{k}={v}" for k, v in owner.cookies.items())
    status, body = raw(app, "GET", path, [(b"cookie", cookie.encode())])
    assert status in (400, 404), body
    assert b"import" not in body and b"root:" not in body and b"a report" not in body


@pytest.mark.parametrize(
    "name", ["../../out.jsonl", "/tmp/out.jsonl", "..\\out.jsonl", ".jsonl", "a\x00b.jsonl"]
)
def test_an_upload_is_written_nowhere_else(
    store: Store, person, tmp_path: Path, name: str, monkeypatch
):
    """The file's name is a name only, and sentences do not tell where the server keeps it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    lead, project = person("lead").browser, make_project(store)
    before = set(tmp_path.rglob("*"))
    for content in ('{"prompt": "Why?"}\n', "no JSON"):
        query = {"what": "prompts", "name": name}
        said = lead.post(f"/api/projects/{project}/import", params=query, content=content)
        assert said.status_code in (200, 400)
        assert str(tmp_path) not in said.text
    left = {p for p in tmp_path.rglob("*") if not p.name.startswith("heedful.db")} - before
    assert left == set() and not Path("/tmp/out.jsonl").exists()


def raw(
    app: Any, method: str, path: str, headers: list[tuple[bytes, bytes]], *chunks: bytes
) -> tuple[int, bytes]:
    """A request as the server's socket gives it to the application: nothing tidied up."""
    from urllib.parse import unquote

    where, _, query = path.partition("?")
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "path": unquote(where), "raw_path": where.encode(),
        "query_string": query.encode(), "headers": [(b"host", b"heedful.test"), *headers], "scheme": "http",
        "server": ("heedful.test", 80), "client": ("10.0.0.1", 1), "root_path": "",
    }  # fmt: skip
    waiting = [{"type": "http.request", "body": c, "more_body": True} for c in chunks]
    waiting.append({"type": "http.request", "body": b"", "more_body": False})
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    body = b"".join(m.get("body", b"") for m in sent)
    return next(m["status"] for m in sent if m["type"] == "http.response.start"), body


@pytest.mark.parametrize("declared", [b"9999999999", b"5", None, b"-1", b"x", b"9" * 5000])
@pytest.mark.parametrize("path", ["/api/session", "/api/projects/{project}/import?what=prompts"])
def test_a_body_has_an_end(
    store: Store, app, person, monkeypatch, declared: bytes | None, path: str
):
    """Declared, lying or in chunks: one sentence with 413, and not a byte more is read than allowed."""
    monkeypatch.setattr(transfer.take_in, "terms", Terms(body=20_000))
    owner = person("owner").browser
    headers = [
        (b"content-type", b"application/json"),
        (b"x-csrf-token", owner.headers["X-CSRF-Token"].encode()),
    ]
    headers += [(b"cookie", f"{k}={v}".encode()) for k, v in owner.cookies.items()]
    if declared is not None:
        headers.append((b"content-length", declared))
    status, body = raw(
        app, "POST", path.format(project=make_project(store)), headers, *[b" " * 3000] * 24
    )
    assert status == 413, body
    assert re.fullmatch(r"the body is longer than \d+ bytes", json.loads(body)["error"])


def test_a_body_within_the_limit_is_read(store: Store, app, person, monkeypatch):
    """To the last byte; files may be longer than other bodies."""
    monkeypatch.setattr(transfer.take_in, "terms", Terms(body=2000))
    login = json.dumps({"login": "a@e.org", "password": "x"})
    headers = {"Content-Type": "application/json"}
    for size, status in ((SMALL, 401), (SMALL + 1, 413)):
        sent = browser(app).post("/api/session", content=login.ljust(size), headers=headers)
        assert sent.status_code == status
    lead, project = person("lead").browser, make_project(store)
    for size, status in ((2000, 200), (2001, 413)):
        row = json.dumps({"prompt": "x" * (size - len('{"prompt": ""}'))})
        sent = lead.post(f"/api/projects/{project}/import?what=prompts", content=row)
        assert sent.status_code == status, sent.text


def log_in(app: Any, login: str, password: str, address: str, **headers: str) -> Any:
    client = TestClient(app, base_url="http://heedful.test", client=(address, 1), headers=headers)
    return client.post("/api/session", json={"login": login, "password": password})


def test_guessing_is_slowed_and_locks_nobody_out(person, app):
    """The guesser waits, whatever they claim to be; the owner signs in from elsewhere."""
    login = person("owner").login
    tries = [log_in(app, login, f"wrong password {i}", "10.0.0.9").status_code for i in range(9)]
    assert tries == [401] * limits.ACCOUNT_AT_ADDRESS.burst + [429]
    disguised = {
        "X-Forwarded-For": "10.0.0.7",
        "Forwarded": "for=10.0.0.7",
        "X-Real-IP": "10.0.0.7",
    }
    for headers, name in (({}, login), (disguised, login), ({}, f" {login.upper()} ")):
        refused = log_in(app, name, PASSWORD, "10.0.0.9", **headers)
        assert refused.status_code == 429 and 0 < int(refused.headers["retry-after"]) <= 31
    assert log_in(app, login, PASSWORD, "10.0.0.2").status_code == 200


def test_an_address_that_tries_many_accounts_has_few_guesses_on_each(person, app, monkeypatch):
    """One guess for each of many logins is guessing too; but a team may have the same address."""
    monkeypatch.setattr(limits, "ADDRESS", limits.Limit(3, 60.0))
    tries = [log_in(app, f"{i}@e.org", PASSWORD, "10.0.0.9").status_code for i in range(4)]
    assert tries == [401] * 4
    login, few = person("owner").login, limits.SUSPECTED.burst
    tries = [log_in(app, login, f"wrong {i}", "10.0.0.9").status_code for i in range(few + 1)]
    assert tries == [401] * few + [429]


def test_an_unknown_login_answers_alike(person, app, monkeypatch):
    """The same sentence after the same work, which takes all of the time: nobody learns who has an account.

    Work, not time, which says on a busy machine how busy it is. Mutation caught: no hash for an unknown login, or a
    cheaper one.
    """
    worked: dict[str, list[dict[str, str]]] = {person("owner").login: [], "unknown@e.org": []}
    said = set()
    verify = PasswordHasher.verify
    for login, work in worked.items():

        def counted(self, stored, password, work=work):
            work.append(stored.rsplit("$", 2)[0])  # algorithm, version, memory, passes, lanes
            return verify(self, stored, password)

        monkeypatch.setattr(PasswordHasher, "verify", counted)
        for i in range(2):
            answer = log_in(app, login, "wrong password", f"10.1.1.{i}")
            said.add((answer.status_code, answer.text))
    assert len(said) == 1
    known, unknown = worked.values()
    assert known == unknown and len(known) == 2 and known[0].startswith("$argon2id$")


def test_other_peoples_things_do_not_exist(store: Store, app, person):
    """Their question, answer, conversation and tokens: as if there were none, whoever asks, and unchanged."""
    project, owner, other = make_project(store, models=["a", "b"]), person("rater"), person("rater")
    make_tasks(store, project, 1)
    make_task(store, project, "chat", ())
    mine = ask(owner, project)["assignment"]
    held = owner.browser.post(f"/api/projects/{project}/next", json={"holding": [mine]}).json()
    chat = held["task"]["assignment"] if held["task"]["kind"] == "chat" else mine
    with store.write() as connection:
        candidates = [{"text": "a reply", "model": "a"}, {"text": "two", "model": "b"}]
        talk.offer(connection, chat, owner.id, 0, "hello", candidates)
        key, secret = people.make_token(connection, owner.id, "t", ["rate"])
    strangers = [other, person("lead")]
    for stranger in strangers:
        refused = [
            stranger.browser.get(f"/api/assignments/{chat}"),
            answer(stranger, chat, {"skip": None}),
            stranger.browser.post(f"/api/assignments/{chat}/turns", json={"said": "Hi"}),
            stranger.browser.post(f"/api/assignments/{chat}/turns/choose", json={"place": 0}),
            stranger.browser.delete(f"/api/tokens/{key}"),
        ]
        assert [r.status_code for r in refused] == [400] * 5
        nothing = stranger.browser.get(f"/api/assignments/{new_id()}")
        assert nothing.json() == refused[0].json()
        assert stranger.browser.get("/api/tokens").json() == []
        page = stranger.browser.get(f"/rate/{project}?assignment={chat}")
        assert "hello" not in page.text and candidates[0]["text"] not in page.text
    still = browser(app).get("/api/me", headers={"Authorization": f"Bearer {secret}"})
    assert still.json()["rater"] == owner.id
    assert column(store, func.count(schema.turn.c.offer)) == [0]
    assert owner.browser.get(f"/api/assignments/{chat}").json()["turns"][0]["chosen"] is None


@pytest.mark.long_on_postgres
def test_no_id_is_an_error_of_the_server(url: str, tmp_path: Path, hashed: str):
    """NUL, half a character and far too long, in every place of every path, in both databases."""
    store = open_store(url)
    app = web.create_app(store, workspace=tmp_path)
    with store.write() as connection:
        token = people.invite(connection, "owner", actor=None)
        people.accept(connection, token, login="o@e.org", password_hash=hashed)
    owner, project = browser(app, "o@e.org"), make_project(store)
    paths = [(m, p) for p, all_ in app.openapi()["paths"].items() for m in all_ if "{" in p]
    paths += [("get", f"/api/projects/{project}/labels?rater={{r}}"), ("get", "/rate/{p}")]
    paths += [("get", f"/api/projects/{project}/export?what=judgments&snapshot={{s}}")]
    for method, path in paths:
        for strange in ("%00", "%ed%a0%80", "x" * 5000, "'"):
            url = re.sub("{.*?}", strange, path)
            sent = {"json": {}} if method in ("post", "put", "patch") else {}
            answer = getattr(owner, method)(url, **sent)
            assert answer.status_code < 500, (method, path, strange, answer.text)
    store.close()


def test_who_is_gone_or_has_no_right_any_more(store: Store, app, person):
    """Tokens end with the account; a lead's token is worth a rater's when the lead is one."""
    owner, lead = person("owner"), person("lead")
    with store.write() as connection:
        _, secret = people.make_token(connection, lead.id, "t", ["lead", "read"])
    script = browser(app)
    script.headers["Authorization"] = f"Bearer {secret}"
    assert script.get("/api/projects").status_code == 200
    owner.browser.patch(f"/api/raters/{lead.id}", json={"role": "rater"})
    assert script.get("/api/projects").status_code == 403
    assert lead.browser.get("/api/projects").status_code == 403
    owner.browser.delete(f"/api/raters/{lead.id}/personal")
    assert script.get("/api/me").status_code == 401
    assert lead.browser.get("/api/me").status_code == 401
    gone = {"login": lead.login, "password": PASSWORD}
    assert browser(app).post("/api/session", json=gone).status_code == 401


def shape(value: Any) -> Any:
    """Keys and types, and of ids their form."""
    if isinstance(value, dict):
        return {k: shape(v) for k, v in value.items()}
    if isinstance(value, list):
        return [shape(v) for v in value]
    if isinstance(value, str) and UUID7.fullmatch(value):
        return "id"
    return type(value).__name__


def test_gold_questions_look_like_others(store: Store, person):
    """The question, the page after a reload, the receipt and its headers have the same form in each."""
    project, rater = make_project(store, gold_rate=1.0), person("rater")
    for i in range(8):
        make_task(
            store, project, question=f"{i}?", gold={"ranks": {}} if i % 2 else None, overlap=1
        )
    forms: dict[str, list[Any]] = {"gold": [], "other": []}
    while task := ask(rater, project):
        gold = int(task["prompt"][0]["text"][0]) % 2
        receipt = answer(rater, task["assignment"], {"value": 2})
        later = rater.browser.get(f"/api/assignments/{task['assignment']}").json()
        form = [
            shape(task),
            shape(later),
            shape(receipt.json()),
            sorted(receipt.headers),
            receipt.status_code,
        ]
        assert form[0]["assignment"] == "id" and form[2]["judgment"] == "id"
        forms["gold" if gold else "other"].append(form)
    assert forms["gold"] and forms["other"]
    assert all(form == forms["other"][0] for form in forms["gold"] + forms["other"])
