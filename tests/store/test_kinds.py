"""Every kind of question, those of other packages too: what it promises of itself is so, and nothing else names it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from heedful.data.files import write_rows
from heedful.data.tables import read_export
from heedful.errors import UserError
from heedful.store import kinds
from heedful.store.database.db import Store
from heedful.store.exports import books, export, snapshot
from heedful.store.intake.ingest import TaskSpec
from heedful.store.kinds import KINDS
from heedful.store.kinds.kind import Kind
from heedful.store.lead import quality
from heedful.store.project import gold
from heedful.store.rating import show
from heedful.store.tables import schema
from heedful.transfer.workspace import opened
from plugin import install
from workspace import answer, claim, make_project, make_rater, make_task

ROOT = Path(__file__).parents[2]
HEEDFUL = ROOT / "src" / "heedful"
TEXTS = ("Lima.", "Cusco.", "La Paz.")


def asked(store: Store, kind: Kind) -> tuple[str, str, str]:
    """A question of this kind that its example answers: project, rater, assignment."""
    project, rater = make_project(store), make_rater(store)
    shown = TEXTS[: kind.responses[0]]
    make_task(store, project, kind.name, shown, options=kind.example_options, overlap=2)
    given = claim(store, project, rater)
    assert given
    if kind.talks:
        talk(store, given, kind)
    return project, rater, given


PLAYED = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Hello"}]
PLAY = {"text": "assistant: Hello", "messages": PLAYED, "tools": [], "episode": {"whole": True}}


def turns_of(kind: Kind) -> int:
    """How many its example has, which says so or something of each."""
    return kind.example.get("turns") or len(kind.example["broken"])


def talk(store: Store, assignment: str, kind: Kind) -> None:
    replies = [{"text": "Hi."}, {"text": "No."}][: kind.replies]
    said = {"candidates": replies, "order_shown": [*range(len(replies))]}
    if kind.plays:
        said = {"candidates": [{"text": "", "play": PLAY}], "order_shown": [0]}
    with store.write() as connection:
        for place in range(turns_of(kind)):
            offer = {"id": f"{assignment[:30]}{place}", "assignment": assignment, "place": place}
            connection.execute(
                schema.offer.insert().values(**offer, **said, said="Hello", created_at=1.0)
            )
            connection.execute(
                schema.turn.insert().values(offer=offer["id"], chosen=0, created_at=1.0)
            )


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_a_kind_promises(store: Store, kind: Kind):
    """Its example is an answer; it comes back as it was said; it has rows in just the forms that are named.

    Mutation caught: a kind whose answers are stored but never exported, or whose page would show another answer.
    """
    project, rater, given = asked(store, kind)
    beside = {kind.comment: "because", "confidence": 0.5}
    answer(store, given, rater, kind.example | beside)
    with store.read() as connection:
        page = show.question(connection, given, rater)
        assert (page["kind"], page["answer"]) == (kind.name, kind.example | beside)
        assert page["options"] == kinds.check_options(kind.name, kind.example_options)
        row = connection.execute(select(schema.judgment)).one()
        assert (row.text, row.confidence) == ("because", 0.5)
        for count in books.reconcile(connection, project).values():
            assert count.missing == 0
        (said,) = quality.load(connection, [row.id])
        assert not kind.measure or getattr(said, kind.measure.of)
    for what in export.TRAINING:
        taken = snapshot.take(store, project, snapshot.Query(what))
        with store.read() as connection:
            rows = list(snapshot.rows(connection, taken.query, taken.ids))
        assert bool(rows) == (what in kind.exports), what
        assert all(set(row) <= set(taken.columns) for row in rows)
    with pytest.raises(UserError, match="unexpected field 'nonsense'"):
        answer(store, given, rater, kind.example | {"nonsense": 1})
    again = answer(store, given, rater, kind.example)
    assert again.revision == 2


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_options_that_a_kind_does_not_have(kind: Kind):
    with pytest.raises(UserError, match=f"{kind.name} have no option 'nonsense'"):
        kinds.check_options(kind.name, kind.example_options | {"nonsense": 1})


def test_what_is_asked_of_a_prompts_responses():
    """Each alone, all pairs, all at once; triplets, each begun by another response; one question that shows none.

    Mutation caught: the same anchor in all triplets.
    """

    def asked(kind: str, responses: str) -> list[tuple[str, ...]]:
        options = KINDS[kind].example_options
        return [tuple(group) for group in TaskSpec(kind, options=options).shown(responses)]

    assert asked("rate", "wxyz") == [("w",), ("x",), ("y",), ("z",)]
    assert asked("rank", "wxyz") == [("w", "x", "y", "z")]
    assert len(asked("pair", "wxyz")) == 6
    assert asked("triplet", "wxyz") == [tuple("wxy"), tuple("xzw"), tuple("zwy"), tuple("xyz")]
    assert not asked("rank", "w")
    assert asked("chat", "") == [()]  # one question, about none


def test_two_of_one_name_and_names_that_fit_no_column():
    with pytest.raises(UserError, match="two kinds"):
        kinds.register(replace(KINDS["pair"], label="another"))
    for name in ("", "Pair", "eleven_long", "a-b", "../pair"):
        with pytest.raises(UserError, match="1 to 10"):
            replace(KINDS["pair"], name=name)


def test_every_kind_is_two_files():
    """One of Python, one of JavaScript; and a name that one file alone may have."""
    own = {name for name, kind in KINDS.items() if kind.page is None}
    pages = HEEDFUL / "web" / "static" / "rate" / "kinds"
    assert {path.stem for path in pages.iterdir()} == own
    files = HEEDFUL / "store" / "kinds"
    assert {p.stem for p in files.glob("*.py")} - {"__init__", "kind", "checks"} == own
    lists = re.compile("|".join(f"""["'`]{name}["'`]""" for name in own))
    for path in HEEDFUL.rglob("*"):
        if path.suffix in (".py", ".js", ".html") and "kinds" not in path.parts:
            for line in path.read_text(encoding="utf-8").splitlines():
                assert len(set(lists.findall(line))) < 3, f"{path}: a list of kinds: {line}"


def test_the_documents_know_every_kind_of_ours():
    text = (ROOT / "docs" / "people.md").read_text(encoding="utf-8")
    for kind in (kind for kind in KINDS.values() if kind.page is None):
        assert f"| `{kind.name}` | {kind.does} | {kind.keeps} |\n" in text
        assert f"| `{kind.name}` | {kind.form} |\n" in text


@pytest.mark.long
def test_a_kind_of_another_package(tmp_path: Path):
    """One Python file and an entry point: it is asked, answered, exported and checked, and in the help.

    The page's part is in tests/browser/test_kinds.py.
    """
    install(tmp_path / "site")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), *sys.path])}

    def heedful(*words: str) -> str:
        command = [sys.executable, "-m", "heedful", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    ws = tmp_path / "ws"
    heedful("init", str(ws))
    rows = [{"prompt": "The capital of Peru?", "completion": text} for text in (*TEXTS, "Quito.")]
    write_rows(tmp_path / "samples.jsonl", rows)
    assert "odd_one" in heedful("import", "--help")
    bring = ["import", "samples", str(tmp_path / "samples.jsonl"), "--workspace", str(ws)]
    assert json.loads(heedful(*bring, "--ask", "odd_one", "--quiet"))["tasks"] == 4
    script = tmp_path / "rate.py"
    script.write_text(RATE)
    done = subprocess.run([sys.executable, script, ws], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    out = tmp_path / "scores.jsonl"
    heedful("export", "scores", str(out), "--workspace", str(ws))
    found = [row for _, row in read_export(str(out))]
    assert [row["value"] for row in found].count(1.0) == 4 and len(found) == 12
    assert {row["axis"] for row in found} == {"odd"}
    heedful("check", str(ws))
    # Without the package what was said is there as before; it is asked no more.
    with opened(ws) as store, store.read() as connection:
        (project,) = connection.execute(select(schema.project.c.id)).scalars()
        assert books.reconcile(connection, project)["scores"].exported == 4


RATE = """
import sys
from heedful.store import kinds
from heedful.store.membership import people
from heedful.store.rating import judging, work
from heedful.store.database.db import new_id
from heedful.store.tables.schema import project
from heedful.transfer.workspace import opened
from pathlib import Path
from sqlalchemy import select
with opened(Path(sys.argv[1])) as store, store.write() as connection:
    key = connection.execute(select(project.c.id)).scalar_one()
    judge = people.ensure_judge(connection, "j")
    while given := work.claim(connection, key, judge).assignment:
        judging.submit(connection, given, judge, kinds.KINDS["odd_one"].example, key=new_id())
"""


def test_triplets_are_about_the_first(store: Store):
    """What each rater sees first is the task's first response; what is closer is kept by response, is no preference,
    and becomes a row; who cannot tell gives none.

    Mutations caught: an anchor that is shuffled, near and far exchanged, triplets among the scores or the comparisons,
    a known answer that is not compared.
    """
    project = make_project(store)
    make_task(store, project, "triplet", TEXTS, overlap=20)
    seconds = set()
    for _ in range(20):
        rater = make_rater(store)
        given = claim(store, project, rater)
        assert given
        with store.read() as connection:
            first, second, _ = show.question(connection, given, rater)["responses"]
        assert first["text"] == TEXTS[0]
        seconds.add(second["text"])
        answer(store, given, rater, {"closer": 1 if second["text"] == TEXTS[1] else 2})
    assert seconds == {*TEXTS[1:]}  # by chance, one of a million
    answer(store, given, rater, {"tie": True})
    for bad in ({"closer": 0}, {"closer": 3}, {"closer": 1, "tie": True}, {}):
        with pytest.raises(UserError):
            answer(store, given, rater, bad)
    taken = snapshot.take(store, project, snapshot.Query("triplets"))
    with store.read() as connection:
        rows = list(snapshot.rows(connection, taken.query, taken.ids))
    assert {(r["anchor"], r["positive"], r["negative"]) for r in rows} == {TEXTS}
    assert len(rows) == 19 and taken.count.excluded == {"corrected later": 1, "tie": 1}
    for what in ("comparisons", "rankings", "scores"):
        assert not snapshot.take(store, project, snapshot.Query(what)).ids
    with store.read() as connection:
        assert not any(a.prefers for a in quality.load(connection, taken.ids))
    key = gold.read("triplet", {}, gold.key_of("triplet", {}, TEXTS, {"closer": 2}))
    for closer in (1, 2):
        scores = {(TEXTS[i], "closer"): float(i == closer) for i in (1, 2)}
        assert gold.right({"": gold.Known(scores=scores)}, key) == (closer == 2)
