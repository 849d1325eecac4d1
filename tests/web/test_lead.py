"""What a lead sees: every number beside one that was counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import heedful as hd
from heedful.evals.ratings import elo
from heedful.store.database.db import Store, new_id
from heedful.store.lead import quality
from heedful.store.lead.quality import Answer
from heedful.store.project import consent, content
from heedful.store.rating import judging
from heedful.store.tables import schema
from heedful.types import Message
from heedful.web import alerts, insight
from workspace import claim, make_project, make_rater, make_task

LONG = "long " * 4


def get(lead: Any, project: str, part: str, **query: Any) -> Any:
    said = lead.browser.get(f"/api/projects/{project}/{part}", params=query)
    assert said.status_code == 200, said.text
    return said.json()


def answer(store: Store, given: str, rater: str, said: dict[str, Any]) -> None:
    """In a hundred seconds."""
    with store.write() as connection:
        judging.submit(connection, given, rater, said, key=new_id(), active_ms=100_000)


def compare(
    store: Store, project: str, question: str, score: float, models: str = "mn", overlap: int = 2
) -> str:
    """A question with a long response of one model and a short one of another, for two raters or more."""
    with store.write() as connection:
        prompt = content.add_prompt(connection, project, (Message("user", question),))
        ids = [
            content.add_completion(connection, prompt, text, model=model)
            for text, model in zip((LONG, "short"), models, strict=True)
        ]
        return content.add_task(
            connection, project, "pair", prompt, ids, overlap=overlap, score=score
        )


def judge(store: Store, project: str, rater: str, better: str, **said: Any) -> str:
    """The rater's next question, answered for the response with this text ("tie" for neither); the task's id."""
    given = claim(store, project, rater)
    assert given
    task, texts = shown(store, given)
    if better == "tie":
        answer(store, given, rater, {"tie": True} | said)
    else:
        answer(store, given, rater, {"better": texts.index(better), "strength": 1.0} | said)
    return task


def shown(store: Store, assignment: str) -> tuple[str, list[str]]:
    a, t, c = schema.assignment.c, schema.task.c, schema.completion.c
    with store.read() as connection:
        row = connection.execute(
            select(a.order_shown, t.completions, t.id)
            .join(schema.task, t.id == a.task)
            .where(a.id == assignment)
        ).one()
        texts = dict(map(tuple, connection.execute(select(c.id, c.text))))
    return row.id, [texts[row.completions[i]] for i in row.order_shown]


def test_a_project_and_its_settings(person):
    """Made, found, changed; what is not named stays."""
    lead = person("lead")
    made = lead.browser.post(
        "/api/projects", json={"name": " Wörter ", "settings": {"gold_rate": 0}}
    )
    assert made.status_code == 201
    project = made.json()["id"]
    (listed,) = lead.browser.get("/api/projects").json()
    assert (listed["id"], listed["name"], listed["stored"]) == (project, "Wörter", 0)
    changed = lead.browser.patch(
        f"/api/projects/{project}", json={"settings": {"daily_limit": 7, "skips_until_parked": 2}}
    )
    assert changed.status_code == 200
    settings = lead.browser.get(f"/api/projects/{project}").json()["settings"]
    assert settings == changed.json()["settings"]
    assert (settings["gold_rate"], settings["daily_limit"]) == (0, 7)
    assert settings["skips_until_parked"] == 2 and settings["order"] == "random"


@pytest.mark.parametrize(
    "values, words",
    [
        ({"gold_rat": 0.1}, "unknown setting 'gold_rat' (did you mean 'gold_rate'?)"),
        ({"gold_rate": "much"}, "must be of type float, not 'much'"),
        ({"gold_rate": 1.5}, "is a probability, not 1.5"),
        ({"daily_limit": 1.5}, "must be of type int"),
        ({"daily_limit": True}, "must be of type int"),
        ({"daily_limit": None}, "must be of type int"),
        ({"daily_limit": -1}, "cannot be negative"),
        ({"lease_minutes": 0}, "must be above 0"),
        ({"lease_minutes": 1e300}, "lease_minutes"),
        ({"cost_per_hour": 1e300}, "cost_per_hour"),
        ({"order": "alphabetical"}, "order must be random or priority"),
        ({"models": "a"}, "must be of type tuple"),
        ({"models": ["http://e.org/model"]}, "a folder or a name on the hub"),
        ({"models": [1]}, "a folder or a name on the hub"),
        ({"models": ["a\0b"]}, "a folder or a name on the hub"),
        ({"skips_until_parked": 0}, "at least 1"),
    ],
)
def test_settings_that_do_not_fit(person, store: Store, values: dict, words: str):
    """One sentence, for a new project and for one that is there; and nothing changes."""
    lead, project = person("lead"), make_project(store)
    before = lead.browser.get(f"/api/projects/{project}").json()
    new = lead.browser.post("/api/projects", json={"name": "new", "settings": values})
    changed = lead.browser.patch(f"/api/projects/{project}", json={"settings": values})
    for refused in (new, changed):
        assert refused.status_code == 400
        assert set(refused.json()) == {"error"}
        assert words in refused.json()["error"] and "\n" not in refused.json()["error"]
    assert lead.browser.get(f"/api/projects/{project}").json() == before
    assert len(lead.browser.get("/api/projects").json()) == 1


def test_numbers_that_json_has_no_words_for(person, store: Store):
    """Infinity and NaN, which Python's parser accepts, are refused too."""
    lead, project = person("lead"), make_project(store)
    for name in ("gold_rate", "lease_minutes", "cost_per_hour", "talk_temperature"):
        for value in ("NaN", "Infinity", "-Infinity", "1e999"):
            refused = lead.browser.patch(
                f"/api/projects/{project}",
                content=f'{{"settings": {{"{name}": {value}}}}}',
                headers={"Content-Type": "application/json"},
            )
            assert refused.status_code in (400, 422), (name, value)


