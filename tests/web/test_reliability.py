"""Who can be relied on: a process of its own finds it, pages show what was found."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from heedful.store.project import consent
from heedful.store.tables.schema import rater
from heedful.web import reliability
from workspace import answer, claim, make_project, make_rater, make_task

ADA = {"rater": "ada", "weight": 0.9}
FITS = """\
import json, sys, time
from pathlib import Path
words = sys.argv[1:]
out = Path(words[words.index("--out") + 1])
assert words[:2] == ["raters", "db:.#capitals"], words
if "--labels" in words:
    assert words[2:4] == ["--labels", "dawid_skene"] and out.name.endswith(".labels.json")
    out.write_text(json.dumps({"axes": {"polite": {"raters": [{"rater": "ada"}]}}, "version": "l"}))
    sys.exit()
while not Path("go").exists():
    time.sleep(0.02)
told = Path("go").read_text()
if not told:
    sys.exit("heedful: no comparison has both a rater and an order")
out.write_text(told)
print("a table")
"""


@pytest.fixture
def fits(stand_in: Any) -> None:
    """What stands in for heedful waits for a file `go`."""
    stand_in(FITS)


@pytest.mark.usefixtures("fits")
def test_a_fit_is_made_beside_the_server(store: Any, person: Any, tmp_path: Path):
    """Shown when it is there, one at a time; what fails says why and leaves the older one.

    Labels of single responses have a fit of their own, once there are some. Mutations caught: a request that waits for
    the fit; two at once; a failed fit that is shown as fitted, or hides the
    one before; raters who may look."""
    project = make_project(store)
    lead = person("lead").browser
    path = f"/api/projects/{project}/reliability"

    def done() -> dict[str, Any]:
        end = time.monotonic() + 30
        while (told := lead.get(path).json())["running"] or told["labels"]["running"]:
            assert time.monotonic() < end
            time.sleep(0.02)
        return told

    nothing = lead.get(path).json()
    assert not nothing["running"] and nothing["made_at"] is None and nothing["raters"] == []
    assert lead.post(path, json={}).json() == {"begun": True}
    assert lead.get(path).json()["running"]
    assert lead.post(path, json={}).json() == {"begun": False}
    (tmp_path / "go").write_text(json.dumps({"raters": [ADA], "version": "v", "comparisons": 7}))
    told = done()
    assert told["raters"] == [ADA] and told["version"] == "v" and told["comparisons"] == 7
    assert told["why"] is None and told["made_at"]
    (tmp_path / "go").write_text("")
    assert lead.post(path, json={}).json() == {"begun": True}
    failed = done()
    assert "no comparison has both" in failed["why"] and failed["raters"] == [ADA]
    assert not failed["labels"]["axes"]
    make_task(store, project, kind="thumbs")
    bob = make_rater(store)
    given = claim(store, project, bob)
    assert given is not None
    answer(store, given, bob, {"thumbs": [1, -1]})
    assert lead.post(path, json={}).json() == {"begun": True}
    labelled = done()
    assert labelled["labels"]["axes"]["polite"]["raters"] == [{"rater": "ada"}]
    assert labelled["labels"]["version"] == "l" and labelled["raters"] == [ADA]
    other = person("rater").browser
    assert other.get(path).status_code == other.post(path, json={}).status_code == 403
    private = tmp_path / reliability.FOLDER / f"{project}.log"
    assert private.stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("fits")
def test_who_withdraws_is_not_shown(store: Any, person: Any, tmp_path: Path):
    """At once, whatever was fitted before; and is back once they give their answers again. Of another project's
    withdrawal nothing is seen. Mutations caught: an older fit as it is; a condition on the rater alone."""
    project, other = make_project(store), make_project(store, "other")
    lead, ada = person("lead").browser, make_rater(store)
    place = tmp_path / reliability.FOLDER
    place.mkdir()
    with store.read() as connection:
        name = connection.execute(select(rater.c.pseudonym).where(rater.c.id == ada)).scalar_one()
    told = {"raters": [ADA | {"rater": name}, {"rater": "bob", "weight": 0.5}]}
    for key in (project, other):
        (place / f"{key}.json").write_text(json.dumps(told))

    def shown(key: str) -> tuple[list[str], int]:
        told = lead.get(f"/api/projects/{key}/reliability").json()
        return [one["rater"] for one in told["raters"]], told["withdrawn"]

    with store.write() as connection:
        consent.withdraw(connection, project, ada, actor=ada)
    assert shown(project) == (["bob"], 1) and shown(other) == ([name, "bob"], 0)
    with store.write() as connection:
        consent.give_again(connection, project, ada, actor=ada)
    assert shown(project) == ([name, "bob"], 0)
