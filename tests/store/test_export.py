"""Out of the database: every judgment in a file or excluded for a reason, the same bytes again, any text back."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from databases import new_store
from heedful.data import columns, tables
from heedful.data.sources import (
    read_comparisons,
    read_demonstrations,
    read_prompts,
    read_samples,
)
from heedful.errors import UserError
from heedful.store.database.db import Store, new_id
from heedful.store.exports import books, export, layout, outcomes, snapshot
from heedful.store.exports.snapshot import Query
from heedful.store.intake import imported, ingest
from heedful.store.lead import rounds
from heedful.store.project import consent, content, projects, records
from heedful.store.rating import judging, work
from heedful.store.tables import schema
from heedful.store.tables.columns import unescaped
from heedful.transfer.sources import materialise
from heedful.transfer.workspace import export_file
from heedful.types import Comparison, Demonstration, Message
from workspace import answer, claim, make_project, make_rater, make_task

CHAT = (Message("user", "What is the capital of Peru?"),)


def rows(store: Store, project: str, what: str, **options) -> list[dict]:
    taken = snapshot.take(store, project, Query(what, **options))
    with store.read() as connection:
        return list(snapshot.rows(connection, taken.query, taken.ids))


def counted(store: Store, project: str, what: str, **options) -> snapshot.Count:
    return snapshot.take(store, project, Query(what, **options)).count


def judged(store: Store, project: str, rater: str, task: str, said: dict) -> judging.Receipt:
    """An answer to a task whose responses are shown in their own order."""
    with store.write() as connection:
        ids = connection.execute(
            select(schema.task.c.completions).where(schema.task.c.id == task)
        ).scalar_one()
        given = work.assign(connection, task, rater, order=range(len(ids)))
        return judging.submit(connection, given, rater, said, key=new_id())


@pytest.fixture
def busy(store) -> tuple[str, str]:
    """A project in which everything has happened once: its id and a rater's."""
    project, ada, bao = make_project(store), make_rater(store), make_rater(store)
    for i, said in enumerate(
        [{"value": 1}, {"value": 6, "text": "second"}, {"tie": True}, {"both_bad": True},
         {"skip": "unclear"}, {"flag": "rude"}]
    ):  # fmt: skip
        judged(store, project, ada, make_task(store, project, question=f"q{i}"), said)
    ranked = make_task(store, project, "rank", ["a", "b", "c", " "], question="r")
    judged(store, project, ada, ranked, {"ranks": [1, 1, 2, None]})
    judged(store, project, bao, ranked, {"ranks": [1, 2, 3, 4]})
    same = make_task(store, project, "rank", ["x", "y"], question="s")
    judged(store, project, ada, same, {"ranks": [2, 1]})
    judged(
        store, project, ada, make_task(store, project, "thumbs", ["u", "v"]), {"thumbs": [1, -1]}
    )
    judged(store, project, ada, make_task(store, project, "thumbs", ["w"]), {"thumbs": [0]})
    rules = {"rules": [{"code": "kind", "text": "Be kind."}, {"code": "true", "text": "Be true."}]}
    judged(
        store, project, ada, make_task(store, project, "rules", ["k", "l"], options=rules),
        {"rules": {"kind": [True, True], "true": [None, False]}},
    )  # fmt: skip
    judged(
        store, project, ada, make_task(store, project, "rate", ["k"]), {"scores": {"quality": [4]}}
    )
    judged(
        store, project, ada, make_task(store, project, "critique", ["abcdef"]),
        {"critiques": [{"response": 0, "start": 1, "end": 3, "text": "vague"}]},
    )  # fmt: skip
    judged(
        store,
        project,
        ada,
        make_task(store, project, "critique", ["g"]),
        {"critiques": [], "text": "fine"},
    )
    judged(
        store, project, ada, make_task(store, project, "edit", ["helo"]),
        {"response": 0, "text": "hello"},
    )  # fmt: skip
    judged(store, project, ada, make_task(store, project, "write", []), {"text": "mine"})
    ingest.demonstrations(
        store, project, [Demonstration("Once", " upon"), Demonstration(CHAT, "L")]
    )
    gold = {"ranks": {}}
    judged(store, project, ada, make_task(store, project, question="g", gold=gold), {"value": 1})
    first = make_task(store, project, question="w")
    given = answer_of(store, project, ada, first, {"value": 1})
    again(store, given, ada, {"value": 8})  # a correction
    judged(
        store, project, ada, make_task(store, project, question="w", swap_of=first), {"value": 2}
    )
    surplus(store, make_task(store, project, question="late"), ada, bao)
    return project, ada


