"""Training runs in the workspace's folders, while they grow and after they have ended."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from heedful.errors import UserError
from heedful.web import runs


def make_run(workspace: Path, name: str = "runs/dpo", rows: int = 2) -> Path:
    folder = workspace / name
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(line(i) for i in range(rows)))
    return folder


def line(step: int, **more: Any) -> str:
    return json.dumps({"step": step, "seconds": step * 0.5, "loss": 1.0} | more) + "\n"


def only(workspace: Path) -> runs.RunFolder:
    (found,) = runs.find(workspace)
    return found


def test_runs_and_reports_are_found(tmp_path: Path):
    """Those that changed last first; what lies in folders of checkpoints and data is nobody's run."""
    old, new = make_run(tmp_path, "runs/a/ppo"), make_run(tmp_path, "runs/b")
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "report.html").write_text("<p>report</p>")
    for age, path in ((300, old / "metrics.jsonl"), (200, new / "metrics.jsonl")):
        os.utime(path, (time.time() - age,) * 2)
    for hidden in ("runs/b/checkpoints/1", "exports/x", ".trash/x", "a/b/c/d/e/f/g"):
        make_run(tmp_path, hidden)
    about = [runs.about(found) for found in runs.find(tmp_path)]
    assert [a["name"] for a in about] == ["demo", "runs/b", "runs/a/ppo"]
    assert [a["metrics"] for a in about] == [False, True, True]
    assert [a["report"] for a in about] == [True, False, False]
    assert [(a["step"], a["seconds"]) for a in about] == [(None, None), (1, 0.5), (1, 0.5)]
    assert about[0]["state"] == "report"


def test_states(tmp_path: Path):
    """A run that is silent for long has stopped, unless its model is there."""
    folder = make_run(tmp_path)
    assert runs.about(only(tmp_path))["state"] == "running"
    long_ago = time.time() - runs.ALIVE - 5
    os.utime(folder / "metrics.jsonl", (long_ago, long_ago))
    assert runs.about(only(tmp_path))["state"] == "stopped"
    (folder / "config.json").write_text("{}")
    assert runs.about(only(tmp_path))["state"] == "finished"
    assert runs.rows(only(tmp_path), 0)["state"] == "finished"


def test_metrics_grow(tmp_path: Path):
    """`next` gives what is new, once; a line that is half written comes when it is whole."""
    folder = make_run(tmp_path)
    found = only(tmp_path)
    first = runs.rows(found, 0)
    assert [r["step"] for r in first["rows"]] == [0, 1] and not first["restarted"]
    assert runs.rows(found, first["next"])["rows"] == []
    whole = line(2) + line(3)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(whole[:-7])
    second = runs.rows(found, first["next"])
    assert [r["step"] for r in second["rows"]] == [2]
    assert runs.rows(found, second["next"]) == second | {"rows": []}
    assert runs.about(found)["step"] == 2
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(whole[-7:])
    third = runs.rows(found, second["next"])
    assert [r["step"] for r in third["rows"]] == [3]
    assert third["next"] == (folder / "metrics.jsonl").stat().st_size


