"""Files over HTTP: only leads, whole or refused, any text back, and nothing of the server's disk told."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from databases import new_store
from heedful.data.files import write_rows
from heedful.store.database.db import Store
from heedful.store.membership import people
from heedful.store.tables import schema
from heedful.web import app as web
from heedful.web.doors import Terms
from heedful.web.routes import transfer
from workspace import make_project, make_rater

ASKED = [{"role": "user", "content": "What is the capital of Peru?"}]
PAIRS = [
    {"prompt": ASKED, "chosen": "Lima.", "rejected": "<img src=x onerror=alert(1)>"},
    {"prompt": ASKED, "chosen": "=1+1", "rejected": "\u202eabc é e\u0301"},
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = new_store(tmp_path / "heedful.db")
    yield opened
    opened.close()


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go, so that a test can see whether they have gone."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def client_of(store: Store, role: str, *scopes: str) -> TestClient:
    rater = make_rater(store, role)
    with store.write() as connection:
        _, token = people.make_token(connection, rater, "t", scopes or ("read", "lead"))
    headers = {"Authorization": f"Bearer {token}"}
    return TestClient(web.create_app(store), headers=headers, raise_server_exceptions=False)


def file_of(rows: list[dict], tmp_path: Path, name: str = "c.jsonl") -> bytes:
    write_rows(tmp_path / name, rows)
    return (tmp_path / name).read_bytes()


def bring(client: TestClient, project: str, body: bytes, **params):
    headers = params.pop("headers", {})
    params = {"what": "comparisons", "name": "c.jsonl"} | params
    return client.post(
        f"/api/projects/{project}/import", params=params, content=body, headers=headers
    )


@pytest.mark.parametrize("format", ["jsonl", "jsonl.gz", "csv", "csv.gz", "parquet"])
def test_out_and_in_again(store, tmp_path, scratch, format):
    """The manifest in the header is the file's, and sent back with it brings every text home."""
    lead, project = client_of(store, "lead"), make_project(store)
    assert bring(lead, project, file_of(PAIRS, tmp_path)).json()["judgments"] == 2
    response = lead.get(
        f"/api/projects/{project}/export", params={"what": "comparisons", "format": format}
    )
    manifest = json.loads(response.headers["X-Heedful-Manifest"])
    assert hashlib.sha256(response.content).hexdigest() == manifest["sha256"]
    assert (manifest["rows"], manifest["file"]) == (2, f"comparisons.{format}")
    assert response.headers["content-disposition"].startswith("attachment")
    assert response.headers["x-content-type-options"] == "nosniff"
    other = make_project(store, "other")
    headers = {"X-Heedful-Manifest": response.headers["X-Heedful-Manifest"]}
    name = f"x.{format}"
    added = bring(lead, other, response.content, name=name, headers=headers)
    assert added.json()["judgments"] == 2, added.text
    again = {"what": "comparisons", "snapshot": manifest["snapshot"], "format": format}
    assert lead.get(f"/api/projects/{project}/export", params=again).content == response.content
    exported = lead.get(f"/api/projects/{other}/export", params={"what": "comparisons"})
    texts = {t for r in exported.text.splitlines() for t in _texts(json.loads(r))}
    assert texts == {r[side] for r in PAIRS for side in ("chosen", "rejected")}
    assert list(scratch.iterdir()) == []


def _texts(row: dict) -> tuple[str, str]:
    return row["chosen"][0]["content"], row["rejected"][0]["content"]


@pytest.mark.parametrize(
    ("role", "scopes", "reads", "writes"),
    [
        ("owner", ("read", "lead"), 200, 200),
        ("lead", ("lead",), 200, 200),
        ("lead", ("read",), 200, 403),
        ("lead", ("rate",), 403, 403),
        ("rater", ("read", "rate", "lead"), 403, 403),
    ],
)
def test_only_leads(store, tmp_path, role, scopes, reads, writes):
    client, project = client_of(store, role, *scopes), make_project(store)
    url = f"/api/projects/{project}/export?what=judgments"
    assert client.get(url).status_code == reads
    assert bring(client, project, file_of(PAIRS, tmp_path)).status_code == writes
    stranger = TestClient(web.create_app(store))
    assert stranger.get(url).status_code == 401
    assert bring(stranger, project, b"{}").status_code == 401