def test_names(person):
    """Nameless and twice the same: one sentence."""
    lead = person("lead")
    assert lead.browser.post("/api/projects", json={"name": "a"}).status_code == 201
    for name in ("", "  ", "a", " a "):
        refused = lead.browser.post("/api/projects", json={"name": name})
        assert refused.status_code == 400 and set(refused.json()) == {"error"}


def test_no_such_project(person):
    """Every page of a project that is not there is one sentence."""
    lead = person("lead")
    for part in ("", "/overview", "/agreement", "/raters", "/disagreements", "/labels", "/aside"):  # fmt: skip
        refused = lead.browser.get(f"/api/projects/nothing{part}")
        assert (refused.status_code, refused.json()) == (400, {"error": "there is no such project"})


def test_the_newest_guidelines_are_shown_and_kept_with_the_answer(store: Store, person):
    """Also of questions made before they were written; what was shown with a question stays with it.

    Mutations caught: the version of the day of the import; a record of what would be shown today.
    """
    lead, rater, project = person("lead"), person("rater"), make_project(store)
    path = f"/api/projects/{project}/guidelines"
    for i in range(2):
        make_task(store, project, question=f"before {i}")

    def ask(*holding: str) -> dict[str, Any]:
        body = {"holding": list(holding)}
        return rater.browser.post(f"/api/projects/{project}/next", json=body).json()["task"]

    one = ask()
    assert one["guidelines"] is None
    first = lead.browser.put(path, json={"body": "*Be* <b>kind</b>"}).json()
    assert first["html"].strip() == "<p><em>Be</em> &lt;b&gt;kind&lt;/b&gt;</p>"
    assert lead.browser.put(path, json={"body": "*Be* <b>kind</b>"}).json() == first
    again = ask()
    assert again["assignment"] == one["assignment"] and again["guidelines"]["id"] == first["id"]
    second = lead.browser.put(path, json={"body": "Be brief"}).json()
    two = ask(one["assignment"])
    assert two["guidelines"]["id"] == second["id"]
    reloaded = rater.browser.get(f"/api/assignments/{one['assignment']}").json()
    assert reloaded["guidelines"]["id"] == first["id"]
    for task in (one, two):
        answer(store, task["assignment"], rater.id, {"value": 1})
    versions = lead.browser.get(f"/api/projects/{project}").json()["guidelines"]
    seen = [(v["id"], v["body"], v["shown"]) for v in versions]
    assert seen == [(second["id"], "Be brief", 1), (first["id"], "*Be* <b>kind</b>", 1)]
    exported = lead.browser.get(f"/api/projects/{project}/export?what=judgments").text.splitlines()
    assert {json.loads(row)["guidelines"] for row in exported} == {first["id"], second["id"]}