def answer_of(store: Store, project: str, rater: str, task: str, said: dict) -> str:
    with store.write() as connection:
        given = work.assign(connection, task, rater)
        judging.submit(connection, given, rater, said, key=new_id())
        return given


def again(store: Store, given: str, rater: str, said: dict) -> None:
    with store.write() as connection:
        judging.submit(connection, given, rater, said, key=new_id())


def surplus(store: Store, task: str, first: str, second: str) -> None:
    """The lease ends, somebody else answers, then the first one does."""
    with store.write() as connection:
        late = work.assign(connection, task, first)
        mine = schema.assignment.c.id == late
        connection.execute(schema.assignment.update().where(mine).values(leased_until=0.0))
        given = work.assign(connection, task, second)
        judging.submit(connection, given, second, {"value": 1}, key=new_id())
        receipt = judging.submit(connection, late, first, {"value": 8}, key=new_id())
    assert receipt.disposition == "surplus"


def test_exported_and_excluded_are_all_that_is_stored(store, busy):
    """For every form and filter, against a count of the tables alone.

    Mutation caught: books of a version that knew fewer forms, by which all rows of a new form would be missing.
    """
    project, _ = busy
    with store.read() as connection:
        reconciled = books.reconcile(connection, project)
        kept = books.ledger(connection, project)
        del kept.went["triplets"]
        there = books.stored(connection, project)
        again = books.counts(books.ledger(connection, project, kept, there=there), there)
        assert again == reconciled
        stored = connection.execute(select(func.count()).select_from(schema.judgment)).scalar_one()
    assert set(reconciled) == set(layout.COLUMNS)
    assert {what: c.missing for what, c in reconciled.items()} == dict.fromkeys(reconciled, 0)
    for what in export.FROM_JUDGMENTS:
        assert reconciled[what].stored == stored, what
        everything = dict.fromkeys(snapshot.BEYOND, True) if what in export.TRAINING else {}
        for options in (everything, {"split": "train"}):
            count = counted(store, project, what, **options)
            assert (count.stored, count.missing) == (stored, 0)
    assert reconciled["judgments"].exported == stored


@pytest.mark.long_on_postgres
def test_what_somebody_has_withdrawn_is_in_no_export(store, busy):
    """Neither in a new one, of any form, nor in one that was chosen before; the books say where it went, also those
    that were kept from before; and when it is given again, all is as it was. Mutations caught: training forms alone,
    demonstrations forgotten, old snapshots that give what was in them, a ledger that does not know."""
    project, ada = busy
    forms = [*export.FROM_JUDGMENTS, "demonstrations"]
    before = {what: snapshot.take(store, project, Query(what)) for what in forms}
    with store.read() as connection:
        known = books.ledger(connection, project)
        name = select(schema.rater.c.pseudonym).where(schema.rater.c.id == ada)
        pseudonym = connection.execute(name).scalar_one()
        all_rows = {w: list(snapshot.rows(connection, t.query, t.ids)) for w, t in before.items()}
    with store.write() as connection:
        consent.withdraw(connection, project, ada, actor=ada)
    for what, taken in before.items():
        left = [row for row in all_rows[what] if row.get("rater") != pseudonym]
        assert len(left) < len(all_rows[what]) or not all_rows[what], what
        assert rows(store, project, what) == left, what
        count = counted(store, project, what)
        assert count.missing == 0 and count.excluded[snapshot.WITHDRAWN], what
        with store.read() as connection:
            old = snapshot.find(connection, project, taken.id)
            assert list(snapshot.rows(connection, old.query, old.ids)) == left, what
            assert (old.count.exported, old.count.missing) == (len(old.ids), 0)
    with store.read() as connection:
        fresh = books.ledger(connection, project)
        assert books.ledger(connection, project, known) == fresh != known
        there = books.stored(connection, project)
        assert all(c.missing == 0 for c in books.counts(fresh, there).values())
    with store.write() as connection:
        with pytest.raises(UserError, match="only they can give them again"):
            consent.give_again(connection, project, ada, actor=None)
        consent.give_again(connection, project, ada, actor=ada)
    for what in forms:
        assert rows(store, project, what) == all_rows[what]


