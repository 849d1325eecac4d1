"""Whatever is sent to any operation of the interface: never an error of the server."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from heedful.store.database.db import Store, new_id
from heedful.store.kinds import KINDS
from heedful.store.membership import people
from heedful.web.app import create_app
from heedful.web.security import COOKIE
from workspace import claim, make_project, make_task

EXAMPLES = 12  # of each operation, half of them about things that are there


class FakeTalk:
    """Two models that always reply."""

    async def replies(self, models: Any, *_: Any, **__: Any) -> AsyncIterator[Any]:
        rest = {"tokens": [1], "logprobs": [-0.5], "finish_reason": "stop"}
        yield 3
        yield [{"text": f"reply of {model}", **rest} for model in models]

    async def close(self) -> None:
        pass


class Owner:
    """An owner with a question of each kind, and a session that is always new."""

    def __init__(self, store: Store, hashed: str):
        self.store = store
        with store.write() as connection:
            token = people.invite(connection, "owner", actor=None)
            self.id = people.accept(connection, token, login="o@e.org", password_hash=hashed)
        self.project = make_project(store, models=["a", "b"])
        self.tasks = [
            make_task(
                store, self.project, name, "abc"[: kind.responses[0]], options=kind.example_options
            )
            for name, kind in KINDS.items()
        ]
        self.given: list[str] = []
        for _ in self.tasks:
            found = claim(store, self.project, self.id, holding=self.given)
            assert found
            self.given.append(found)

    def headers(self) -> dict[str, str]:
        with self.store.write() as connection:
            token, csrf = people.begin_session(connection, self.id)
        return {"Cookie": f"{COOKIE}={token}", "X-CSRF-Token": csrf}

    def places(self, chance: random.Random) -> dict[str, str]:
        """Values of path parameters that lead somewhere."""
        return {
            "project": self.project,
            "project_id": self.project,
            "assignment_id": chance.choice(self.given),
            "task": chance.choice(self.tasks),
            "rater_id": self.id,
            "run": self.run,
            "key": new_id(),
        }

    run = ""


@pytest.fixture
def owner(store: Store, tmp_path: Path, hashed: str) -> Owner:
    from heedful.web import runs

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2, "loss": NaN}\n')
    found = Owner(store, hashed)
    (found.run,) = (r.id for r in runs.find(tmp_path))
    return found


@pytest.mark.long
def test_no_request_is_an_error_of_the_server(store: Store, tmp_path: Path, owner: Owner):
    """Every operation of openapi.json, with generated bodies, paths, queries and headers."""
    import schemathesis  # a second to import, for this test alone

    app = create_app(store, workspace=tmp_path, talk=FakeTalk())
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [found.ok() for found in schema.get_all_operations()]
    described = {(m.upper(), p) for p, all_ in app.openapi()["paths"].items() for m in all_}
    assert {(op.method.upper(), op.path) for op in operations} == described
    statuses: list[int] = []
    failed: dict[str, str] = {}
    for operation in operations:
        send(operation, owner, statuses, failed)
    assert not failed, "\n\n".join(failed.values())
    assert len(statuses) >= EXAMPLES * len(operations) / 3
    assert sum(status < 300 for status in statuses) > len(operations) / 2  # some things were done
    assert statuses.count(401) < len(statuses) / 10


def send(operation: Any, owner: Owner, statuses: list[int], failed: dict[str, str]) -> None:
    """Some requests of one operation; what was an error of the server goes to `failed`."""
    chance = random.Random(0)

    @seed(0)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data(), st.booleans())
    def one(data: st.DataObject, there: bool) -> None:
        case = data.draw(operation.as_strategy())
        if there:
            known = owner.places(chance)
            case.path_parameters = {
                k: known.get(k, v) for k, v in (case.path_parameters or {}).items()
            }
        answer = case.call(headers=owner.headers())
        statuses.append(answer.status_code)
        if answer.status_code >= 500:
            failed.setdefault(operation.label, f"{case.as_curl_command()}\n{answer.text}")

    one()
