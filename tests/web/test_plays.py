"""Environments are played in the browser: a play is a demonstration, and two of one task are a comparison."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from heedful.cli import main
from heedful.data.shown import as_messages
from heedful.data.sources import read_demonstrations
from heedful.envs import load_env
from heedful.envs.host import Host, reply
from heedful.store.database.db import Store
from heedful.transfer.sources import materialise
from heedful.web import plays as web_plays
from heedful.web.plays import Plays
from workspace import make_project, make_task

CALCULATOR = "calculator(digits=2)"
HOSTILE = "calculate(expression='<img src=x onerror=alert(1)>')"


class Here(Plays):
    """The environments' process within this one: a real one takes long to begin."""

    def __init__(self) -> None:
        super().__init__((CALCULATOR,))
        self.host = Host(self.names)

    async def ask(self, env: str, **request: Any) -> dict[str, Any]:
        if env not in self.names:
            return await super().ask(env, **request)
        told: list[dict[str, Any]] = []
        await reply(self.host, {"id": 0, "env": env, **request}, told.append)
        return json.loads(json.dumps(told[0]))


@pytest.fixture
def project(app: Any, store: Store) -> str:
    app.state.plays = Here()
    return make_project(store, "sums")


def post(browser: TestClient, path: str, body: dict, status: int = 200, **more: Any) -> Any:
    told = browser.post(path, json=body, **more)
    assert told.status_code == status, told.text
    return told.json()


def next_of(browser: TestClient, project: str, *holding: str) -> Any:
    return post(browser, f"/api/projects/{project}/next", {"holding": [*holding]})["task"]


def played(browser: TestClient, project: str, *first: str) -> list[dict[str, Any]]:
    """Plays the next question with the tool, after saying `first`, and sends it; returns what was told turn by turn."""
    task = next_of(browser, project)
    place = f"/api/assignments/{task['assignment']}"
    row = load_env(CALCULATOR).tasks("train", 0)[task["options"]["task"] - 1]
    assert [m["text"] for m in task["prompt"]] == [m["content"] for m in row["prompt"]]
    told = [post(browser, f"{place}/play", {})]
    for said in (*first, f"It is {row['answer']}."):
        early = {"answer": {"turns": max(1, told[-1]["turns"])}}
        post(
            browser,
            f"{place}/judgments",
            early,
            400,
            headers={"Idempotency-Key": f"early-{said}"[:60]},
        )
        told.append(post(browser, f"{place}/play", {"said": said}))
    answer = {"answer": {"turns": len(first) + 1}}
    key = {"Idempotency-Key": f"key-{task['assignment']}"}
    post(browser, f"{place}/judgments", answer, 201, headers=key)
    refused = post(browser, f"{place}/play", {"said": "More."}, 400)
    assert refused["error"] == "this play is over"
    assert post(browser, f"{place}/play", {}) == told[-1]  # looked at again
    return told