@pytest.mark.long_on_postgres
def test_the_database_tells_shapes_apart_as_the_forms_do(store):
    """Each judgment as the forms' own functions have it, one by one, however alike others are.

    Mutations caught: blanks of SQL (spaces only) for those of Python, the first response's text alone looked at, ranks
    without whose they are, an edit's or a conversation's texts taken for those of another."""
    project, rater = make_project(store), make_rater(store)
    texts = ["a", "a", "b", "", " \n", "\u3000\x85\x1f", "\x1a", "\x00", "\ud800", "\u200b"]
    rng = random.Random(5)
    for i in range(30):
        shown = rng.choices(texts, k=rng.choice((2, 2, 3)))
        with store.write() as connection:
            about = content.add_prompt(connection, project, f"{i}?")
            made = content.add_completions(
                connection, [(about, text, {"model": str(n)}) for n, text in enumerate(shown)]
            )
            kind = "pair" if len(shown) == 2 else "rank"
            content.add_task(connection, project, kind, about, made)
    for kind, answer_to in (
        ("thumbs", {"thumbs": [1]}), ("thumbs", {"thumbs": [-1]}), ("thumbs", {"thumbs": [0]}),
        ("edit", {"response": 0, "text": "b"}), ("edit", {"response": 0, "text": " \n "}),
        ("edit", {"response": 0, "text": "c"}),
    ):  # fmt: skip
        for text in ("a", "b", "\u2003"):
            key = make_task(store, project, kind, [text], f"{kind} {answer_to} {text}?")
            with store.write() as connection:
                given = work.assign(connection, key, rater)
            with contextlib.suppress(UserError):  # the edit is no change
                answer(store, given, rater, answer_to)
    while given := claim(store, project, rater):
        with store.read() as connection:
            a = schema.assignment.join(schema.task, schema.task.c.id == schema.assignment.c.task)
            this = select(schema.task.c.kind, schema.task.c.completions).select_from(a)
            kind, ids = connection.execute(this.where(schema.assignment.c.id == given)).one()
        said = {"ranks": [rng.randint(1, 2) for _ in ids]}
        if kind == "pair":
            said = rng.choice(({"value": 1}, {"value": 8}, {"tie": True}))
        answer(store, given, rater, said if kind in ("pair", "rank") else {"skip": None})
    with store.read() as connection:
        answered = select(schema.judgment.c.id).where(schema.judgment.c.outcome != "skip")
        keys = list(connection.execute(answered).scalars())
        one_by_one = outcomes.outcomes(connection, keys)
        assert len(keys) > 40 and len({str(o) for o in one_by_one.values()}) > 5
        for what in outcomes.FORMS:
            ids, _, _ = snapshot.choose(connection, project, Query(what))
            assert ids == sorted(
                k for k, o in one_by_one.items() if o[what] == outcomes.EXPORTED
            ), what
            excluded = Counter(o[what] for o in one_by_one.values() if o[what])
            told = books.reconcile(connection, project)[what].excluded
            assert {why: n for why, n in told.items() if why != "skipped"} == dict(excluded), what