@pytest.fixture
def judged(store: Store) -> dict[str, Any]:
    """Two raters and four questions: they agree on one, oppose in one, one calls a tie, one question is open.

    Four responses of `long` and `short` each; one answer was corrected, and one question skipped by both.
    """
    project = make_project(store, skips_until_parked=2, cost_per_hour=36.0, order="priority")
    ada, bob = make_rater(store), make_rater(store, cost_per_hour=72.0)
    for i, name in enumerate(("same", "opposite", "tied")):
        compare(store, project, name, 9 - i)
    found: dict[str, Any] = {"project": project, "ada": ada, "bob": bob}
    for name, a, b in (("same", LONG, LONG), ("opposite", LONG, "short"), ("tied", "tie", "short")):
        found[name] = judge(store, project, ada, a)
        assert judge(store, project, bob, b) == found[name]
    return found


def test_the_overview(store: Store, person, judged):
    """Every judgment went one way."""
    lead, project = person("lead"), judged["project"]
    make_task(store, project, question="skipped", score=5)
    make_task(store, project, question="open", score=4)
    given = claim(store, project, judged["ada"])
    assert given
    answer(store, given, judged["ada"], {"value": 1})
    answer(store, given, judged["ada"], {"value": 8})  # a correction
    given = claim(store, project, judged["bob"])
    assert given
    answer(store, given, judged["bob"], {"flag": "broken"})
    found = get(lead, project, "overview")
    assert found["stored"] == sum(found["ways"].values()) == 9 and found["answers"] == 7
    ways = {"counted": 7, "late": 0, "surplus": 0, "superseded": 1, "skipped": 0, "flagged": 1}
    assert found["ways"] == ways
    assert found["wanted"] == {"done": 7, "leased": 0, "open": 0, "parked": 1, "closed": 0}
    assert found["parked_tasks"] == 1
    assert sum(n for _, n in found["hours"]) == 7
    assert found["end"]["left"] == 0 and found["end"]["at"] is None
    # Ada's 5 and Bob's 4 judgments of 100 seconds each, at 36 and at 72 an hour.
    assert found["cost"] == {"hours": 0.25, "total": 13.0, "an_answer": 1.8571}
    (listed,) = lead.browser.get("/api/projects").json()
    assert listed["stored"] == 9 and listed["wanted"] == found["wanted"]


def test_disagreements(store: Store, person, judged):
    """The opposite pair first, a tie against a preference after it, agreement not at all."""
    lead, project = person("lead"), judged["project"]
    found = get(lead, project, "disagreements")
    assert found["total"] == 2
    opposite, tied = found["tasks"]
    assert (opposite["task"], opposite["score"]) == (judged["opposite"], 1.0)
    assert (tied["task"], tied["score"]) == (judged["tied"], 0.5)
    assert [a["outcome"] for a in tied["answers"]] == ["tie", "answer"]
    assert sorted(a["ranks"] for a in opposite["answers"]) == [[1, 2], [2, 1]]
    assert "completions" not in opposite and opposite["responses"][1] == "<p>short</p>\n"
    assert not opposite["reviewed"]
    rest = get(lead, project, "disagreements", after=1, limit=1)
    assert [t["task"] for t in rest["tasks"]] == [judged["tied"]] and rest["total"] == 2
    assert lead.browser.get(f"/api/projects/{project}/disagreements?limit=0").status_code == 422