def test_a_long_run_comes_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No answer is longer than the limit, and no row is lost between two."""
    make_run(tmp_path, rows=500)
    monkeypatch.setattr(runs, "MAX_BYTES", 1000)
    steps, at = [], 0
    for _ in range(500):
        part = runs.rows(only(tmp_path), at)
        if not part["rows"]:
            break
        steps += [r["step"] for r in part["rows"]]
        at = part["next"]
    assert steps == list(range(500))


def test_a_run_that_began_anew_says_so(tmp_path: Path):
    """Its file is shorter than what was read: the curves begin anew too."""
    folder = make_run(tmp_path, rows=10)
    found = only(tmp_path)
    after = runs.rows(found, 0)["next"]
    (folder / "metrics.jsonl").write_text(line(0))
    again = runs.rows(found, after)
    assert again["restarted"] and [r["step"] for r in again["rows"]] == [0]
    assert not runs.rows(found, again["next"])["restarted"]
    (folder / "metrics.jsonl").unlink()
    assert runs.rows(found, 5) == {"rows": [], "next": 0, "state": "stopped", "restarted": True}


@pytest.mark.parametrize(
    "written, row",
    [
        ('{"step": 1, "loss": NaN}', {"step": 1, "loss": None}),
        ('{"step": 1, "loss": -Infinity}', {"step": 1, "loss": None}),
        ('{"step": 1, "loss": 1e999}', {"step": 1, "loss": None}),
        ('{"step": 1, "text": "\\ud800"}', {"step": 1, "text": "\ud800"}),
        ("no JSON", None),
        ("[1, 2]", None),
        ("[" * 100_000, None),
        ("\x00\xff", None),
    ],
    ids=lambda value: str(value)[:20].encode("ascii", "replace").decode(),
)
def test_whatever_is_in_the_file(tmp_path: Path, person, written: str, row: dict | None):
    """What JSON cannot carry is null, what is no row is left out, and the rows around it are there."""
    folder = make_run(tmp_path, rows=1)
    text = line(0).encode() + written.encode("latin-1") + b"\n" + line(2).encode()
    (folder / "metrics.jsonl").write_bytes(text)
    lead = person("lead").browser
    (found,) = lead.get("/api/runs").json()
    assert found["step"] == 2
    said = lead.get(f"/api/runs/{found['id']}/metrics")
    assert said.status_code == 200
    expected = [json.loads(line(0)), *([row] if row else []), json.loads(line(2))]
    assert said.json()["rows"] == expected
    assert said.json()["next"] == len(text)


def test_over_http(tmp_path: Path, person):
    """The same numbers; a run that is not there is one sentence."""
    folder = make_run(tmp_path)
    (folder / "config.yaml").write_text("seed: <b>7</b>\n")
    lead = person("lead").browser
    (found,) = lead.get("/api/runs").json()
    part = lead.get(f"/api/runs/{found['id']}/metrics").json()
    assert [r["step"] for r in part["rows"]] == [0, 1]
    assert lead.get(f"/api/runs/{found['id']}/metrics", params={"after": part["next"]}).json() == {
        "rows": [],
        "next": part["next"],
        "state": "running",
        "restarted": False,
    }
    page = lead.get(f"/runs/{found['id']}")
    assert page.status_code == 200 and "seed: &lt;b&gt;7" in page.text
    for path in ("/api/runs/0123456789abcdef/metrics", f"/api/runs/{found['id']}/report"):
        refused = lead.get(path)
        assert refused.status_code == 400 and set(refused.json()) == {"error"}
    assert lead.get(f"/api/runs/{found['id']}/metrics?after=-1").status_code == 422


def test_a_report_is_shown_in_a_sandbox(tmp_path: Path, person):
    """Its own script may run, with no origin: it cannot read the session, nor call anybody."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "report.html").write_bytes("<script>draw()</script>é".encode())
    lead = person("lead").browser
    (found,) = lead.get("/api/runs").json()
    report = lead.get(f"/api/runs/{found['id']}/report")
    assert report.content == "<script>draw()</script>é".encode()
    policy = report.headers["content-security-policy"]
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
    assert rules["sandbox"] == "allow-scripts" and rules["default-src"] == "'none'"
    assert rules["frame-ancestors"] == "'self'" and "connect-src" not in rules
    assert report.headers["x-frame-options"] == "SAMEORIGIN"
    assert report.headers["x-content-type-options"] == "nosniff"


def test_links_are_not_followed(tmp_path: Path, person):
    """Neither folders nor single files: they could lead out of the workspace."""
    workspace, outside = tmp_path, tmp_path.parent / f"{tmp_path.name}-outside"
    make_run(outside, "secret")
    for name in ("report.html", "config.yaml"):
        (outside / "secret" / name).write_text("secret")
    (workspace / "runs").mkdir()
    (workspace / "runs" / "link").symlink_to(outside / "secret")
    assert runs.find(workspace) == []
    for real in ("metrics.jsonl", "report.html"):
        folder = workspace / "runs" / f"with-{real}"
        folder.mkdir()
        for name in ("metrics.jsonl", "report.html", "config.yaml"):
            if name == real:
                (folder / name).write_text(line(7))
            else:
                (folder / name).symlink_to(outside / "secret" / name)
    lead = person("lead").browser
    found = {f["name"]: f for f in lead.get("/api/runs").json()}
    assert {n: (f["metrics"], f["report"], f["step"]) for n, f in found.items()} == {
        "runs/with-metrics.jsonl": (True, False, 7),
        "runs/with-report.html": (False, True, None),
    }
    for f in found.values():
        for path in (f"/runs/{f['id']}", f"/api/runs/{f['id']}/report"):
            assert "secret" not in lead.get(path).text
        rows = lead.get(f"/api/runs/{f['id']}/metrics").json()["rows"]
        assert [r["step"] for r in rows] == ([7] if f["metrics"] else [])


def test_an_id_is_no_path(tmp_path: Path):
    """It is compared with what is there, and never opened."""
    for key in ("../../etc", "..", "", "/etc/passwd", "runs/dpo"):
        make_run(tmp_path, f"runs/{len(key)}")
        with pytest.raises(UserError, match="no such run"):
            runs.find_one(tmp_path, key)