def test_each_exclusion_has_its_reason(store, busy):
    project, _ = busy
    assert counted(store, project, "comparisons").excluded == {
        "another kind of answer": 7,
        "both bad": 1,
        "corrected later": 1,
        "flagged": 1,
        "gold question": 1,
        "repeated the other way round": 1,
        "skipped": 1,
        "surplus": 1,
        "tie": 1,
    }
    assert counted(store, project, "unpaired").excluded["neither good nor bad"] == 1
    assert counted(store, project, "critiques").excluded["no remark"] == 1
    wide = counted(store, project, "comparisons", surplus=True, gold=True, swaps=True)
    assert wide.exported == counted(store, project, "comparisons").exported + 3


@pytest.mark.long_on_postgres
def test_export_db_sources_and_rounds_agree_row_by_row(store, busy, url, tmp_path):
    """Answers of every fate, odd texts, both splits. Mutation caught: a second reading of what people have said."""
    project, ada = busy
    for i in range(30):
        task = make_task(store, project, responses=["a\0", "\x1ab"], question=f"odd{i}")
        judged(store, project, ada, task, {"value": 1})
    (tmp_path / "heedful.toml").write_text(f'database = "{url}"\n')
    with store.read() as connection:
        tasks = list(connection.execute(select(schema.task.c.id)).scalars())
        ours = rounds.comparisons(connection, project, tasks)
        few = rounds.comparisons(connection, project, tasks[:3])
    ours, few = (
        [{k: v for k, v in r.items() if v is not None} for r in part] for part in (ours, few)
    )
    for split in ("all", "train", "held_out"):
        export_file(store, project, Query("rankings", split=split), tmp_path / "out.jsonl")
        source = materialise(f"db:{tmp_path}", "rankings", split=split)
        wanted = [
            r
            for r in ours
            if split in ("all", content.split_of(columns.prompt_from_json(r["prompt"])))
        ]
        for file in (tmp_path / "out.jsonl", source):
            assert [unescaped(row) for _, row in tables.read_export(file)] == wanted
    assert 0 < len(few) < len(ours) and [r for r in ours if r in few] == few
    assert ours[-1]["responses"] == ["a\0", "\x1ab"]


def test_a_file_without_anything_is_one_too(store):
    project = make_project(store)
    count = counted(store, project, "comparisons")
    assert (count.stored, count.exported, count.missing) == (0, 0, 0)


def test_comparisons_are_by_response_and_never_by_place(store):
    """Whatever the order shown was, who was chosen is who is exported; a tie inside a ranking gives no pair."""
    project, ada, rng = make_project(store), make_rater(store), random.Random(0)
    for i in range(20):
        make_task(store, project, question=f"q{i}")
        given = claim(store, project, ada, rng=rng)
        with store.read() as connection:
            at = schema.assignment.c
            found = connection.execute(
                select(at.order_shown, schema.task.c.completions)
                .join(schema.task, schema.task.c.id == at.task)
                .where(at.id == given)
            ).one()
            texts = {r.id: r.text for r in connection.execute(select(schema.completion))}
        places = [texts[found.completions[i]] for i in found.order_shown]
        answer(store, given, ada, {"value": 2 if places[0] == "Lima." else 7})
    found = rows(store, project, "comparisons")
    assert len(found) == 20
    assert {r["chosen"][0]["content"] for r in found} == {"Lima."}
    ranking = rows(store, project, "rankings")
    for row in ranking:
        assert row["responses"][row["ranking"].index(1)] == "Lima."
    assert {tuple(r["order_shown"]) for r in ranking} == {(0, 1), (1, 0)}