def test_a_review_stands_beside_the_overlap(store: Store, person, judged):
    """The lead's own answer is shown, marked, and changes neither the score nor what is wanted."""
    lead, project = person("lead"), judged["project"]
    before = get(lead, project, "overview")
    given = lead.browser.post(f"/api/tasks/{judged['opposite']}/review").json()
    assert given["project"] == project
    again = lead.browser.post(f"/api/tasks/{judged['opposite']}/review").json()
    assert again == given
    _, texts = shown(store, given["assignment"])
    said = lead.browser.post(
        f"/api/assignments/{given['assignment']}/judgments",
        json={"answer": {"better": texts.index("short"), "strength": 0.5}},
        headers={"Idempotency-Key": new_id()},
    )
    assert said.status_code == 201
    (found, _) = get(lead, project, "disagreements")["tasks"]
    assert found["reviewed"] and found["score"] == 1.0
    assert [a["review"] for a in found["answers"]] == [False, False, True]
    assert found["answers"][2]["ranks"] == [2, 1]
    after = get(lead, project, "overview")
    assert after["wanted"] == before["wanted"]
    assert after["stored"] == before["stored"] + 1
    refused = lead.browser.post(f"/api/tasks/{judged['opposite']}/review")
    assert refused.status_code == 400
    assert lead.browser.post("/api/tasks/nothing/review").status_code == 400


def test_agreement_and_raters(person, judged):
    """One α over three pairs of two raters; how they agree with each other, in counts."""
    lead, project = person("lead"), judged["project"]
    found = get(lead, project, "agreement")
    (measure,) = found["measures"]
    assert (measure["who"], measure["kind"], measure["level"]) == ("people", "pair", "nominal")
    assert (measure["units"], measure["raters"], measure["values"]) == (3, 2, 6)
    assert found["tasks"] == 3 and measure["value"] is not None and measure["value"] < 0.5
    rows = {r["rater"]: r for r in get(lead, project, "raters")["raters"]}
    assert set(rows) == {judged["ada"], judged["bob"]}
    for row in rows.values():
        assert (row["answers"], row["superseded"]) == (3, 0)
        assert (row["others"]["count"], row["others"]["n"]) == (1, 3)
        assert row["gold"]["n"] == 0 and row["swaps"]["n"] == 0
    ties = {who: (row["ties"]["count"], row["ties"]["n"]) for who, row in rows.items()}
    assert ties == {judged["ada"]: (1, 3), judged["bob"]: (0, 3)}
    assert [rows[judged[who]]["first"]["n"] for who in ("ada", "bob")] == [2, 3]


def test_ratings_beside_comparisons(store: Store, person):
    """Two raters compare and rate the same two responses: the higher rated wins once of twice, they compare unlike and
    rate alike; of a project that rates nothing there is nothing.

    Mutations caught: the worse response for the better, ratings of another question's responses, a tie counted."""
    lead, project = person("lead"), make_project(store)
    questions = [
        {"name": "better", "kind": "pair"},
        {"name": "axes", "kind": "rate", "options": {"axes": [{"name": "helpful"}]}},
    ]
    assert get(lead, project, "rated-alike")["axes"] == []
    for question in ("one?", "two?"):
        options = {"questions": questions}
        make_task(store, project, "screen", (LONG, "short"), question, overlap=2, options=options)
    for rater, liked in ((make_rater(store), LONG), (make_rater(store), "short")):
        for _ in range(2):
            given = claim(store, project, rater)
            assert given
            task, texts = shown(store, given)
            with store.read() as connection:
                row = content.task_of(connection, task).one()
                about = select(schema.prompt.c.content).where(schema.prompt.c.id == row.prompt)
                first = connection.execute(about).scalar_one()[0]["content"] == "one?"
            better = {"better": texts.index(liked)} if first else {"tie": True}
            scores = [5 if text == LONG else 1 for text in texts]
            said = {"better": better, "axes": {"scores": {"helpful": scores}}}
            answer(store, given, rater, said)
    found = get(lead, project, "rated-alike")
    (axis,) = found["axes"]
    assert axis["axis"] == "helpful" and found["used"] == 4
    counts = {
        name: (axis[name]["n"], axis[name]["value"])
        for name in ("wins", "equal", "compared", "rated")
    }
    assert counts == {"wins": (2, 0.5), "equal": (2, 0.0), "compared": (1, 0.0), "rated": (1, 1.0)}


