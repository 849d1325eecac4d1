"""The rater's interface: blinded questions, answers kept once, one's own only."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest

from heedful.store.database.db import Store
from workspace import expire_lease, make_project, make_task, make_tasks

SHOWN = {
    "assignment", "kind", "state", "lease_seconds", "prompt", "language", "responses", "options", "guidelines",
    "turns", "answer", "revision", "questions", "trial", "suggestion", "critiques",
}  # fmt: skip


def ask(person, project: str, **body):
    said = person.browser.post(f"/api/projects/{project}/next", json=body)
    assert said.status_code == 200, said.text
    return said.json()


def answer(person, assignment: str, said: dict, key: str = "key-00000001"):
    return person.browser.post(
        f"/api/assignments/{assignment}/judgments",
        json={
            "answer": said,
            "active_ms": 1200,
            "wall_ms": 1500,
            "client_at": 1.0,
            "ui_version": "t",
        },
        headers={"Idempotency-Key": key},
    )


def test_a_question_shows_nothing_that_unblinds(store: Store, person):
    """The whole payload by white list: a new key has to be thought about."""
    project = make_project(store)
    make_task(store, project, score=0.3)
    task = ask(person("rater"), project)["task"]
    assert set(task) == SHOWN
    assert [set(r) for r in task["responses"]] == [{"label", "text", "html"}] * 2
    assert [set(t) for t in task["prompt"]] == [{"role", "text", "html"}]


def test_gold_and_swaps_look_like_any_other(store: Store, person):
    project = make_project(store, gold_rate=1.0)
    make_task(store, project, question="ordinary?")
    make_task(store, project, question="gold?", gold={"ranks": {}})
    rater = person("rater")
    shapes = []
    for i in range(2):
        task = ask(rater, project)["task"]
        shapes.append({k: type(v) for k, v in task.items()})
        answer(rater, task["assignment"], {"value": 1}, f"key-{i:08}")
    assert shapes[0] == shapes[1]


def test_an_answer_is_kept_once(store: Store, person):
    project, rater = make_project(store), person("rater")
    make_task(store, project)
    given = ask(rater, project)["task"]["assignment"]
    first = answer(rater, given, {"value": 1})
    assert (first.status_code, first.json()["disposition"]) == (201, "counted")
    again = answer(rater, given, {"value": 1})
    assert (again.status_code, again.json()) == (200, first.json())
    assert answer(rater, given, {"value": 2}).status_code == 409
    undone = answer(rater, given, {"value": 2}, "key-00000002")
    assert undone.json()["revision"] == 2
    page = rater.browser.get(f"/api/assignments/{given}").json()
    assert page["answer"] == {"value": 2} and page["revision"] == 2


def test_a_late_answer_is_kept_and_says_so(store: Store, person):
    project, rater, other = make_project(store), person("rater"), person("rater")
    make_task(store, project)
    given = ask(rater, project)["task"]["assignment"]
    with store.write() as connection:
        expire_lease(connection, given)
    ask(other, project)
    assert answer(rater, given, {"value": 1}).json()["disposition"] == "surplus"


def test_the_next_question_can_be_loaded_ahead(store: Store, person):
    project, rater = make_project(store), person("rater")
    make_tasks(store, project, 5)
    first = ask(rater, project)["task"]["assignment"]
    second = ask(rater, project, holding=[first])["task"]["assignment"]
    assert first != second
    third = ask(rater, project, holding=[first, second])["task"]["assignment"]
    assert ask(rater, project, holding=[first, second, third])["task"] is None


def test_why_there_is_nothing(store: Store, person):
    project, rater = make_project(store, daily_limit=1), person("rater")
    make_tasks(store, project, 2)
    found = ask(rater, project)
    assert found["progress"]["daily_limit"] == 1 and found["progress"]["waiting"] == 2
    answer(rater, found["task"]["assignment"], {"value": 1})
    assert ask(rater, project)["why"] == "daily limit"
    assert rater.browser.get(f"/api/projects/{project}/progress").json()["today"] == 1


def test_what_is_told_before_the_first_question(store: Store, person):
    """Shown instead of a question, cleaned, until its newest version is agreed to; who withdraws is in no export, also
    when a lead does it, who cannot undo what a rater has done. Mutations caught: raw HTML, a question beside the
    text."""
    project, rater, lead = make_project(store), person("rater"), person("lead")
    make_tasks(store, project, 2)
    path = f"/api/projects/{project}"
    body = {"body": "**Kept.** <script>x</script>"}
    version = lead.browser.put(f"{path}/disclosure", json=body).json()["id"]
    reply = ask(rater, project)
    assert (reply["task"], reply["why"]) == (None, "disclosure")
    assert reply["disclosure"]["id"] == version and "<script" not in reply["disclosure"]["html"]
    assert "<strong>Kept.</strong>" in reply["disclosure"]["html"]
    stale = rater.browser.post(f"{path}/consent", json={"version": "another"})
    assert (stale.status_code, "has changed" in stale.json()["error"]) == (400, True)
    assert rater.browser.post(f"{path}/consent", json={"version": version}).json() == {"done": True}
    reply = ask(rater, project)
    assert reply["disclosure"] is None
    answer(rater, reply["task"]["assignment"], {"value": 1})
    exported = f"{path}/export?what=rankings"
    assert len(lead.browser.get(exported).text.splitlines()) == 1
    assert rater.browser.get(f"{path}/consent").json()["agreed_at"]
    rater.browser.put(f"{path}/consent/withdrawn", json={"withdrawn": True})
    assert lead.browser.get(exported).text == ""
    assert ask(rater, project)["why"] == "withdrawn"
    theirs = f"{path}/members/{rater.id}/withdrawn"
    assert lead.browser.put(theirs, json={"withdrawn": False}).status_code == 400
    rater.browser.put(f"{path}/consent/withdrawn", json={"withdrawn": False})
    assert lead.browser.put(theirs, json={"withdrawn": True}).json() == {"done": True}
    assert lead.browser.get(f"{path}/raters").json()["raters"][0]["withdrawn"]
    assert lead.browser.get(exported).text == ""


def test_a_profile_is_its_owners(store: Store, person):
    """Seen, changed and deleted by who it is of, and by nobody else. Mutation caught: one profile for all."""
    project, rater, other = make_project(store), person("rater"), person("lead")
    path = f"/api/projects/{project}/profile"
    nothing = {"sentence": None, "theirs": None, "made_at": None, "kept": False, "stale": False}
    nothing |= {"made": False, "off": False, "missing": 0}
    assert rater.browser.get(path).json() == nothing
    assert rater.browser.put(path, json={"sentence": "Short ones."}).json() == {"done": True}
    assert rater.browser.get(path).json()["sentence"] == "Short ones."
    assert other.browser.get(path).json() == nothing
    assert rater.browser.put(path, json={"sentence": " "}).status_code == 400
    assert rater.browser.delete(path).json() == {"done": True}
    assert rater.browser.get(path).json() == nothing | {"off": True}


def test_somebody_elses_assignment_does_not_exist(store: Store, person):
    project, rater, other = make_project(store), person("rater"), person("lead")
    make_task(store, project)
    given = ask(rater, project)["task"]["assignment"]
    assert other.browser.get(f"/api/assignments/{given}").status_code == 400
    assert answer(other, given, {"value": 1}).status_code == 400


@pytest.mark.parametrize(
    "said, key, status",
    [
        ({"value": 9}, "key-00000001", 400),
        ({"value": 1}, "short", 422),
        ([], "key-00000001", 422),
    ],
)
def test_a_wrong_answer_is_one_sentence(store: Store, person, said, key, status):
    project, rater = make_project(store), person("rater")
    make_task(store, project)
    given = ask(rater, project)["task"]["assignment"]
    refused = answer(rater, given, said, key)
    assert refused.status_code == status
    assert set(refused.json()) == {"error"} and "\n" not in refused.json()["error"]


def test_any_text_travels(store: Store, person):
    """NUL and lone surrogates in what a model wrote must not be an error of the server."""
    project, rater = make_project(store), person("rater")
    make_task(store, project, responses=("a\x00\ud800\udfff", "\u202eb"))
    task = ask(rater, project)["task"]
    # JSON itself joins two halves that stand side by side.
    assert {r["text"] for r in task["responses"]} == {"a\x00\U000103ff", "\u202eb"}
    assert any("␀" in r["html"] for r in task["responses"])
    assert any("RLO" in r["html"] for r in task["responses"])
    said = rater.browser.post(
        f"/api/assignments/{task['assignment']}/judgments",
        content='{"answer": {"value": 1, "text": "half \\ud800 and \\u0000"}}',
        headers={"Idempotency-Key": "key-00000001", "Content-Type": "application/json"},
    )
    assert said.status_code == 201, said.text
    kept = rater.browser.get(f"/api/assignments/{task['assignment']}").json()
    assert kept["answer"]["text"] == "half \ud800 and \x00"


def test_pages_send_strangers_to_the_login(store: Store, app, person):
    from web.conftest import browser

    project = make_project(store)
    stranger = browser(app)
    for path in ("/rate", f"/rate/{project}", "/account", "/people"):
        moved = stranger.get(path, follow_redirects=False)
        target = urljoin(f"https://e.org/prefix{path}", moved.headers["location"])
        assert moved.status_code == 303 and target == f"https://e.org/prefix/login?next={path}"
    assert person("rater").browser.get(f"/rate/{project}").status_code == 200
    assert person("rater").browser.get("/rate/nothing").status_code == 404