def test_rankings_give_all_their_pairs(store, busy):
    """K responses, ties and an empty one: C(K, 2) pairs less the ties, and the ranking itself."""
    project, _ = busy
    found = [r for r in rows(store, project, "comparisons") if r["prompt"][0]["content"] == "r"]
    pairs = sorted(r["chosen"][0]["content"] + r["rejected"][0]["content"] for r in found)
    assert pairs == ["ab", "ac", "ac", "bc", "bc"]
    assert {r["strength"] for r in found if "strength" in r} <= {None}
    kept = [r for r in rows(store, project, "rankings") if r["prompt"][0]["content"] == "r"]
    assert [r["responses"] for r in kept] == [["a", "b", "c"]] * 2
    assert [r["ranking"] for r in kept] == [[1, 1, 2], [1, 2, 3]]


def test_the_best_of_several_goes_round(store, tmp_path):
    """One of four was chosen: stored so, exported so in every format, imported so, and no pair of the others is made.

    Mutation caught: unranked responses left out, or tied.
    """
    project, ada = make_project(store), make_rater(store)
    texts = ["a", "b", "c", "d"]
    task = make_task(store, project, "rank", texts)
    judged(store, project, ada, task, {"ranks": [None, None, 1, None]})
    (row,) = rows(store, project, "rankings")
    assert (row["responses"], row["ranking"], row["outcome"]) == (
        texts,
        [None, None, 1, None],
        "answer",
    )
    pairs = rows(store, project, "comparisons")
    assert [r["chosen"][0]["content"] + r["rejected"][0]["content"] for r in pairs] == [
        "ca",
        "cb",
        "cd",
    ]
    for ending in ("jsonl", "csv", "parquet"):
        file = tmp_path / f"out.{ending}"
        export_file(store, project, Query("rankings"), file)
        (read,) = read_comparisons(file)
        assert (read.responses, read.ranking) == (tuple(texts), (None, None, 1, None))
    again = make_project(store, "again")
    for _ in range(2):  # the second time it is there already
        imported.comparisons(store, again, [read])
    (row,) = rows(store, again, "rankings")
    assert {t for t, r in zip(row["responses"], row["ranking"], strict=True) if r} == {"c"}
    assert sorted(row["responses"]) == texts


def test_the_readers_of_trainers_read_every_form(store, busy, tmp_path):
    """What is exported is what `heedful train` takes; nothing in it is refused."""
    project, _ = busy
    readers = {
        "comparisons": read_comparisons,
        "rankings": read_comparisons,
        "demonstrations": read_demonstrations,
        "samples": read_samples,
        "prompts": read_prompts,
    }
    for what, read in readers.items():
        for ending in ("jsonl", "jsonl.gz", "parquet"):
            path = tmp_path / f"{what}.{ending}"
            manifest = export_file(store, project, Query(what), path)
            # Parquet cannot hold prompts of both forms in one column; `tables.read_export` can read it.
            if ending != "parquet" or manifest["columns"]["prompt"] == "messages":
                assert len(read(path)) == manifest["rows"] > 0


def test_an_edit_beats_its_original_and_is_a_demonstration(store, busy):
    project, _ = busy
    edits = [r for r in rows(store, project, "comparisons") if r["chosen"][0]["content"] == "hello"]
    assert [r["rejected"][0]["content"] for r in edits] == ["helo"]
    shown = {str(r["completion"]) for r in rows(store, project, "demonstrations")}
    assert len(shown) == 4
    assert " upon" in shown
    assert all("author" not in r for r in rows(store, project, "samples"))
    assert "hello" not in {r["completion"] for r in rows(store, project, "samples")}


def test_thumbs_and_rules_are_unpaired(store, busy):
    project, _ = busy
    labels = {r["completion"][0]["content"]: r["label"] for r in rows(store, project, "unpaired")}
    assert labels == {"u": True, "v": False, "k": True, "l": False}


def test_scores_and_critiques(store, busy):
    project, _ = busy
    scores = rows(store, project, "scores")
    assert {(r["axis"], r["value"]) for r in scores} == {
        ("quality", 4.0), ("thumb", 1.0), ("thumb", -1.0), ("thumb", 0.0), ("kind", 1.0), ("true", 0.0),
    }  # fmt: skip
    (remark,) = rows(store, project, "critiques")
    assert (remark["start"], remark["end"], remark["critique"]) == (1, 3, "vague")