def test_labels(person, judged):
    """Four preferences for the longer or the shorter one, and a tie."""
    lead, project = person("lead"), judged["project"]
    found = get(lead, project, "labels")
    pair = found["kinds"]["pair"]
    assert found["used"] == pair["answers"] == 6
    assert pair["outcomes"] == {"answer": 5, "tie": 1}
    strong = [pair["strengths"][place][3] for place in ("first", "second")]
    assert sum(strong) == 5 and pair["strengths"]["unsaid"] == [0, 0]
    assert (found["length"]["count"], found["length"]["n"]) == (3, 5)
    assert found["length"]["bins"][-1]["n"] == 5
    mine = get(lead, project, "labels", rater=judged["ada"])
    assert mine["used"] == 3 and (mine["length"]["count"], mine["length"]["n"]) == (2, 2)
    assert get(lead, project, "labels", rater="nobody")["used"] == 0


def test_win_rates(store: Store, person, judged, tmp_path: Path):
    """Of six comparisons the longer one won three, lost two and tied once; a tie is half a win each."""
    lead, project = person("lead"), judged["project"]
    compare(store, project, "a model is not compared with itself", 1, models="mm")
    judge(store, project, judged["ada"], "short")
    found = get(lead, project, "win-rates")
    rows = {r["model"]: (r["wins"], r["n"]) for r in found["models"]}
    assert rows == {"m": (3.5, 6), "n": (2.5, 6)}
    with store.read() as connection:
        fought = list(insight.battles(connection, project))
    assert len({b.prompt for b in fought}) == 3 and len({b.rater for b in fought}) == 2
    ratings = elo({("m", "n"): 3.5, ("n", "m"): 2.5}, fought)
    # The command's are the page's.
    of_command = hd.run("raters", data=f"db:{tmp_path}", models=True)
    assert json.loads(json.dumps(of_command)) == found["models"]
    assert {r["model"]: (r["elo"], (*r["elo_ci"],)) for r in found["models"]} == ratings
    assert [(r["model"], r["against"], r["wins"]) for r in found["pairs"]] == [
        ("m", "n", 3.5),
        ("n", "m", 2.5),
    ]
    assert {(r["model"], r["round"]) for r in found["rounds"]} == {("m", 0), ("n", 0)}
    assert len(found["weeks"]) == 2 and found["used"] == 7


def test_withdrawn_answers_are_in_no_statistic(store: Store):
    """All is as if they had never been given, and is back once they are given again; of another project's withdrawal
    nothing is seen. Mutations caught: a statistic without the condition; one whose condition is on the rater alone."""
    project = make_project(store, gold_rate=1.0, swap_rate=1.0, alert_place=0.52)
    ada, bob, cem = (make_rater(store) for _ in range(3))
    for i in range(12):
        compare(store, project, f"{i}?", i, overlap=3)
    for i in range(4):
        make_task(store, project, question=f"gold {i}?", gold={"ranks": {}})

    def statistics() -> dict[str, Any]:
        with store.read() as connection:
            rows = insight.raters(connection, project)["raters"]
            return {
                "raters": [row for row in rows if row["rater"] != cem],
                "agreement": insight.agreement(connection, project),
                "labels": insight.labels(connection, project),
                "disagreements": insight.disagreements(connection, project),
                "win rates": insight.win_rates(connection, project)["pairs"],
                "battles": list(insight.battles(connection, project)),
                "gold": quality.gold_shares(connection, project),
                "swapped": quality.swapped(connection, project, limit=9),
                "alerts": alerts.of_project(connection, project),
            }

    def answers(rater: str, value: int) -> None:
        while given := claim(store, project, rater):
            answer(store, given, rater, {"value": value})

    answers(ada, 1)
    answers(bob, 8)
    before = statistics()
    answers(cem, 1)
    after = statistics()
    assert [name for name in before if before[name] == after[name]] == []
    other = make_project(store, "other")
    with store.write() as connection:
        consent.withdraw(connection, other, ada, actor=ada)
        consent.withdraw(connection, project, cem, actor=cem)
    assert statistics() == before
    with store.write() as connection:
        consent.give_again(connection, project, cem, actor=cem)
    assert statistics() == after


