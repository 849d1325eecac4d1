"""The playground over HTTP: what a lead thinks of a reply becomes a row that `kto` and `bco` read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from heedful.data.files import read_rows
from heedful.store.database.db import Store
from heedful.store.tables import schema
from heedful.transfer.sources import materialise
from heedful.web import playground
from heedful.web.models import Models
from workspace import make_project

PROMPT = [{"role": "user", "content": "Capital of Peru?"}]


class Echo:
    """A model that says what it was told last, in capitals."""

    async def replies(self, models: Any, messages: Any, **how: Any) -> AsyncIterator[Any]:
        yield 3
        text = messages[-1]["content"].upper()
        yield [{"text": text, "tokens": [5, 6], "logprobs": [-0.5, -1.5], "finish_reason": "stop"}]

    async def close(self) -> None:
        pass


@pytest.fixture
def project(app: Any, store: Store, tmp_path: Path) -> str:
    app.state.talk, app.state.models = Echo(), Models(tmp_path, ("echo",))
    # Of a held-out prompt nothing is trained on.
    return make_project(store, talk_tokens=7, talk_temperature=0.5)


def play(who: Any, project: str, messages: Any = PROMPT, model: str = "echo") -> Any:
    body = {"model": model, "messages": messages}
    return who.browser.post(f"/api/projects/{project}/playground", json=body)


def thumb(who: Any, project: str, reply: str, value: int) -> Any:
    path = f"/api/projects/{project}/playground/{reply}"
    return who.browser.put(path, json={"thumb": value})


def test_a_reply_as_one_likes_it(store: Store, person, project: str):
    """The model hears one's own profile before the conversation, and what it says then is not to be judged: the profile
    would be read by others. Mutations caught: somebody else's profile, a profile that nobody asked for."""
    lead, heard = person("lead"), []
    path, body = f"/api/projects/{project}/playground", {"model": "echo", "messages": PROMPT}
    said = Echo.replies

    async def listening(self: Echo, models: Any, messages: Any, **how: Any) -> AsyncIterator[Any]:
        heard.append(messages)
        async for event in said(self, models, messages, **how):
            yield event

    Echo.replies = listening
    try:
        refused = lead.browser.post(path, json=body | {"for_me": True})
        assert (refused.status_code, "no profile" in refused.json()["error"]) == (400, True)
        lead.browser.put(f"/api/projects/{project}/profile", json={"sentence": "I like cats."})
        assert lead.browser.post(path, json=body | {"for_me": True}).json()["reply"] is None
        assert lead.browser.post(path, json=body).json()["reply"]
    finally:
        Echo.replies = said
    assert heard == [[{"role": "system", "content": "I like cats."}, *PROMPT], PROMPT]


def test_a_thumb_becomes_a_row_for_kto(store: Store, person, project: str, tmp_path: Path):
    """Mutations caught: the thumb's sign lost; a turned thumb that counts twice; a reply without one kept; the tokens,
    the model or the conversation left out."""
    lead = person("lead")
    first = play(lead, project).json()
    assert first["text"] == "CAPITAL OF PERU?" and "CAPITAL" in first["html"]
    longer = [*PROMPT, {"role": "assistant", "content": first["text"]}]
    longer.append({"role": "user", "content": "in one word"})
    second = play(lead, project, longer).json()
    play(lead, project, [{"role": "user", "content": "nobody judges this"}])
    for reply, value in ((first, 1), (second, -1), (first, -1), (first, 1)):
        assert thumb(lead, project, reply["reply"], value).json() == {"thumb": value}
    with store.read() as connection:
        judgments = connection.execute(select(schema.judgment)).all()
        made = connection.execute(select(schema.completion)).all()
        tasks = connection.execute(select(schema.task)).all()
    assert sorted(j.revision for j in judgments) == [1, 1, 2, 3]
    assert {j.rater for j in judgments} == {lead.id} and len(tasks) == len(made) == 2
    assert {(c.model, tuple(c.token_ids), tuple(c.logprobs), c.engine) for c in made} == {
        ("echo", (5, 6), (-0.5, -1.5), "torch")
    }
    assert made[0].sampling == {"max_tokens": 7, "temperature": 0.5} and made[0].seed is not None
    path = materialise(f"db:{tmp_path}#capitals", "unpaired", split="all")
    rows = {row["completion"][0]["content"]: row for _, row in read_rows(Path(path))}
    assert {text: row["label"] for text, row in rows.items()} == {
        "CAPITAL OF PERU?": True,
        "IN ONE WORD": False,
    }
    assert rows["IN ONE WORD"]["prompt"] == longer


def test_what_is_refused(store: Store, app, person, project: str, monkeypatch):
    """In a sentence, and nothing is stored: another's reply, one of another project, one that is forgotten, an empty
    one; no model, no user's message. Raters do not come in."""
    lead, other, rater = person("lead"), person("lead"), person("rater")
    reply = play(lead, project).json()["reply"]
    elsewhere = make_project(store, "elsewhere")
    for who, where, key in (
        (other, project, reply),
        (lead, elsewhere, reply),
        (lead, project, "none"),
    ):
        refused = thumb(who, where, key, 1)
        assert refused.status_code == 400 and "not here any more" in refused.json()["error"]
    assert thumb(lead, project, reply, 0).status_code == 422
    assert thumb(rater, project, reply, 1).status_code == 403
    assert play(rater, project).status_code == 403
    ends = play(lead, project, [*PROMPT, {"role": "assistant", "content": "Lima"}])
    assert ends.status_code == 400 and "the last message must be the user's" in ends.json()["error"]
    assert "none of the models" in play(lead, project, model="/etc").json()["error"]
    blank = play(lead, project, [{"role": "user", "content": " "}]).json()["reply"]
    assert "an empty reply" in thumb(lead, project, blank, 1).json()["error"]
    monkeypatch.setattr(playground, "MOST", 1)
    play(lead, project)
    assert thumb(lead, project, reply, 1).status_code == 400
    app.state.talk = None
    assert play(lead, project).json() == {"error": "this server has no models to talk to"}
    with store.read() as connection:
        assert connection.execute(select(schema.task)).all() == []
