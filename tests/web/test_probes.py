"""Attempts to break rules over HTTP: asked for, talked through, counted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import select

from heedful.client import Client
from heedful.store.database.db import Store
from heedful.store.lead.history import history
from heedful.store.tables import schema
from workspace import make_project

RULES = [{"code": "polite", "text": "It is polite."}, {"code": "brief", "text": "It is brief."}]


class Model:
    """Replies with what it was told last."""

    async def replies(self, models: Any, messages: Any, **_how: Any) -> Any:
        rest = {"tokens": [1], "logprobs": [-0.5], "finish_reason": "stop"}
        yield [{"text": f"<b>{messages[-1]['content']}", **rest} for _ in models]

    async def close(self) -> None:
        pass


def test_from_rules_to_shares(store: Store, app: Any, person: Any):
    """A lead asks, a rater talks and judges, the lead reads how often; one reply comes at each turn, without the
    model's name, and as HTML that is harmless.

    Mutations caught: two replies, a reply that must be chosen first, a share of replies."""
    app.state.talk = Model()
    project, lead, rater = make_project(store, models=["a", "b"]), person("lead"), person("rater")
    path = f"/api/projects/{project}/probes"
    asked = lead.browser.post(path, json={"rules": RULES, "talks": 2, "system": "Be kind."})
    assert (asked.status_code, asked.json()) == (201, {"tasks": 2})
    task = rater.browser.post(f"/api/projects/{project}/next", json={}).json()["task"]
    (rule,) = task["options"]["rules"]
    given = f"/api/assignments/{task['assignment']}"
    for said in ("Hi", "And?", "So?"):
        told = rater.browser.post(f"{given}/turns", json={"said": said}).text
        offer = json.loads(told.strip().rpartition("data: ")[2])
        assert [r["text"] for r in offer["replies"]] == [f"<b>{said}"]
        assert "&lt;b&gt;" in offer["replies"][0]["html"] and '"model"' not in told
    page = rater.browser.get(given).json()
    assert [t["chosen"] for t in page["turns"]] == [0, 0, 0]
    answer = {"answer": {"broken": [False, True, None]}}
    sent = rater.browser.post(
        f"{given}/judgments", json=answer, headers={"Idempotency-Key": "k" * 8}
    )
    assert sent.status_code == 201
    (found,) = lead.browser.get(path).json()["rules"]
    assert found["code"] == rule["code"] and found["text"] == rule["text"]
    (of,) = found["models"]
    assert of["model"] in "ab" and (of["talks"], of["broken"], of["value"]) == (1, 1, 1.0)
    assert of["replies"] == {"broken": 1, "kept": 1, "unsure": 1}
    with store.read() as connection:
        flags = connection.execute(
            select(schema.rule_flag.c.place, schema.rule_flag.c.verdict)
        ).all()
        key = connection.execute(select(schema.assignment.c.task)).scalar_one()
        (event,) = [e for e in history(connection, key)["events"] if e["what"] == "answer"]
    assert [tuple(flag) for flag in flags] == [(0, True), (1, False)]
    assert [t["verdict"] for t in event["turns"]] == ["kept", "broken", "unsure"]
    assert [[reply["model"] for reply in t["replies"]] for t in event["turns"]] == [
        [of["model"]]
    ] * 3


@pytest.mark.parametrize(
    "body, words",
    [
        ({"rules": RULES}, "names no models"),
        ({"rules": []}, "rules"),
        ({"rules": [RULES[0], RULES[0]]}, "each rule needs a name of its own"),
        ({"rules": RULES, "min_turns": 9, "max_turns": 2}, "min_turns"),
        ({"rules": RULES, "talks": 0}, "talks"),
    ],
)
def test_what_cannot_be_asked(store: Store, person: Any, body: dict[str, Any], words: str):
    """One sentence, and no question is there. Mutation caught: some rules kept before a bad one is seen."""
    models = [] if words == "names no models" else ["a"]
    project, lead = make_project(store, models=models), person("lead")
    refused = lead.browser.post(f"/api/projects/{project}/probes", json=body)
    assert refused.status_code in (400, 422) and words in refused.text
    with store.read() as connection:
        assert connection.execute(select(schema.task.c.id)).first() is None


def test_in_python():
    """The client's two calls are the two operations. Mutation caught: a field by another name."""
    sent: list[Any] = []

    class Calls(Client):
        def __init__(self) -> None:
            pass

        def _call(self, *call: Any, **_more: Any) -> Any:
            sent.append(call)

    client = Calls()
    client.ask_to_break_rules("p", RULES, talks=3, system="Be kind.")
    client.broken_rules("p")
    body = {"rules": RULES, "talks": 3, "system": "Be kind."}
    assert sent == [("POST", "/api/projects/p/probes", body), ("GET", "/api/projects/p/probes")]