def test_from_an_environment_to_comparisons(
    app: Any, store: Store, person: Any, project: str, tmp_path: Path
):
    """A lead offers tasks, two raters play each; each turn of the plays is a demonstration that `train sft` reads, with
    its call and the tools; and each two plays are shown side by side, whole and without their worth.

    Mutations caught: a play that can be sent before it is over, or gone on with afterwards; markup of a turn that is
    live on the page; a demonstration that has lost its call; rewards told to those who compare; somebody
    who is asked to compare a play of their own.
    """
    lead, ann, bob = person("lead").browser, person("rater").browser, person("rater").browser
    cem = person("rater").browser
    place = f"/api/projects/{project}/plays"
    assert lead.get(place).json() == {"envs": [CALCULATOR]}
    wanted = {"env": CALCULATOR, "tasks": 2, "overlap": 2, "max_turns": 4}
    assert post(lead, place, wanted, 201) == {"tasks": 2}
    assert post(lead, place, wanted, 201) == {"tasks": 0}  # the same again adds nothing
    told = played(ann, project, HOSTILE)
    assert told[0]["tools"][0]["name"] == "calculate" and told[0]["turns"] == 0
    assert "&lt;img src=x" in told[1]["html"] and "<img" not in told[1]["html"]
    assert told[2]["over"] and told[2]["reward"] == 1
    for browser in (ann, bob, bob):
        played(browser, project)
    source = materialise(f"db:{tmp_path}#sums", "demonstrations")
    shown = read_demonstrations(source)
    assert len(shown) == 5
    (called,) = [d for d in shown if d.tool_calls]
    assert called.tool_calls[0]["function"]["name"] == "calculate"
    answers = [d for d in shown if not d.tool_calls]
    assert all(d.completion.startswith("It is ") and d.prompt[0].tools for d in answers)
    assert sorted(len(d.prompt) for d in shown)[-1] == len(called.prompt) + 2  # call, its answer
    assert post(lead, f"{place}/compare", {}, 201) == {
        "tasks": 1
    }  # of the other both said the same
    for player in (ann, bob):
        nothing = post(player, f"/api/projects/{project}/next", {"holding": []})
        assert (nothing["task"], nothing["progress"]["waiting"]) == (None, 0)
    task = next_of(cem, project)
    assert task["kind"] == "pair" and len(task["responses"]) == 2
    assert all(as_messages(r["text"]) and "reward" not in r["html"] for r in task["responses"])
    post(
        cem, f"/api/assignments/{task['assignment']}/judgments", {"answer": {"value": 1}}, 201,
        headers={"Idempotency-Key": "compared"},
    )  # fmt: skip
    rows = lead.get(f"/api/projects/{project}/export?what=comparisons&format=jsonl").text
    assert len(rows.splitlines()) == 1


def test_whose_play_it_is(app: Any, store: Store, person: Any, project: str):
    """Mutation caught: somebody else's play can be gone on with, or a rater asks for plays."""
    lead, ann, bob = person("lead").browser, person("rater").browser, person("rater").browser
    post(lead, f"/api/projects/{project}/plays", {"env": CALCULATOR, "tasks": 1}, 201)
    task = next_of(ann, project)
    place = f"/api/assignments/{task['assignment']}/play"
    assert post(bob, place, {"said": "1"}, 400)["error"] == "there is no such assignment"
    post(bob, f"/api/projects/{project}/plays", {"env": CALCULATOR}, 403)
    for path, body in ((f"{place}", {"said": " "}), (f"{place}", {"said": ""})):
        post(ann, path, body, 400 if body["said"] else 422)
    refused = post(lead, f"/api/projects/{project}/plays", {"env": "os:system"}, 400)["error"]
    assert "none of the environments to play: there are calculator(digits=2)" in refused
    make_task(store, project, "write", ())
    other = next_of(ann, project, task["assignment"])
    said = post(ann, f"/api/assignments/{other['assignment']}/play", {"said": "1"}, 400)
    assert said["error"] == "this task is no play"
    turns = f"/api/assignments/{task['assignment']}/turns"
    assert "no conversation" in post(ann, turns, {"said": "1"}, 400)["error"]


def test_a_process_that_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """It is ended, and the next question starts another.

    Mutation caught: one environment that never answers holds up all plays for ever.
    """
    (tmp_path / "hangs.py").write_text("import sys, time\nsys.stdin.readline()\ntime.sleep(60)\n")
    monkeypatch.setattr(web_plays, "PATIENCE", 0.5)
    there = Plays(("a",), (sys.executable, str(tmp_path / "hangs.py")))

    async def ask() -> str:
        with pytest.raises(web_plays.UserError) as refused:
            await there.ask("a", play="p")
        return str(refused.value)

    import asyncio

    assert asyncio.run(ask()) == "the environment did not answer in time; try it again"


def test_what_is_no_environment_is_told_before_anything_is_opened(tmp_path: Path, capsys: Any):
    """Mutation caught: a name that the first rater who plays is told of; a check of the first name only."""
    words = ["serve", str(tmp_path / "work"), "--envs", CALCULATOR, "maze(size=77)"]
    assert main(words) == 2
    assert "maze: size is 2 to 9" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]
