"""Conversations over HTTP, and the process that the models talk from: here a small script."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from heedful.errors import UserError
from heedful.store.database.db import Store, Unavailable
from heedful.store.tables import schema
from heedful.web import talk as web_talk
from heedful.web.app import create_app
from heedful.web.models import Models
from heedful.web.routes import talk as route
from heedful.web.talk import Talk
from workspace import make_project, make_task

# Speaks as recipes/talk.py does. What it is to do stands in the last message.
WORKER = """
import json, os, sys, time
print("starts", os.getpid(), file=open(sys.argv[1], "a"))
waiting = []
for line in sys.stdin:
    ask = json.loads(line)
    word = ask["messages"][-1]["content"]
    def say(**what):
        print(json.dumps({"id": ask["id"], **what}), flush=True)
    if word == "die":
        os._exit(9)
    if word == "babble":
        print("Loading weights: 100%", flush=True)
        continue
    if word == "hang":
        print(ask["id"], file=open(os.path.dirname(sys.argv[1]) + "/hanging", "a"))
        continue
    if word == "fail" and ask["model"].endswith("b"):
        say(error="the model failed: out of memory")
        continue
    if word == "backwards":
        waiting.append(ask)
        if len(waiting) < 2:
            continue
        for ask in reversed(waiting):
            say(text=ask["model"], tokens=[1], logprobs=[-0.5], finish_reason="stop")
        waiting = []
        continue
    for n in (1, 2, 3):
        say(heard=n)
    text = json.dumps(ask, sort_keys=True) if word == "echo" else word + " says " + ask["model"]
    say(text=text, tokens=[1, 2, 3], logprobs=[-0.5, -0.5, -0.5], finish_reason="stop")
"""


class Worker:
    """A Talk with the script, and the ids of the processes that it has started."""

    def __init__(self, folder: Path):
        (folder / "worker.py").write_text(WORKER)
        self._log, self._hanging = folder / "started", folder / "hanging"
        self.talk = Talk(
            Models(folder, ("a", "b", "org/name")),
            (sys.executable, str(folder / "worker.py"), str(self._log)),
        )

    @property
    def started(self) -> list[int]:
        return [int(line.split()[1]) for line in self._log.read_text().splitlines()]

    async def heard(self, n: int) -> None:
        """Until the process has n asks that it leaves hanging."""
        while self._hanging.read_text().count("\n") < n if self._hanging.exists() else True:
            await asyncio.sleep(0.01)

    async def ask(self, word: str, models: tuple[str, ...] = ("a", "b")) -> list[Any]:
        messages = [{"role": "user", "content": word}]
        return [
            news
            async for news in self.talk.replies(
                models, messages, max_tokens=9, temperature=0.5, seeds=range(len(models))
            )
        ]


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return Worker(tmp_path)


def test_progress_then_both_replies(worker: Worker):
    """Tokens of both together, and at last the replies in the models' order; one process serves all."""

    async def run() -> None:
        *heard, replies = await worker.ask("Hi")
        assert heard == sorted(heard) and heard[-1] == 6 and all(type(n) is int for n in heard)
        assert [r["text"] for r in replies] == ["Hi says a", "Hi says b"]
        rest = {"tokens": [1, 2, 3], "logprobs": [-0.5] * 3, "finish_reason": "stop"}
        assert replies[0] == {"text": "Hi says a"} | rest
        (*_, backwards) = await worker.ask("backwards")
        assert [r["text"] for r in backwards] == ["a", "b"]
        assert len(worker.started) == 1
        await worker.talk.close()

    asyncio.run(run())


def test_what_the_worker_is_told(worker: Worker, tmp_path: Path):
    """A folder of the workspace by its path, everything else by its name; each reply has its seed."""
    (tmp_path / "runs" / "dpo").mkdir(parents=True)
    (tmp_path / "runs" / "dpo" / "config.json").write_text("{}")

    async def run() -> None:
        (*_, replies) = await worker.ask("echo", ("runs/dpo", "org/name"))
        await worker.talk.close()
        asked = [json.loads(r["text"]) for r in replies]
        assert [a["model"] for a in asked] == [str((tmp_path / "runs/dpo").resolve()), "org/name"]
        assert [a["seed"] for a in asked] == [0, 1]
        assert {(a["max_tokens"], a["temperature"]) for a in asked} == {(9, 0.5)}
        assert asked[0]["messages"] == [{"role": "user", "content": "echo"}]

    asyncio.run(run())


def test_conversations_at_once_do_not_mix(worker: Worker):
    """Each hears its own replies."""

    async def run() -> None:
        found = await asyncio.gather(*(worker.ask(f"word {i}") for i in range(8)))
        await worker.talk.close()
        for i, (*_, replies) in enumerate(found):
            assert [r["text"] for r in replies] == [f"word {i} says a", f"word {i} says b"]
        assert len(worker.started) == 1

    asyncio.run(run())