def test_what_was_set_aside(store: Store, person):
    """Skipped by two, flagged by one: with every reason, asked again, or never again."""
    lead, project = person("lead"), make_project(store, skips_until_parked=2, order="priority")
    make_task(store, project, question="dull", score=2)
    make_task(store, project, question="broken", score=1)
    people = [make_rater(store) for _ in range(3)]
    for who, why in zip(people, ("dull", "too dull", None), strict=True):
        given = claim(store, project, who)
        assert given
        answer(store, given, who, {"skip": why} if why else {"flag": "broken <b>"})
    found = get(lead, project, "aside")
    assert found["total"] == 2
    by = {t["reasons"][0]["outcome"]: t for t in found["tasks"]}
    assert [r["reason"] for r in by["skip"]["reasons"]] == ["dull", "too dull"]
    assert [r["reason"] for r in by["flag"]["reasons"]] == ["broken <b>"]
    assert all(t["parked"] and "completions" not in t for t in found["tasks"])
    assert claim(store, project, make_rater(store)) is None
    again = lead.browser.post(f"/api/tasks/{by['skip']['task']}/unpark", json={})
    assert again.json() == {"changed": 1}
    never = lead.browser.post(f"/api/tasks/{by['flag']['task']}/unpark", json={"close": True})
    assert never.json() == {"changed": 1}
    assert get(lead, project, "aside")["total"] == 0
    assert {t["parked"] for t in get(lead, project, "aside", which="all")["tasks"]} == {False}
    given = claim(store, project, make_rater(store))
    assert given and shown(store, given)[0] == by["skip"]["task"]
    assert get(lead, project, "overview")["wanted"]["closed"] == 1
    assert lead.browser.post("/api/tasks/nothing/unpark", json={}).status_code == 400


def said(rater: str, kind: str = "pair", **parts: Any) -> Answer:
    fixed = {
        "judgment": rater, "task": "t", "person": True, "outcome": "answer", "strength": None, "seconds": None,
        "created_at": 0.0, "round": 0, "gold": False, "swap_of": None, "review": False, "completions": ["x", "y", "z"],
        "order_shown": [0, 1, 2],
    }  # fmt: skip
    return Answer(**fixed | {"rater": rater, "kind": kind} | parts)


FIRST, SECOND, TIE = {"x": 1, "y": 2}, {"x": 2, "y": 1}, {"x": 1, "y": 1}


@pytest.mark.parametrize(
    "kind, part, answers, score",
    [
        ("pair", "ranks", [FIRST, FIRST], 0),
        ("pair", "ranks", [FIRST, SECOND], 1),
        ("pair", "ranks", [FIRST, TIE], 0.5),
        ("pair", "ranks", [TIE, TIE], 0),
        ("pair", "ranks", [FIRST], 0),
        ("pair", "ranks", [], 0),
        ("pair", "ranks", [FIRST, FIRST, SECOND], 2 / 3),
        ("rank", "ranks", [{"x": 1, "y": 2, "z": 3}, {"x": 3, "y": 2, "z": 1}], 1),
        ("rank", "ranks", [{"x": 1, "y": 2, "z": 3}, {"x": 1, "y": 3, "z": 2}], 1 / 3),
        # Whoever is ranked stands above whoever is not: x against y and x against z oppose, y against z agrees.
        ("rank", "ranks", [{"x": 1, "y": 2}, {"y": 1, "z": 2}], 2 / 3),
        ("thumbs", "scores", [{("x", "thumb"): 1.0}, {("x", "thumb"): -1.0}], 1),
        ("thumbs", "scores", [{("x", "thumb"): 0.0}, {("x", "thumb"): -1.0}], 0.5),
        ("rate", "scores", [{("x", "q"): 1.0}, {("x", "q"): 5.0}, {("x", "q"): 3.0}], 2 / 3),
        ("rate", "scores", [{("x", "q"): 4.0}, {("x", "q"): 4.0}], 0),
        ("rules", "rules", [{("x", "a"): True}, {("x", "a"): False}], 1),
        ("rules", "rules", [{("x", "a"): True, ("y", "a"): True}] * 2, 0),
    ],
)
def test_how_far_answers_are_apart(kind: str, part: str, answers: list[Any], score: float):
    """0 for the same, 1 for opposites, the mean over all two raters; what only one said does not count."""
    found = [said(f"r{i}", kind, **{part: a}) for i, a in enumerate(answers)]
    assert insight.disagreement(found) == pytest.approx(score, abs=1e-12)