def test_conversations_become_pairs_of_replies(store):
    """The chosen reply beats the other, by candidate and not by place, given all that was said before."""
    project, ada = make_project(store), make_rater(store)
    task = make_task(store, project, "chat", [], question="Be brief.")
    with store.write() as connection:
        prompt = content.add_prompt(connection, project, "Be brief.")
        task = content.add_task(connection, project, "chat", prompt)
        given = work.assign(connection, task, ada)
        for place, (said, chosen) in enumerate([("Hi", 1), ("Bye", 0)]):
            key = new_id()
            replies = [{"text": f"{said} A", "model": "m"}, {"text": f"{said} B", "model": "m"}]
            connection.execute(
                schema.offer.insert().values(
                    id=key, assignment=given, place=place, said=said, candidates=replies,
                    order_shown=[1, 0], created_at=1.0,
                )
            )  # fmt: skip
            connection.execute(
                schema.turn.insert().values(offer=key, chosen=chosen, strength=0.5, created_at=1.0)
            )
        judging.submit(connection, given, ada, {"turns": 2}, key="k")
    first, second = rows(store, project, "turns")
    assert first["chosen"] == [{"role": "assistant", "content": "Hi B"}]
    assert first["rejected"] == [{"role": "assistant", "content": "Hi A"}]
    assert [m["content"] for m in second["prompt"]] == ["Be brief.", "Hi", "Hi B", "Bye"]
    assert [m["role"] for m in second["prompt"]] == ["system", "user", "assistant", "user"]
    assert second["chosen"][0]["content"] == "Bye A"


def test_the_same_snapshot_is_the_same_bytes_while_rating_goes_on(store, busy, tmp_path):
    """Also a correction of what is in it changes nothing; and the same state is the same snapshot."""
    project, ada = busy
    for ending in ("jsonl", "jsonl.gz", "csv", "csv.gz", "parquet"):
        path = tmp_path / f"first.{ending}"
        manifest = export_file(store, project, Query("comparisons"), path)
        same = export_file(store, project, Query("comparisons"), tmp_path / f"same.{ending}")
        assert (same["snapshot"], same["sha256"]) == (manifest["snapshot"], manifest["sha256"])
        judged(store, project, ada, make_task(store, project, question=ending), {"value": 1})
        with store.read() as connection:
            at = schema.judgment.c
            row = connection.execute(
                select(at.assignment)
                .where(at.outcome == "answer", at.disposition == "counted")
                .order_by(at.id)
            ).first()
            kind = connection.execute(
                select(schema.task.c.kind)
                .join(schema.assignment, schema.assignment.c.task == schema.task.c.id)
                .where(schema.assignment.c.id == row.assignment)
            ).scalar_one()
        assert kind == "pair"
        again(store, row.assignment, ada, {"value": 5})
        other = tmp_path / "again" / f"first.{ending}"
        later = export_file(
            store, project, Query("comparisons"), other, snapshot_id=manifest["snapshot"]
        )
        assert path.read_bytes() == other.read_bytes()
        assert later == manifest
        assert tables.manifest_path(path).read_bytes() == tables.manifest_path(other).read_bytes()
        assert hashlib.sha256(path.read_bytes()).hexdigest() == manifest["sha256"]
        newer = export_file(store, project, Query("comparisons"), tmp_path / f"new.{ending}")
        assert newer["snapshot"] != manifest["snapshot"]
        assert newer["rows"] == manifest["rows"] + 1


def test_the_manifest_says_what_is_in_the_file(store, busy, tmp_path):
    project, _ = busy
    path = tmp_path / "c.csv"
    manifest = export_file(store, project, Query("comparisons", split="train", margin=True), path)
    assert json.loads(tables.manifest_path(path).read_text()) == manifest
    assert manifest["schema"] == layout.SCHEMA
    assert manifest["query"] == asdict(Query("comparisons", split="train", margin=True))
    assert manifest["stored"] == manifest["exported"] + sum(manifest["excluded"].values())
    assert "margin" in manifest["columns"] and "formula_cells" in manifest
    assert manifest["rows"] == len(list(tables.read_export(path)))