def test_what_a_model_could_not_do_is_a_sentence(worker: Worker):
    """One conversation's error, and the process goes on."""

    async def run() -> None:
        with pytest.raises(UserError, match="the model failed: out of memory"):
            await worker.ask("fail")
        assert (await worker.ask("Hi"))[-1][1]["text"] == "Hi says b"
        assert len(worker.started) == 1
        await worker.talk.close()

    asyncio.run(run())


def test_a_process_that_ends_is_started_again(worker: Worker):
    """Whoever waited hears one sentence at once; the next who speaks is answered by a new process."""

    async def run() -> None:
        for word in ("die", "babble"):
            with pytest.raises(UserError, match="has ended; say it again"):
                await asyncio.wait_for(worker.ask(word), 60)
            (*_, replies) = await asyncio.wait_for(worker.ask("Hi"), 60)
            assert replies[0]["text"] == "Hi says a"
        waits = [asyncio.ensure_future(worker.ask("hang")) for _ in range(2)]
        await worker.heard(4)
        os.kill(worker.started[-1], signal.SIGKILL)
        for wait in waits:
            with pytest.raises(UserError, match="has ended; say it again"):
                await asyncio.wait_for(wait, 60)
        await asyncio.wait_for(worker.ask("Hi"), 60)
        assert len(worker.started) == 4
        await worker.talk.close()

    asyncio.run(run())


