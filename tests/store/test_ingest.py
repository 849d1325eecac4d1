"""Files' contents into a project: once, blinded, with the right labels, and without keeping raters waiting."""

from __future__ import annotations

import random
import threading

import pytest
from sqlalchemy import func, select

from heedful.errors import UserError
from heedful.store.database import bulk
from heedful.store.database.db import Store
from heedful.store.intake import imported, ingest
from heedful.store.intake.imported import Vote
from heedful.store.intake.ingest import Origin, TaskSpec
from heedful.store.rating import judging
from heedful.store.tables import schema
from heedful.types import Comparison, Demonstration, Message
from workspace import answer, claim, make_project, make_rater, make_task

CHAT = (Message("user", "What is the capital of Peru?"),)


def counts(store: Store) -> dict[str, int]:
    names = ("prompt", "completion", "demonstration", "task", "judgment", "assignment", "rater")
    with store.read() as connection:
        return {
            n: connection.execute(
                select(func.count()).select_from(schema.metadata.tables[n])
            ).scalar_one()
            for n in names
        }


def test_postgresql_is_told_how_much_there_is(store):
    """Mutation caught: what is asked right after an import is planned for an empty table (2,000 rows took 6 s)."""
    if store.dialect != "postgresql":
        pytest.skip("SQLite plans without statistics")
    project = make_project(store)
    prompts = [(f"Why {i}?", Origin()) for i in range(ingest.BATCH)]
    ingest.prompts(store, project, prompts)
    with store.read() as connection:
        asked = "SELECT reltuples FROM pg_class WHERE oid = 'prompt'::regclass"
        assert connection.exec_driver_sql(asked).scalar_one() == ingest.BATCH


def said(store: Store) -> list[dict]:
    """Each judgment as {text: rank}, with who, strength and the order of the texts on the screen."""
    found = []
    with store.read() as connection:
        texts = {r.id: r.text for r in connection.execute(select(schema.completion))}
        rows = connection.execute(
            select(
                schema.judgment,
                schema.rater.c.pseudonym,
                schema.assignment.c.order_shown,
                schema.task.c.completions,
                schema.task.c.kind,
                schema.task.c.round,
            )
            .join(schema.rater, schema.rater.c.id == schema.judgment.c.rater)
            .join(schema.assignment, schema.assignment.c.id == schema.judgment.c.assignment)
            .join(schema.task, schema.task.c.id == schema.judgment.c.task)
            .order_by(schema.judgment.c.id)
        ).all()
        for row in rows:
            items = connection.execute(
                select(schema.ranking_item).where(schema.ranking_item.c.judgment == row.id)
            )
            found.append(
                {
                    "ranks": {texts[i.completion]: i.rank for i in items},
                    "rater": row.pseudonym,
                    "strength": row.strength,
                    "outcome": row.outcome,
                    "shown": [texts[row.completions[i]] for i in row.order_shown],
                    "kind": row.kind,
                    "round": row.round,
                    "active_ms": row.active_ms,
                    "client_at": row.client_at,
                    "disposition": row.disposition,
                }
            )
    return found


PAIRS = [
    Comparison(CHAT, ("Lima.", "Cusco."), (1, 2), strength=0.3, rater="ada", order_shown=(1, 0),
               seconds=2.5, created_at="2024-05-01T10:00:00Z"),
    Comparison(CHAT, ("Lima.", "Cusco."), (2, 1), rater="bao"),
    Comparison("Once", ("upon", "more", "again"), (2, 1, 2), rater="ada"),
    Comparison("Twice", ("a", "b"), (1, 1)),
]  # fmt: skip


def test_comparisons_become_judgments_of_judges(store):
    """Labels by text, the order as it was, strength and seconds; an unnamed rater is `imported`."""
    project = make_project(store)
    added = imported.comparisons(store, project, PAIRS, origin=Origin("pairs.jsonl", "MIT", "en"))
    assert added == {
        "items": 4, "prompts": 3, "responses": 7, "demonstrations": 0, "tasks": 3, "judgments": 4,
    }  # fmt: skip
    first, second, third, fourth = said(store)
    assert first["ranks"] == {"Lima.": 1, "Cusco.": 2}
    assert (first["rater"], first["strength"], first["active_ms"]) == ("ada", 0.3, 2500)
    assert first["shown"] == ["Cusco.", "Lima."]
    assert first["client_at"] == 1714557600.0
    assert second["ranks"] == {"Lima.": 2, "Cusco.": 1}
    assert second["strength"] is None  # nobody was asked; nothing is made up
    assert third["ranks"] == {"upon": 2, "more": 1, "again": 2}
    assert third["kind"] == "rank"
    assert (fourth["outcome"], fourth["rater"]) == ("tie", "imported")
    assert {s["disposition"] for s in said(store)} == {"counted"}
    with store.read() as connection:
        roles = connection.execute(select(schema.rater.c.role)).scalars().all()
        prompts = connection.execute(select(schema.prompt)).all()
        slots = connection.execute(select(schema.task_slot.c.state)).scalars().all()
    assert set(roles) == {"judge"}
    assert {(p.source, p.licence, p.language) for p in prompts} == {("pairs.jsonl", "MIT", "en")}
    assert set(slots) == {"done"}  # as many slots as judges: none waits for people


