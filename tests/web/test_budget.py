"""What an answer, the next question and the lead's overview cost the server, counted and not timed: no machine is
faster at that."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from starlette.testclient import TestClient

from heedful.store.database.db import Store, new_id, open_store
from heedful.store.tables.schema import project as projects
from heedful.web.app import create_app

RESULTS = Path(__file__).parents[2] / "docs" / "results"
PEOPLE = 4
STATEMENTS = {"next": 42, "submit": 22, "overview": 22}  # of SQL, BEGIN and PRAGMA among them
STEPS = {
    "next": 32_000,
    "submit": 700,
    "overview": 20_000,
}  # of SQLite's machine; most count what is left
# More for each answer that the rater has given, and each that is still wanted: these are counted
EACH = {"next": 4, "submit": 0, "overview": 0}
LEFT = {"next": 0, "submit": 0, "overview": 10}


def watched(store: Store) -> Counter[str]:
    """Counts the statements, and the steps of SQLite's machine, of all connections from now on."""
    n: Counter[str] = Counter()

    def step() -> int:
        n["steps"] += 1
        return 0

    store.engine.dispose()  # connections that nobody counts
    event.listen(store.engine, "connect", lambda line, _: line.set_progress_handler(step, 1))
    event.listen(store.engine, "before_cursor_execute", lambda *_: n.update(statements=1))
    return n


def costs(load: Any, folder: Path, judgments: int) -> dict[str, Counter[str]]:
    """Of each name the cheapest request of three, in a project with so many judgments: now and then one also writes
    that its sender is still there."""
    folder.mkdir()
    url = f"sqlite:///{folder / 'heedful.db'}"
    project, led, (token,) = load.fill(url, judgments)
    store = open_store(url)
    with store.write() as connection:  # nothing by chance
        connection.execute(projects.update().values(settings={"gold_rate": 0.0, "swap_rate": 0.0}))
    client = TestClient(create_app(store), headers={"Authorization": f"Bearer {token}"})
    lead = {"Authorization": f"Bearer {led}"}

    def answer() -> dict[str, Counter[str]]:
        n.clear()
        asked = client.post(f"/api/projects/{project}/next", json={"holding": []}).json()["task"]
        next_question = n.copy()
        n.clear()
        said = client.post(
            f"/api/assignments/{asked['assignment']}/judgments",
            json={"answer": {"value": 3}, "active_ms": 2000},
            headers={"Idempotency-Key": new_id()},
        )
        assert said.status_code == 201
        submit = n.copy()
        n.clear()
        page = client.get(f"/api/projects/{project}/overview", headers=lead).json()
        assert page["answers"] > judgments
        return {"next": next_question, "submit": submit, "overview": n.copy()}

    n = watched(store)
    with client:
        answer()  # looks at more than the next ones
        found = [answer() for _ in range(3)]
    store.close()
    return {name: found[0][name] & found[1][name] & found[2][name] for name in STEPS}


def test_an_answer_costs_the_same_among_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With twenty times the judgments, and twice as much that is left to answer. Mutations caught: a look at all
    answers or at all that is left, a query for each of several rows, settings that are read once more."""
    monkeypatch.syspath_prepend(str(RESULTS))
    import load

    monkeypatch.setattr(load, "PEOPLE", PEOPLE)
    monkeypatch.setattr(load, "RATERS", 1)
    monkeypatch.setattr(load, "OPEN", 600)
    few = costs(load, tmp_path / "few", 100)
    monkeypatch.setattr(load, "OPEN", 1200)
    many = costs(load, tmp_path / "many", 2000)
    sys.modules.pop("load")
    for name, most in STATEMENTS.items():
        assert few[name]["statements"] == many[name]["statements"] <= most
        assert few[name]["steps"] <= STEPS[name]
        more = EACH[name] * 1900 / PEOPLE + LEFT[name] * 600 * load.OVERLAP
        assert many[name]["steps"] <= 1.05 * few[name]["steps"] + more