def test_what_does_not_fit_is_one_sentence_without_the_servers_paths(store, tmp_path, scratch):
    lead, project = client_of(store, "lead"), make_project(store)
    bad = file_of([*PAIRS, {"prompt": "p", "chosen": "a", "rejected": "a"}], tmp_path)
    for body, params, words in [
        (bad, {}, "c.jsonl:3"),
        (b"", {}, "empty"),
        (b"\xff\xff", {}, "UTF-8"),
        (b"\xff\xfe", {}, "empty"),  # the mark of UTF-16, and nothing behind it
        (b"{}", {"name": "c.exe"}, "name must end in"),
        (bad, {"name": "../../../etc/c.jsonl"}, "c.jsonl:3"),
        (b"PAR1", {"name": "c.parquet"}, "not Parquet"),
        (bad, {"ask": "pair"}, "means nothing"),
        (bad, {"headers": {"X-Heedful-Manifest": "{}"}}, "no manifest"),
    ]:
        response = bring(lead, project, body, **params)
        assert response.status_code == 400, response.text
        said = response.json()["error"]
        assert words in said
        assert "/" not in said.replace("heedful[parquet]", ""), said
        assert bring(lead, project, file_of(PAIRS, tmp_path), what="nonsense").status_code == 422
    assert list(scratch.iterdir()) == []
    for params in ({"what": "nonsense"}, {"what": "scores", "format": "xlsx"}):
        answer = lead.get(f"/api/projects/{project}/export", params=params)
        assert answer.status_code == 422


def test_a_project_that_is_not_there(store, tmp_path):
    lead = client_of(store, "lead")
    for response in (
        bring(lead, "nonsense", file_of(PAIRS, tmp_path)),
        lead.get("/api/projects/nonsense/export?what=judgments"),
    ):
        assert (response.status_code, response.json()) == (
            400,
            {"error": "there is no such project"},
        )


def test_a_file_that_is_too_long_is_refused(store, tmp_path, scratch, monkeypatch):
    """Declared or not: 413, nothing kept, nothing cut."""
    monkeypatch.setattr(transfer.take_in, "terms", Terms(body=1000))
    lead, project = client_of(store, "lead"), make_project(store)
    body = file_of(PAIRS * 20, tmp_path)
    assert bring(lead, project, body).status_code == 413
    chunks = (body[i : i + 100] for i in range(0, len(body), 100))
    assert bring(lead, project, chunks).status_code == 413
    assert list(scratch.iterdir()) == []
    assert lead.get(f"/api/projects/{project}/export?what=prompts").content == b""


def test_samples_with_questions(store, tmp_path):
    lead, project = client_of(store, "lead"), make_project(store)
    rows = [{"prompt": ASKED, "completion": text, "model": "m"} for text in ("a", "b")]
    body = file_of(rows, tmp_path)
    added = bring(lead, project, body, what="samples", ask="pair", overlap=3).json()
    assert (added["tasks"], added["responses"]) == (1, 2)
    options = json.dumps({"axes": [{"name": "helpful"}]})
    added = bring(lead, project, body, what="samples", ask="rate", options=options).json()
    assert added["tasks"] == 2


def test_a_look_first(store, tmp_path, scratch):
    """What a file holds, or why it cannot be read and which columns it has. Mutation caught: a look that writes."""
    project = make_project(store)
    client = client_of(store, "lead")
    seen = bring(client, project, file_of([*PAIRS, PAIRS[0]], tmp_path), dry_run=True).json()
    assert seen["counts"]["comparisons"] == 2 and seen["counts"]["duplicates"] == 1
    assert seen["columns"] == ["prompt", "chosen", "rejected"] and len(seen["first"]) == 2
    other = file_of([{"frage": "Why?", "a": "So.", "b": "No."}], tmp_path)
    seen = bring(client, project, other, dry_run=True).json()
    assert seen["columns"] == ["frage", "a", "b"] and "c.jsonl:1" in seen["problem"]
    assert str(scratch) not in seen["problem"]
    seen = bring(client, project, other, dry_run=True, columns="prompt=frage,chosen=a,rejected=b")
    assert seen.json()["first"] == [
        {"prompt": "Why?", "responses": ["So.", "No."], "ranking": [1, 2]}
    ]
    with store.read() as connection:
        assert not connection.execute(select(schema.prompt)).all()