def test_many_at_once_are_kept_as_one_by_one(store, monkeypatch: pytest.MonkeyPatch):
    """Prompts that are there, or stand in the batch before; equal texts of several models; judges who repeat
    themselves. Mutations caught: a prompt taken for new because its batch is; the second of two equal texts kept too;
    only the first of the parts in which PostgreSQL is sent many rows."""
    monkeypatch.setattr(bulk, "MOST_TEXT", 3000)
    rng, items = random.Random(3), []
    for _ in range(45):
        words = rng.sample(
            ["a", "\x00", "\x1a0041", "é", "[" * 120, '"text":""', " b "], rng.randint(2, 4)
        )
        prompt = rng.choice([CHAT, "Once", "\x1a", f"Q{rng.randint(0, 9)}"])
        ranks = tuple(rng.choice([1, 2, 3]) for _ in words)
        origin = {"rater": rng.choice("abc"), "policy_version": rng.choice([None, "m", "n"])}
        items.append(
            Comparison(prompt, tuple(words), ranks, order_shown=tuple(range(len(words))), **origin)
        )
    kept = []
    for size in (4, 1000):
        monkeypatch.setattr(ingest, "BATCH", size)
        project = make_project(store, f"by {size}")
        before, number = len(said(store)), counts(store)
        imported.comparisons(store, project, items[:15])
        imported.comparisons(store, project, items)
        more = {name: n - number[name] for name, n in counts(store).items() if name != "rater"}
        kept.append((sorted(map(repr, said(store)[before:])), more))
    assert kept[0] == kept[1]
    assert kept[0][1]["judgment"] > 35


def test_importing_twice_adds_nothing(store):
    """Mutation caught: a key with chance in it, or a second assignment."""
    project = make_project(store)
    for _ in range(2):
        imported.comparisons(store, project, PAIRS)
        ingest.demonstrations(store, project, [Demonstration(CHAT, "Lima.")])
        imported.votes(store, project, [Vote(CHAT, "Lima.", True), Vote(CHAT, "Oslo.", False)])
        ingest.samples(
            store, project, [(CHAT, t, {"model": "m"}) for t in "abc"], tasks=TaskSpec("pair")
        )
        now = counts(store)
    first = make_project(store, "other")
    imported.comparisons(store, first, PAIRS)
    assert now["judgment"] == 6
    assert counts(store)["judgment"] == 10  # another project has its own


def test_a_judge_who_repeats_themselves_is_heard_each_time(store):
    """HH-RLHF has the same pair twice with opposite labels; neither corrects the other."""
    project = make_project(store)
    twice = [
        Comparison(CHAT, ("a", "b"), (1, 2)),
        Comparison(CHAT, ("b", "a"), (1, 2)),
        Comparison(CHAT, ("a", "b"), (1, 2)),
    ]
    for _ in range(2):
        imported.comparisons(store, project, twice)
    assert [s["ranks"]["a"] for s in said(store)] == [1, 2, 1]
    assert [s["round"] for s in said(store)] == [0, 1, 2]
    # Somebody else's file in which the same judge says one of the things again.
    imported.comparisons(store, project, twice[1:2])
    assert len(said(store)) == 3


def test_comparisons_find_the_responses_that_are_there(store):
    """A comparison of samples that were imported with their model is about these, not about copies."""
    project = make_project(store)
    rows = [(CHAT, t, {"model": "m", "seed": 3, "token_ids": [1]}) for t in ("Lima.", "Cusco.")]
    ingest.samples(store, project, rows, tasks=TaskSpec("pair", overlap=2))
    before = counts(store)
    added = imported.comparisons(store, project, PAIRS[:1])
    assert added["responses"] == added["tasks"] == 0 and added["judgments"] == 1
    assert counts(store)["completion"] == before["completion"]


def test_unpaired_labels_become_thumbs(store):
    project = make_project(store)
    imported.votes(
        store, project, [Vote(CHAT, "Lima.", True, "ada"), Vote(CHAT, "x", False, "ada")]
    )
    with store.read() as connection:
        rows = connection.execute(
            select(schema.score.c.axis, schema.score.c.value, schema.completion.c.text).join(
                schema.completion, schema.completion.c.id == schema.score.c.completion
            )
        ).all()
    assert sorted(map(tuple, rows)) == [("thumb", -1.0, "x"), ("thumb", 1.0, "Lima.")]


def test_samples_become_questions(store):
    """Every pair of different texts once, or one ranking; equal texts of two models are kept but not compared."""
    project = make_project(store)
    rows = [(CHAT, t, {"model": m}) for t, m in [("a", "x"), ("b", "x"), ("c", "y"), ("a", "y")]]
    added = ingest.samples(store, project, rows, tasks=TaskSpec("pair", overlap=2))
    assert (added["responses"], added["tasks"]) == (4, 3)
    assert ingest.samples(store, project, rows, tasks=TaskSpec("rank"))["tasks"] == 1
    assert ingest.samples(store, project, rows, tasks=TaskSpec("thumbs"))["tasks"] == 3
    assert ingest.samples(store, project, rows)["tasks"] == 0
    with store.read() as connection:
        slots = connection.execute(select(func.count()).select_from(schema.task_slot)).scalar_one()
    assert slots == 3 * 2 + 1 + 3
    ada = make_rater(store)
    given = claim(store, project, ada)
    assert given is not None


