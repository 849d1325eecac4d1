"""Values that no page sends, in every field that is written, on both databases: refused or kept, never a 500."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from heedful.store.database.db import Store, new_id, open_store
from heedful.store.kinds import KINDS
from heedful.store.membership import members, people
from heedful.web.app import create_app
from workspace import claim, make_project, make_rater, make_task

pytestmark = pytest.mark.long

BIG = 10**400
STRANGE: tuple[Any, ...] = (
    None, True, 0, -1, 7, 1.5, -0.0, 1e308, 5e-324, 2**31, 2**63, -(2**63) - 1, BIG, "", " ", "7", "\x00", "a\x00b",
    "\ud800", "\u202e", "NaN", "x" * 5000, "null", [], [[]], [None], [BIG], ["\x00"], ["\ud800"], [1, "a", None], {},
    {"": ""}, {"\x00": "\x00"}, {"a": {"b": [{"c": []}]}}, {"\ud800": BIG},
)  # fmt: skip


FEW = 3  # of them for each field in the default suite; `-m exhaustive` sends all


def some(how: str, field: str) -> tuple[Any, ...]:
    """The values for a field: all, or some that are others for each field."""
    if how == "all":
        return STRANGE
    return tuple(random.Random(field).sample(STRANGE, FEW))


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


class Owner:
    """An owner's token, a project, and an answered question of each kind."""

    def __init__(self, store: Store, workspace: Path):
        self.store = store
        self.id = make_rater(store, "owner")
        with store.write() as connection:
            _, token = people.make_token(connection, self.id, "t", ["read", "rate", "lead"])
            self.group = members.make_group(connection, "doctors", actor=None)
        self.project = make_project(store, models=["a", "b"])
        self.tasks = {
            name: make_task(
                store, self.project, name, "abc"[: kind.responses[0]], options=kind.example_options
            )
            for name, kind in KINDS.items()
        }
        self.held: list[str] = []
        for _ in self.tasks:
            found = claim(store, self.project, self.id, holding=self.held)
            assert found
            self.held.append(found)
        self.app = create_app(store, workspace=workspace)
        self.client = TestClient(
            self.app, base_url="http://heedful.test", raise_server_exceptions=False,
            headers={"Authorization": f"Bearer {token}"},
        )  # fmt: skip

    def send(self, method: str, path: str, body: Any) -> None:
        """A body, as JSON in ASCII. Whatever it is, the server has a sentence for it."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": new_id()}
        answer = self.client.request(method, path, content=json.dumps(body), headers=headers)
        told = (method, path, json.dumps(body)[:200], answer.status_code, answer.text[:300])
        assert answer.status_code < 500, told
        if answer.is_error:
            assert set(answer.json()) == {"error"}, told
            assert "/src/" not in answer.text and "Traceback" not in answer.text, told


@pytest.fixture
def owner(url: str, tmp_path: Path) -> Iterator[Owner]:
    store = open_store(url)
    yield Owner(store, tmp_path)
    store.close()


def operations(app: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and the properties of the body of each route that takes one."""
    described = app.openapi()
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if content:
                for one in content["schema"].get("oneOf", [content["schema"]]):
                    name = one.get("$ref", "").rpartition("/")[2]
                    found = described["components"]["schemas"][name] if name else one
                    yield method.upper(), path, found.get("properties", {})


USUAL: dict[str, Any] = {
    "login": "somebody", "password": "short", "token": "t", "name": "n", "role": "rater", "old": "o",
    "new": "n",
    "scopes": ["read"], "settings": {}, "body": "b", "url": "http://127.0.0.1/", "answer": {"skip": None}, "said": "s",
    "place": 0, "holding": [], "close": False,
}  # fmt: skip


every = pytest.mark.parametrize("how", ["some", pytest.param("all", marks=pytest.mark.exhaustive)])


@every
def test_every_field_of_every_route(owner: Owner, how: str):
    """Of the wrong type, huge, NUL, halves of characters, nested: one field at a time, the others as they should be."""
    places = {
        "project": owner.project, "project_id": owner.project, "assignment_id": owner.held[0], "rater_id": owner.id,
        "task": owner.tasks["pair"], "group_id": owner.group,
        "job": "none", "reply": "none",
    }  # fmt: skip
    seen = 0
    for method, path, properties in operations(owner.app):
        assert properties, (method, path)
        where = path.format_map(places)
        required = {name: USUAL[name] for name in properties if name in USUAL}
        required |= {name: p["const"] for name, p in properties.items() if "const" in p}
        for body in (None, [], "x", 7, {}, required | {"more": deep(20)}):
            owner.send(method, where, body)
        for name in properties:
            for value in (*some(how, f"{path} {name}"), deep(25)):
                owner.send(method, where, required | {name: value})
                seen += 1
    assert seen > 100


@every
def test_every_part_of_every_answer_and_setting(owner: Owner, how: str):
    """What the routes take as it is: answers of each kind, and settings of projects and raters."""
    for assignment in owner.held:
        path = f"/api/assignments/{assignment}"
        kind = KINDS[owner.client.get(path).json()["kind"]]
        said = dict(kind.example)
        for name in (*said, "text", "confidence", "skip", "flag", "strength"):
            for value in some(how, f"{kind.name} {name}"):
                owner.send("POST", f"{path}/judgments", {"answer": said | {name: value}})
                if isinstance(said.get(name), dict):
                    inner = dict.fromkeys(said[name], value)
                    owner.send("POST", f"{path}/judgments", {"answer": said | {name: inner}})
                elif isinstance(said.get(name), list):
                    owner.send(
                        "POST", f"{path}/judgments", {"answer": said | {name: [value, value]}}
                    )
    settings = owner.client.get(f"/api/projects/{owner.project}").json()["settings"]
    for name in settings:
        for value in some(how, name):
            owner.send("PATCH", f"/api/projects/{owner.project}", {"settings": {name: value}})
    for name in ("daily_limit", "total_limit", "cost_per_hour", "more"):
        for value in some(how, name):
            owner.send("PATCH", f"/api/raters/{owner.id}", {"settings": {name: value}})
    for path in ("", "/overview", "/agreement", "/raters", "/labels", "/aside", "/win-rates"):
        answer = owner.client.get(f"/api/projects/{owner.project}{path}")
        assert answer.status_code == 200, (path, answer.text)
    for what in ("judgments", "comparisons", "demonstrations"):
        for form in ("jsonl", "csv", "parquet"):
            query = {"what": what, "format": form}
            answer = owner.client.get(f"/api/projects/{owner.project}/export", params=query)
            assert answer.status_code == 200, (query, answer.text)