def test_splits_never_meet(store):
    project, ada = make_project(store), make_rater(store)
    for i in range(60):
        judged(store, project, ada, make_task(store, project, question=f"q{i}"), {"value": 1})
    sides = {
        side: {r["prompt"][0]["content"] for r in rows(store, project, "comparisons", split=side)}
        for side in ("train", "held_out", "all")
    }
    assert sides["train"] and sides["held_out"]
    assert not sides["train"] & sides["held_out"]
    assert sides["train"] | sides["held_out"] == sides["all"]


def test_text_prompts_have_text_responses(store):
    """TRL's standard form; conversations give its conversational form, and a mixture says so."""
    project = make_project(store)
    imported.comparisons(store, project, [Comparison("Once", (" upon", " more"), (1, 2))])
    taken = snapshot.take(store, project, Query("comparisons"))
    assert taken.columns["prompt"] == taken.columns["chosen"] == "text"
    (row,) = rows(store, project, "comparisons")
    assert (row["prompt"], row["chosen"], row["rejected"]) == ("Once", " upon", " more")
    imported.comparisons(store, project, [Comparison(CHAT, ("a", "b"), (1, 2))])
    assert snapshot.take(store, project, Query("comparisons")).columns["prompt"] == "json"


def test_trl_takes_the_comparisons(store, tmp_path):
    """TRL's own eye: the form that `trl` sees in an exported file is a conversational preference."""
    pytest.importorskip("trl")
    from trl.data_utils import is_conversational

    project = make_project(store)
    imported.comparisons(store, project, [Comparison(CHAT, ("a", "b"), (1, 2), strength=0.5)])
    export_file(store, project, Query("comparisons", margin=True), tmp_path / "c.parquet")
    (_, row), *_ = tables.read_rows(tmp_path / "c.parquet")
    assert is_conversational(row)
    assert row["margin"] == 0.5


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"what": "comparison"}, "did you mean 'comparisons'"),
        ({"what": "comparisons", "split": "test"}, "split"),
        ({"what": "rankings", "margin": True}, "margin"),
    ],
)
def test_what_cannot_be_exported(query, words):
    with pytest.raises(UserError, match=words):
        Query(**query)


@pytest.mark.parametrize("what", ["prompts", "samples", "judgments"])
def test_filters_that_would_mean_nothing(store, what):
    """Mutation caught: a file with the gold answers that were not asked for, or without those that were."""
    with pytest.raises(UserError, match=f"gold: only where rows .* leave it out for {what}"):
        snapshot.take(store, make_project(store), Query(what, gold=True))


def test_another_projects_snapshot_is_not_there(store, busy, tmp_path):
    project, _ = busy
    taken = snapshot.take(store, project, Query("comparisons"))
    with store.write() as connection:
        other = projects.create(connection, "other")
    for where, key in ((other, taken.id), (project, "nonsense")):
        with pytest.raises(UserError, match="no snapshot"):
            export_file(store, where, Query("comparisons"), tmp_path / "x.jsonl", snapshot_id=key)
    with pytest.raises(UserError, match="holds comparisons"):
        export_file(store, project, Query("scores"), tmp_path / "x.jsonl", snapshot_id=taken.id)
    with pytest.raises(UserError, match="filters of its own"):
        query = Query("comparisons", split="train")
        export_file(store, project, query, tmp_path / "x.jsonl", snapshot_id=taken.id)
    assert not list(tmp_path.glob("*.jsonl*"))


# ── any text comes back ──────────────────────────────────────────────────────────────────────────