def test_prompts_become_questions_without_responses(store):
    project = make_project(store)
    assert (
        ingest.prompts(
            store, project, [(CHAT, Origin()), ("Once", Origin())], tasks=TaskSpec("write")
        )["tasks"]
        == 2
    )
    ada = make_rater(store)
    given = claim(store, project, ada)
    answer(store, given, ada, {"text": "Lima."})
    assert counts(store)["demonstration"] == 1


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (lambda s, p: ingest.prompts(s, p, [("x", Origin())], tasks=TaskSpec("pair")), "prompts have none"),
        (lambda s, p: ingest.samples(s, p, [("x", "y", {})], tasks=TaskSpec("chat")), "no responses"),
        (lambda s, p: ingest.samples(s, p, [("x", str(i), {}) for i in range(13)], tasks=TaskSpec("rank")), "13"),
        (lambda s, p: imported.comparisons(s, p, [Comparison("x", tuple("abcdefghijklm"), tuple(range(1, 14)))]), "12"),
        (lambda s, p: TaskSpec("par"), "unknown kind"),
        (lambda s, p: TaskSpec("pair", overlap=0), "overlap"),
        (lambda s, p: TaskSpec("rules"), "need rules"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_leaves_nothing(store, what, words):
    project = make_project(store)
    with pytest.raises(UserError, match=words):
        what(store, project)
    assert counts(store)["prompt"] == 0


def test_gold_questions_are_asked_and_not_judged(store):
    project = make_project(store, gold_rate=1.0)
    assert imported.comparisons(store, project, PAIRS[:1], gold=True)["judgments"] == 0
    with store.read() as connection:
        task = connection.execute(select(schema.task)).one()
        key = connection.execute(select(schema.gold_key.c.answer)).scalar_one()
        texts = {r.id: r.text for r in connection.execute(select(schema.completion))}
    assert task.is_gold
    assert {texts[c]: r for c, r in key["ranks"].items()} == {"Lima.": 1, "Cusco.": 2}
    make_task(store, project)  # gold questions come between others
    given = claim(store, project, make_rater(store))
    with store.read() as connection:
        asked = select(schema.assignment.c.task).where(schema.assignment.c.id == given)
        assert connection.execute(asked).scalar_one() == task.id


def test_a_judge_with_a_persons_name_is_not_that_person(store):
    """Mutation caught: imported judgments put into a rater's mouth."""
    project, ada = make_project(store), make_rater(store)
    with store.read() as connection:
        name = connection.execute(
            select(schema.rater.c.pseudonym).where(schema.rater.c.id == ada)
        ).scalar_one()
    imported.comparisons(store, project, [Comparison(CHAT, ("a", "b"), (1, 2), rater=name)])
    with store.read() as connection:
        who = connection.execute(select(schema.judgment.c.rater)).scalar_one()
    assert who != ada


def test_raters_work_while_a_file_comes_in(store):
    """Mutation caught: one transaction for the whole file."""
    project, ada = make_project(store), make_rater(store)
    ingest.samples(store, project, [("Once", t, {}) for t in "abcdef"], tasks=TaskSpec("pair"))
    many = [Comparison(f"p{i}", ("a", "b"), (1, 2)) for i in range(1200)]
    begun, answered = threading.Event(), threading.Event()

    def tick(*_: object) -> None:  # between two batches
        begun.set()
        answered.wait(60)

    def work() -> None:
        imported.comparisons(store, project, many, tick=tick)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        assert begun.wait(60)
        given = claim(store, project, ada)
        assert given is not None
        answer(store, given, ada, {"value": 3})
        assert worker.is_alive()
    finally:
        answered.set()
        worker.join()
    assert len([s for s in said(store) if s["rater"] == "imported"]) == 1200


def test_importing_again_leaves_corrections_alone(store):
    """Mutation caught: only the latest revision looked at, so that what was corrected comes back."""
    project = make_project(store)
    imported.comparisons(store, project, PAIRS[:1])
    with store.write() as connection:
        row = connection.execute(select(schema.judgment)).one()
        judging.submit(connection, row.assignment, row.rater, {"tie": True}, key="corrected")
    imported.comparisons(store, project, PAIRS[:1])
    assert [s["outcome"] for s in said(store)] == ["answer", "tie"]


@pytest.mark.parametrize(
    ("kind", "options"), [("rate", {"axes": 5}), ("rate", {"axes": [1]}), ("rules", {"rules": 5})]
)
def test_options_of_the_wrong_type_are_a_sentence(kind, options):
    with pytest.raises(UserError):
        TaskSpec(kind, options=options)
