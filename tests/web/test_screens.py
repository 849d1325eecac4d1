"""Several questions on one screen over HTTP: a project's list, its form, answers by name, exports of one question."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from heedful.store.database.db import Store, new_id
from heedful.store.kinds import SCREEN
from heedful.store.project import screens, starters
from heedful.store.tables import schema
from workspace import make_task

WEBGPT = list(starters.STARTERS["webgpt"].questions)


@pytest.mark.parametrize("name", starters.STARTERS)
def test_what_a_project_may_begin_with_can_be_asked(name: str):
    """Every starter is a list that is taken, has rows to train on, and says where it is from."""
    starter = starters.STARTERS[name]
    questions = screens.questions_of(
        SCREEN, {"questions": screens.checked_list(list(starter.questions))}
    )
    assert starter.source and all(q.title for q in questions)
    assert questions[0].required


def test_a_project_of_several_questions(person: Callable[..., Any], store: Store):
    """Made, asked, answered by name, corrected, exported of one question and of all.

    Mutation caught: settings that are kept as they came, without the defaults that the page reads."""
    lead = person("lead").browser
    made = lead.post("/api/projects", json={"name": "w", "settings": {"questions": WEBGPT}})
    project = made.json()["id"]
    kept = lead.get(f"/api/projects/{project}").json()["settings"]["questions"]
    assert [q["name"] for q in kept] == [q["name"] for q in WEBGPT]
    assert kept[0]["options"] == {} and kept[1]["required"] is False
    changed = lead.patch(
        f"/api/projects/{project}", json={"settings": {"questions": [*WEBGPT, WEBGPT[0]]}}
    )
    assert changed.status_code == 400 and "two questions" in changed.json()["error"]
    make_task(store, project, SCREEN, options={"questions": WEBGPT})
    rater = person("rater").browser

    def submit(task: str, said: Any) -> Any:
        path = f"/api/assignments/{task}/judgments"
        return rater.post(path, json={"answer": said}, headers={"Idempotency-Key": new_id()})

    task = rater.post(f"/api/projects/{project}/next", json={}).json()["task"]
    assert [q["title"] for q in task["questions"]] == [q["title"] for q in WEBGPT]
    refused = submit(task["assignment"], {"reason": {"text": "because"}})
    assert refused.status_code == 400 and "'overall' needs an answer" in refused.json()["error"]
    said = {"overall": {"value": 1}, "reason": {"text": "because"}}
    assert submit(task["assignment"], said).status_code == 201
    assert rater.get(f"/api/assignments/{task['assignment']}").json()["answer"] == said
    assert submit(task["assignment"], said | {"support": {"tie": True}}).json()["revision"] == 2
    export = f"/api/projects/{project}/export?what="
    (row,) = map(json.loads, lead.get(f"{export}judgments").text.splitlines()[-1:])
    assert row["reason.text"] == "because" and row["support.outcome"] == "tie"
    compared = lead.get(f"{export}comparisons&question=support")
    manifest = json.loads(compared.headers["X-Heedful-Manifest"])
    assert manifest["excluded"] == {"corrected later": 1, "tie": 1}
    assert len(lead.get(f"{export}comparisons").text.splitlines()) == 1
    wrong = lead.get(f"{export}comparisons&question=suport")
    assert wrong.status_code == 400 and "did you mean 'support'" in wrong.json()["error"]
    task_id = store_task(store)
    told = lead.get(f"/api/tasks/{task_id}").json()
    assert {e.get("question") for e in told["events"] if e["what"] == "tie"} == {"support"}
    for part in ("screen", "files", "agreement"):
        assert lead.get(f"/lead/{project}/{part}").status_code == 200


def store_task(store: Store) -> str:
    with store.read() as connection:
        return connection.execute(schema.task.select()).one().id
