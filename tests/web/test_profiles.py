"""Profiles that are made by themselves: when their person looks, of new answers, and never of who wants none."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from heedful.store.database.db import Store
from heedful.store.membership import profiles
from heedful.store.project import consent
from heedful.store.rating import work
from heedful.web import profiles as making
from workspace import answer, make_project, make_task

MAKES = """\
import json, sys, time
from pathlib import Path
Path("asked").open("a").write(json.dumps(sys.argv[1:]) + chr(10))
while not Path("go").exists():
    time.sleep(0.02)
print("2 people of capitals have a new profile")
"""


@pytest.fixture
def chosen(tmp_path: Path, stand_in: Any) -> str:
    """A folder of profiles in the workspace, and what stands in for heedful, which a file `go` lets end."""
    stand_in(MAKES)
    (tmp_path / "runs" / "plural").mkdir(parents=True)
    told = [{"sentence": "I like cats.", "z": [1.0]}]
    (tmp_path / "runs" / "plural" / "profiles.json").write_text(json.dumps(told))
    return "runs/plural"


def says(store: Store, project: str, rater: str, kind: str = "pair") -> None:
    texts = ("a", "b") if kind == "pair" else ("a",)
    task = make_task(store, project, kind, texts, question=f"{time.time_ns()}?")
    with store.write() as connection:
        given = work.assign(connection, task, rater)
    answer(store, given, rater, {"value": 1} if kind == "pair" else {"thumbs": [1]})


def made(store: Store, workspace: Path, project: str, rater: str) -> str:
    """What the process keeps."""
    version = making.version(workspace, "runs/plural") or ""
    with store.write() as connection:
        now = profiles.wanted_since(connection, project, rater)
        person = profiles.outdated(connection, project, version, rater)
        told = dict.fromkeys(person, "I like cats.")
        profiles.keep(connection, project, told, version=version, made_at=now)
    return version


def test_a_profile_is_renewed_when_its_person_looks(
    store: Store, person: Any, tmp_path: Path, chosen: str
):
    """Mutations caught: one that is made where no lead has chosen so, of nobody's answers, twice of the same ones, or
    after it was switched off; one that never comes again; a page that does not say that there is one; one of fewer
    answers than it needs, or of as many of which some compare nothing."""
    project, lead, rater = make_project(store), person("lead").browser, person("rater")
    path, settings = f"/api/projects/{project}/profile", f"/api/projects/{project}"

    def standing() -> dict[str, Any]:
        return rater.browser.get(path).json()

    def done() -> None:
        (tmp_path / "go").touch()
        version = made(store, tmp_path, project, rater.id)
        end = time.monotonic() + 30
        while making.last(tmp_path, project, version).running:
            assert time.monotonic() < end
            time.sleep(0.02)

    told = "is found from your answers"
    for _ in range(3):
        says(store, project, rater.id)
    assert not standing()["kept"] and not standing()["stale"]
    assert rater.browser.post(path).json() == {"begun": False}
    assert told not in rater.browser.get(f"/rate/{project}").text
    refused = lead.patch(settings, json={"settings": {"profiles": "runs/plura"}})
    assert refused.status_code == 400 and "runs/plural" in refused.json()["error"]
    assert lead.get(f"{settings}/profiles").json()["sources"] == [{"source": chosen}]
    assert lead.patch(settings, json={"settings": {"profiles": chosen}}).status_code == 200
    assert told in rater.browser.get(f"/rate/{project}").text
    says(store, project, rater.id, kind="thumbs")
    assert standing()["missing"] == 1 and not standing()["stale"]
    assert rater.browser.post(path).json() == {"begun": False}
    says(store, project, rater.id)
    assert standing()["stale"] and not standing()["made"] and not standing()["missing"]
    assert rater.browser.post(path).json() == {"begun": True}
    assert standing()["made"] and not standing()["stale"]
    done()
    assert standing()["sentence"] == "I like cats." and not standing()["stale"]
    words = ["profile", "--workspace", ".", "--project", "capitals"]
    asked = [json.loads(line) for line in (tmp_path / "asked").read_text().splitlines()]
    assert asked == [[*words, "--profiles", "runs/plural/profiles.json"]]
    assert "2 people" in lead.get(f"{settings}/profiles").json()["said"]
    assert rater.browser.post(path).json() == {"begun": False}
    says(store, project, rater.id)
    assert standing()["stale"]
    rater.browser.delete(path)
    assert standing()["off"] and not standing()["stale"]
    assert told not in rater.browser.get(f"/rate/{project}").text
    assert rater.browser.post(path).json() == {"begun": True}  # asked for again
    done()
    assert standing()["sentence"] == "I like cats." and not standing()["off"]
    says(store, project, rater.id)
    with store.write() as connection:
        consent.withdraw(connection, project, rater.id, actor=rater.id)
    assert not standing()["stale"] and standing()["sentence"] is None
