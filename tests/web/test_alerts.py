"""Alerts ring for what is planted, and hardly ever for chance; a click pauses, another undoes it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import update

from heedful.store.database.db import Store, new_id
from heedful.store.lead.quality import Answer
from heedful.store.project import projects
from heedful.store.project.gold import Known
from heedful.store.project.projects import Settings, settings_of
from heedful.store.rating import judging
from heedful.store.tables import schema
from heedful.web import alerts
from workspace import claim, make_project, make_rater, make_tasks


@dataclass(frozen=True)
class Simulated:
    """How somebody answers: how often what is better, how long they take, how often they take what stands first."""

    right: float = 0.8
    seconds: float = 20.0  # the median; one answer takes twice as long or half as long as another
    left: float = 0.0  # the share of answers for whatever stands first
    tired: float | None = None  # `right` in the second half


HONEST = {
    f"h{i}": Simulated(right, seconds)
    for i, (right, seconds) in enumerate([(0.8, 20), (0.85, 35), (0.75, 12)])
}


def study(
    raters: dict[str, Simulated], n: int, rng: random.Random
) -> tuple[list[Answer], dict[str, dict[str, int]]]:
    """n questions that everybody answers, and the keys of one in five, which are gold. The better response is "b"."""
    answers, keys = [], {}
    for i in range(n):
        task, gold = f"t{i}", i % 5 == 0
        if gold:
            keys[task] = {"": Known({"b": 1, "w": 2})}
        for who, r in raters.items():
            chance = r.tired if r.tired is not None and i >= n / 2 else r.right
            better = rng.random() < (0.95 if gold and r.right > 0.6 and r.tired is None else chance)
            order = [0, 1] if rng.random() < 0.5 else [1, 0]
            best = "b" if better else "w"
            if rng.random() < r.left:
                best = ["b", "w"][order[0]]
            answers.append(
                Answer(
                    judgment=f"{who}{i}", task=task, rater=who, person=True, question="", kind="pair", outcome="answer",
                    strength=None, seconds=r.seconds * rng.lognormvariate(0, 0.7), created_at=float(i), round=0,
                    gold=gold, swap_of=None, review=False, completions=["b", "w"], order_shown=order,
                    ranks={best: 1, "w" if best == "b" else "b": 2},
                )
            )  # fmt: skip
    return answers, keys


def rung(
    raters: dict[str, Simulated], n: int, seed: int, settings: Settings | None = None
) -> set[tuple[str, str | None]]:
    answers, keys = study(raters, n, random.Random(seed))
    gold, shared = [a for a in answers if a.gold], [a for a in answers if not a.gold]
    return {
        (a.what, a.rater) for a in alerts.rung(answers, gold, keys, shared, settings or Settings())
    }


def test_honest_raters_ring_seldom():
    """Of 25 studies of three honest raters, each looked at three times while it grows, at most one rings at all.
    Mutations caught: a threshold on the estimate instead of the interval, 95 % that is looked at often."""
    rings = sum(any(rung(HONEST, n, seed) for n in (60, 120, 200)) for seed in range(25))
    assert rings <= 1


@pytest.mark.parametrize(
    "what, bad, n",
    [
        ("hasty", Simulated(seconds=0.8), 40),
        ("gold", Simulated(right=0.1), 40),  # hostile: eight gold questions are enough
        ("gold", Simulated(right=0.5), 500),  # who throws a coin
        ("place", Simulated(left=1.0), 40),
        ("place", Simulated(left=0.9), 200),
        ("fall", Simulated(right=0.9, tired=0.3), 200),
        ("pace", Simulated(seconds=2.5), 100),
    ],
)
def test_what_is_planted_rings(what: str, bad: Simulated, n: int):
    """In nine studies of ten at least, and nobody honest with it. Mutation caught: each alert switched off, or told of
    the wrong person."""
    found = [rung(HONEST | {"bad": bad}, n, seed) for seed in range(10)]
    assert sum((what, "bad") in rings for rings in found) >= 9, found
    others = [ring for rings in found for ring in rings if ring[1] in HONEST and ring[0] != "fall"]
    assert others == []


def test_a_slip_of_the_finger():
    """Nine answers in no time, and nothing rings; the tenth does. Mutation caught: 100 % of one answer."""
    for n, wanted in ((1, set()), (9, set()), (10, {("hasty", "bad")})):
        found = rung({"bad": Simulated(seconds=0.2), "h": Simulated()}, n, 0)
        assert {ring for ring in found if ring[0] == "hasty"} == wanted


def test_a_whole_project_that_falls_apart():
    """Everybody agrees less than before."""
    tired = {who: Simulated(0.95, tired=0.5) for who in HONEST}
    assert ("fall", None) in rung(tired, 200, 0)


@pytest.mark.parametrize(
    "what, off",
    [
        ("hasty", "alert_seconds"),
        ("gold", "alert_gold"),
        ("place", "alert_place"),
        ("pace", "alert_pace"),
    ],
)
def test_a_threshold_of_nothing_switches_it_off(what: str, off: str):
    bad = {"bad": Simulated(right=0.1, seconds=0.5, left=0.9)}
    assert (what, "bad") in rung(HONEST | bad, 200, 1)
    assert (what, "bad") not in rung(HONEST | bad, 200, 1, Settings(**{off: 0.0}))


def test_from_the_store_to_a_pause_and_back(person, store: Store):
    """By the interface: told with numbers, paused in this project with a click, told that they are, and let go on."""
    lead, project, bad = person("lead"), make_project(store), person("rater")
    make_tasks(store, project, 24, overlap=1)
    place = f"/api/projects/{project}"
    assert lead.browser.get(f"{place}/alerts").json() == []
    for _ in range(20):
        lease = claim(store, project, bad.id)
        assert lease
        with store.write() as connection:
            judging.submit(connection, lease, bad.id, {"value": 1}, key=new_id(), active_ms=400)
    told: list[dict[str, Any]] = lead.browser.get(f"{place}/alerts").json()
    assert [(a["what"], a["rater"], a["value"], a["n"], a["paused"], a["answers"]) for a in told] == [
        ("hasty", bad.id, 1.0, 20, False, True), ("place", bad.id, 1.0, 20, False, True),
    ]  # fmt: skip
    assert (
        told[1]["low"] == pytest.approx(20 / (20 + 2.5758**2), abs=1e-4)
        and told[1]["threshold"] == 0.7
    )
    for paused, status in ((True, 403), (False, 200)):
        done = lead.browser.put(f"{place}/members", json={"who": bad.id, "paused": paused})
        assert done.status_code == 200
        assert bad.browser.post(f"{place}/next", json={}).status_code == status
        assert {a["paused"] for a in lead.browser.get(f"{place}/alerts").json()} == {paused}


def test_silence(store: Store, person):
    """Told while answers are wanted, not before the first one, not when all is done; not for a week when a lead has
    dismissed it, and not by somebody who may not. Mutations caught: another alert dismissed with it, for ever."""
    lead, project, rater = person("lead"), make_project(store), make_rater(store)
    make_tasks(store, project, 2)

    def told() -> list[str]:
        return [a["what"] for a in lead.browser.get(f"/api/projects/{project}/alerts").json()]

    with store.write() as connection:  # long ago, by making what counts as long short
        settings = Settings(alert_silence=1e-9, gold_rate=0.0, swap_rate=0.0)
        connection.execute(update(schema.project).values(settings=vars(settings)))
    assert told() == []
    path = f"/api/projects/{project}/alerts/dismiss"
    for wanted in (["silent"], []):
        lease = claim(store, project, rater)
        assert lease
        with store.write() as connection:
            judging.submit(connection, lease, rater, {"value": 1}, key=new_id())
        assert told() == wanted
        if not wanted:
            continue
        assert lead.browser.post(path, json={"what": "gold"}).status_code == 200
        assert told() == wanted
        assert lead.browser.post(path, json={"what": "silent"}).status_code == 200
        assert told() == []
        with store.write() as connection:
            settings = settings_of(connection, project)
            old = [d | {"at": d["at"] - alerts.WEEK - 1} for d in settings.dismissed]
            assert len(old) == 2
            projects.change(connection, project, {"dismissed": old}, actor=None)
        assert told() == wanted
        assert lead.browser.post(path, json={"what": "rain"}).status_code == 400