def test_patience_has_an_end(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """A process that says nothing is ended; the next who speaks starts another."""

    async def run() -> None:
        await worker.ask("Hi")
        monkeypatch.setattr(web_talk, "PATIENCE", 60.0)
        long = asyncio.ensure_future(worker.ask("hang"))
        await worker.heard(2)
        monkeypatch.setattr(web_talk, "PATIENCE", 0.3)
        short = asyncio.ensure_future(worker.ask("hang"))
        for wait, words in ((short, "did not reply in time"), (long, "has ended")):
            with pytest.raises(UserError, match=words):
                await asyncio.wait_for(wait, 60)
        monkeypatch.setattr(web_talk, "PATIENCE", 60.0)
        assert (await worker.ask("Hi"))[-1][0]["text"] == "Hi says a"
        assert len(worker.started) == 2
        await worker.talk.close()

    asyncio.run(run())


class Fake:
    """Models that reply at once, or as a test says."""

    def __init__(self, *news: Any, error: Exception | None = None):
        self.news, self.error, self.asked = news, error, []

    async def replies(self, models: Any, messages: Any, **how: Any) -> AsyncIterator[Any]:
        self.asked.append((models, messages, how))
        for news in self.news:
            yield news
        if self.error:
            raise self.error
        rest = {"tokens": [1], "logprobs": [-0.5], "finish_reason": "stop"}
        yield [{"text": f"**{i}** <b>\ud800", **rest} for i in range(len(models))]

    async def close(self) -> None:
        pass


@pytest.fixture
def fake(app: Any) -> Iterator[Fake]:
    app.state.talk = Fake(3, 7)
    yield app.state.talk
    assert route._replying == set()


def begin(store: Store, rater: Any, **settings: Any) -> str:
    """The assignment of a conversation."""
    project = make_project(store, models=["a", "b"], **settings)
    make_task(store, project, "chat", ())
    return rater.browser.post(f"/api/projects/{project}/next", json={}).json()["task"]["assignment"]


def say(rater: Any, given: str, said: str = "Hi") -> Any:
    return rater.browser.post(f"/api/assignments/{given}/turns", json={"said": said})


def events(answer: Any) -> list[tuple[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in answer.text.strip().split("\n\n"):
        name, data = block.split("\n")
        assert name.startswith("event: ") and data.startswith("data: ")
        found.append((name[7:], json.loads(data[6:])))
    return found


def test_a_conversation_over_http(store: Store, person, fake: Fake):
    """Progress, both replies together and blinded, the choice, the next turn, the answer."""
    rater = person("rater")
    given = begin(store, rater, talk_tokens=5, talk_temperature=0.25)
    found = events(say(rater, given))
    assert found[:-1] == [("progress", {"tokens": n}) for n in (0, 3, 7)]
    name, offer = found[-1]
    assert name == "offer" and set(offer) == {"replies"}
    assert [set(r) for r in offer["replies"]] == [{"text", "html"}] * 2
    assert {r["text"] for r in offer["replies"]} == {f"**{i}** <b>\ud800" for i in range(2)}
    assert all("&lt;b&gt;" in r["html"] and "<strong>" in r["html"] for r in offer["replies"])
    assert say(rater, given).status_code == 409
    with store.read() as connection:
        row = connection.execute(select(schema.offer)).one()
    models, _, how = fake.asked[0]
    assert [c["model"] for c in row.candidates] == list(models)
    assert [c["seed"] for c in row.candidates] == how["seeds"]
    assert row.candidates[0]["sampling"] == {"temperature": 0.25, "max_tokens": 5}
    page = rater.browser.get(f"/api/assignments/{given}").json()
    assert page["turns"] == [{"said": "Hi", "replies": offer["replies"], "chosen": None}]
    chosen = {"place": 1, "strength": 0.5}
    done = rater.browser.post(f"/api/assignments/{given}/turns/choose", json=chosen)
    assert done.json() == {"turns": 1}
    events(say(rater, given, "And?"))
    said = [m["content"] for m in fake.asked[1][1]]
    assert said[-3:] == ["Hi", offer["replies"][1]["text"], "And?"]
    rater.browser.post(f"/api/assignments/{given}/turns/choose", json={"place": 0})
    answer = rater.browser.post(
        f"/api/assignments/{given}/judgments",
        json={"answer": {"turns": 2}},
        headers={"Idempotency-Key": "key-00000001"},
    )
    assert answer.status_code == 201


@pytest.mark.parametrize(
    "error, words",
    [
        (UserError("the model failed: out of memory"), "the model failed: out of memory"),
        (Unavailable("locked"), "the database cannot take this now; say it again"),
    ],
)
def test_an_error_is_an_event(store: Store, app, person, error: Exception, words: str):
    """Nothing is kept, and the same can be said again."""
    rater = person("rater")
    given = begin(store, rater)
    app.state.talk = Fake(2, error=error)
    found = events(say(rater, given))
    assert found == [
        ("progress", {"tokens": 0}),
        ("progress", {"tokens": 2}),
        ("error", {"error": words}),
    ]
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.offer)).scalar() == 0
    app.state.talk = Fake()
    assert events(say(rater, given))[-1][0] == "offer"


def test_what_is_refused_has_a_status(store: Store, app, person, fake: Fake, monkeypatch):
    """Before a model is asked: nothing said, two at once, too often, no models."""
    rater = person("rater")
    given = begin(store, rater)
    assert say(rater, given, " ").status_code == 400
    assert say(rater, given, "").status_code == 422
    assert say(rater, given, "x" * 20_001).status_code == 422
    route._replying.add(given)
    assert say(rater, given).json() == {"error": "the models are still replying"}
    route._replying.discard(given)
    monkeypatch.setattr(route, "TURNS", route.limits.Limit(0, 60.0))
    assert say(rater, given).status_code == 429
    monkeypatch.setattr(route, "TURNS", route.limits.Limit(20, 3.0))
    app.state.talk = None
    assert say(rater, given).json() == {"error": "this server has no models to talk to"}
    assert fake.asked == []
    app.state.talk = fake


def test_with_a_real_process(store: Store, person, worker: Worker, tmp_path: Path):
    """From the browser to the script and back; the process ends with the server."""
    from starlette.testclient import TestClient

    app = create_app(store, workspace=tmp_path, talk=worker.talk)
    rater = person("rater")
    given = begin(store, rater)
    with TestClient(app, base_url="http://heedful.test", headers=rater.browser.headers) as client:
        client.cookies.update(rater.browser.cookies)
        found = events(client.post(f"/api/assignments/{given}/turns", json={"said": "Hi"}))
        assert {r["text"] for r in found[-1][1]["replies"]} == {"Hi says a", "Hi says b"}
    with pytest.raises(ProcessLookupError):
        os.kill(worker.started[0], 0)


def test_models_are_a_list(tmp_path: Path):
    """Folders of the workspace and what the server was started with: no way out, no name that is fetched unasked."""
    workspace, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    for folder in (
        workspace / "runs" / "sft",
        workspace / "runs" / "sft" / "checkpoints" / "step-1",
        elsewhere,
    ):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    (workspace / "empty").mkdir()
    (workspace / "link").symlink_to(elsewhere)
    models = Models(workspace, ("org/name",))
    assert models.names() == ["org/name", "runs/sft"]
    kinds = {"runs/new": {}, "runs/reward": {"architectures": ["LlamaForSequenceClassification"]}}
    for name, told in kinds.items():
        (workspace / name).mkdir()
        (workspace / name / "config.json").write_text(json.dumps(told))
    os.utime(workspace / "runs" / "sft" / "config.json", (1.0, 1.0))
    assert models.names() == ["org/name", "runs/new", "runs/sft"]  # the newest folder first
    assert models.rewards() == ["runs/reward", "org/name"]
    models.refuse(["runs/sft", "org/name", "runs/sft/checkpoints/step-1", "runs/../runs/sft"])
    wrong = [str(elsewhere), "../elsewhere", "link", "empty", "org/other", "", ".", "runs/\0", 1]
    wrong.append(str(workspace / "runs/sft"))
    for name in wrong:
        with pytest.raises(UserError, match="none of the models"):
            models.refuse([name])
    with pytest.raises(UserError, match="did you mean 'runs/sft'"):
        models.refuse(["runs/stf"])
    with pytest.raises(UserError, match="not here to talk to"):
        models.path("../elsewhere")
    assert models.path("runs/sft") == str(workspace / "runs" / "sft")