ODD = [
    "\x00", "\x1a", "\x1a0000", "\ud83d", "\ud83d\ude00", "\udc00\ud800", "😀", "é", "e\u0301", "\u202eabc",
    "=1+1", "'=1", "''=1", "+x", "-1", "@x", "\tx", "\rx", "'", "a\r\nb", 'say "hi", ok', "\ufeffx",
    "a\u2028b", " x ", "[1]", "null", "\\ud83d",
]  # fmt: skip
texts = st.one_of(
    st.sampled_from(ODD),
    st.text(st.characters(codec=None), min_size=1, max_size=8),
    st.lists(st.sampled_from(ODD), min_size=2, max_size=4).map("".join),
).filter(lambda t: t.strip() != "")


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Iterator[Store]:
    opened = new_store(tmp_path_factory.mktemp("odd") / "heedful.db")
    yield opened
    opened.close()


@pytest.mark.long
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(texts, texts, texts).filter(lambda t: t[0] != t[1]), min_size=1, max_size=5)
)
def test_any_text_comes_back_from_every_format(one, tmp_path_factory, triples):
    """By hash: database → JSONL, CSV, Parquet → rows → database of another project."""
    from heedful.recipes import ingest as recipe

    folder: Path = tmp_path_factory.mktemp("files")
    items = [Comparison((Message("user", q),), (a, b), (1, 2)) for a, b, q in triples]
    project = make_project(one, new_id())
    imported.comparisons(one, project, items)
    wanted = hashes(one, project)
    for ending in ("jsonl", "csv", "parquet", "csv.gz"):
        path = folder / f"c.{ending}"
        export_file(one, project, Query("comparisons"), path)
        other = make_project(one, new_id())
        recipe.load(recipe.Config(what="comparisons", source=str(path), quiet=True)).write(
            one, other
        )
        assert hashes(one, other) == wanted, ending


def hashes(store: Store, project: str) -> list[tuple]:
    with store.read() as connection:
        found = connection.execute(
            select(schema.prompt.c.sha256, schema.completion.c.sha256)
            .join(schema.completion, schema.completion.c.prompt == schema.prompt.c.id)
            .where(schema.prompt.c.project == project)
        )
        return sorted(map(tuple, found))


def test_the_books_are_those_of_the_exports(store, busy):
    """Judgments of one shape are counted together: never otherwise than each would be exported."""
    project, ada = busy
    for i, (responses, said) in enumerate(
        [(("a", "a"), {"value": 1}), (("a", " "), {"value": 8}), (("", " "), {"value": 2}),
         (("a", "b"), {"value": 1}), (("b", "a"), {"tie": True})] * 2
    ):  # fmt: skip
        with store.write() as connection:  # equal words of two models are two responses
            prompt = content.add_prompt(connection, project, f"shape {i}")
            ids = [
                content.add_completion(connection, prompt, text, model=str(k))
                for k, text in enumerate(responses)
            ]
            task = content.add_task(connection, project, "pair", prompt, ids)
        judged(store, project, ada, task, said)
    for score in ({"thumbs": [1]}, {"thumbs": [0]}, {"thumbs": [-1]}, {"thumbs": [1]}):
        for text in ("t", " "):
            thumbs = make_task(
                store, project, "thumbs", [text], question=f"{score} {text} {new_id()}"
            )
            judged(store, project, ada, thumbs, score)
    with store.read() as connection:
        together = books.reconcile(connection, project)
        for what in layout.COLUMNS:
            ids, _, count = snapshot.choose(connection, project, Query(what))
            assert together[what] == count, what
            if what in export.FROM_JUDGMENTS:
                everything = list(connection.execute(select(schema.judgment.c.id)).scalars())
                each = [
                    (j.judgment.id, export.FROM_JUDGMENTS[what](j))
                    for j in records.load(connection, everything)
                ]
                with_rows = {key for key, result in each if not isinstance(result, str)}
                assert set(ids) <= with_rows, what
                if what in export.TRAINING:
                    reasons = Counter(result for _, result in each if isinstance(result, str))
                    assert set(reasons) <= set(count.excluded) | {"another kind of answer"}, what
