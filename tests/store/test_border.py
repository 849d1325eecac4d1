"""Whatever a file, a request or a round holds is kept exactly on both databases, or refused in one sentence before
anything is written; and what is kept can be exported as JSONL, CSV and Parquet."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select

from heedful.configs.ingest import Config
from heedful.data import tables
from heedful.errors import UserError
from heedful.store.database import limits
from heedful.store.database.db import Store, new_id
from heedful.store.exports import snapshot
from heedful.store.kinds import check_options
from heedful.store.membership import people
from heedful.store.project import projects
from heedful.store.rating import talk
from heedful.store.tables import schema
from heedful.store.tables.columns import unescaped
from heedful.transfer import ingest
from heedful.transfer.workspace import export_file
from workspace import make_project, make_rater, make_task

PAIR = {"prompt": "Owl?", "chosen": "Hoo.", "rejected": "Moo."}
SAMPLE = {"prompt": "Owl?", "completion": "Hoo."}
ASKED = [{"role": "user", "content": "Owl?"}]
NASTY = "a\x00b\x1a\u202e'x'; DROP TABLE rater; --"
DEEP: list = []
for _ in range(300):
    DEEP = [DEEP]

# What a column holds → what its export has.
KEPT: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {
    "comparisons": [
        ({"rater": 5}, {"rater": "5"}),
        ({"rater": -(2**63)}, {"rater": str(-(2**63))}),
        ({"rater": "r" * 200}, {"rater": "r" * 200}),
        ({"rater": NASTY}, {"rater": NASTY}),
        ({"policy_version": 5}, {"policy_version": "5"}),
        ({"policy_version": "m" * 5000}, {"policy_version": "m" * 5000}),
        ({"seconds": 3e6}, {"seconds": 3e6}),  # a task that was left open for a month
        ({"seconds": 1e9, "strength": 1}, {"seconds": 1e9, "strength": 1.0}),
        ({"created_at": 1714557600, "strength": 1e-300}, {"strength": 1e-300}),
        ({"created_at": "1890-01-01"}, {}),
        ({"rater": "", "seconds": 0}, {"rater": "imported", "seconds": 0.0}),
    ],
    "samples": [
        ({"stop_reason": "max_new_tokens"}, {"stop_reason": "max_new_tokens"}),
        ({"stop_reason": NASTY, "engine": "e" * 500}, {"stop_reason": NASTY, "engine": "e" * 500}),
        ({"seed": 2**63 - 1}, {"seed": 2**63 - 1}),
        ({"seed": 2**31}, {"seed": 2**31}),
        ({"seed": "-7"}, {"seed": -7}),
        ({"tokens": [2**63 - 1, 0]}, {"tokens": [2**63 - 1, 0]}),
        ({"logprobs": [-1e300, None]}, {"logprobs": [-1e300, None]}),
        ({"sampling": {"top_k": 2**70}}, {"sampling": {"top_k": 2**70}}),
        ({"model": 5}, {"model": "5"}),
        ({"model": "m" * 5000}, {"model": "m" * 5000}),
    ],
    "prompts": [
        ({"language": "l" * 300, "source": NASTY}, {"language": "l" * 300, "source": NASTY}),
        ({"licence": "  ", "language": "de"}, {"licence": None, "language": "de"}),
        ({"prompt": NASTY}, {"prompt": NASTY}),
        ({"prompt": ASKED, "tools": [{"type": "x", "n": 2**70}]}, {"tools": [{"type": "x", "n": 2**70}]}),
    ],
}  # fmt: skip
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("comparisons", {"rater": [5]}, "`rater` must be text or a whole number, not [5]"),
    ("comparisons", {"rater": True}, "`rater` must be text or a whole number, not True"),
    ("comparisons", {"rater": 10**400}, "`rater` must be text or a whole number, not 1000"),
    ("comparisons", {"rater": "r" * 201}, "`rater` must have at most 200 characters"),
    ("comparisons", {"policy_version": {"a": 1}}, "`policy_version` must be text or a whole number"),
    ("comparisons", {"seconds": 1e300}, "`seconds` must be a number from 0 to 1e+09, not 1e+300"),
    ("comparisons", {"seconds": 10**400}, "`seconds` must be a number from 0"),
    ("comparisons", {"seconds": float("inf")}, "`seconds` must be a number from 0 to 1e+09, not inf"),
    ("comparisons", {"seconds": True}, "`seconds` must be a number from 0 to 1e+09, not True"),
    ("comparisons", {"strength": float("nan")}, "`strength` must be a number from 0 to 1, not nan"),
    ("comparisons", {"strength": "0.5"}, "`strength` must be a number from 0 to 1, not '0.5'"),
    ("comparisons", {"created_at": "yesterday"}, "`created_at` must be a date such as 2024"),
    ("comparisons", {"created_at": [1]}, "`created_at` must be a date such as 2024"),
    ("comparisons", {"created_at": 1e300}, "`created_at` must be a date such as 2024"),
    ("comparisons", {"prompt": [{"role": "tool", "content": "x", "name": ["n"]}]}, "`name` must be text"),
    ("comparisons", {"prompt": ASKED, "tools": [{"type": "x", "n": float("nan")}]}, "`tools` must be JSON"),
    ("comparisons", {"prompt": ASKED, "tools": [{"type": "x", "n": DEEP}]}, "`tools` must be nested at most 100"),
    ("samples", {"seed": 2**63}, "`seed` must be a whole number of at most 64 bits"),
    ("samples", {"seed": True}, "`seed` must be a whole number, not True"),
    ("samples", {"seed": 1.5}, "`seed` must be a whole number, not 1.5"),
    ("samples", {"seed": "\u00b2"}, "`seed` must be a whole number"),
    ("samples", {"tokens": [2**70]}, "`tokens` must be a list of whole numbers of at most 64 bits"),
    ("samples", {"tokens": [True]}, "`tokens` must be a list of whole numbers"),
    ("samples", {"tokens": "1 2"}, "`tokens` must be a list of whole numbers"),
    ("samples", {"logprobs": [float("-inf")]}, "`logprobs` must be JSON (it holds NaN or an infinite number)"),
    ("samples", {"logprobs": {"a": 1}}, "`logprobs` must be a list"),
    ("samples", {"sampling": [1]}, "`sampling` must be an object"),
    ("samples", {"sampling": {"a": DEEP}}, "`sampling` must be nested at most 100 deep"),
    ("samples", {"stop_reason": ["stop"]}, "`stop_reason` must be text, not ['stop']"),
    ("samples", {"engine": 5}, "`engine` must be text, not 5"),
    ("samples", {"model": ["m"]}, "`model` must be text or a whole number"),
    ("prompts", {"language": ["en"]}, "`language` must be text, not ['en']"),
    ("prompts", {"source": {"url": "x"}}, "`source` must be text"),
    ("votes", {"rater": [5]}, "`rater` must be text or a whole number, not [5]"),
    ("votes", {"rater": "r" * 201}, "`rater` must have at most 200 characters"),
]  # fmt: skip
BASE = {
    "comparisons": PAIR,
    "samples": SAMPLE,
    "prompts": {"prompt": "Owl?"},
    "votes": SAMPLE | {"label": True},
}


def load(path: Path, what: str, rows: list[dict[str, Any]]) -> Any:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return ingest.load(
        Config(what="comparisons" if what == "votes" else what, source=str(path), quiet=True)
    )  # type: ignore[arg-type]


@pytest.mark.parametrize("what", KEPT)
def test_what_is_kept_comes_back(store: Store, tmp_path: Path, what: str):
    """Mutation caught: a column that holds 32 bits or 10 characters on PostgreSQL; an export that a value breaks."""
    project = make_project(store)
    rows = [  # each with a prompt of its own, by which its export is known
        BASE[what] | {"prompt": f"{what} {i}"} | given for i, (given, _) in enumerate(KEPT[what])
    ]
    load(tmp_path / "rows.jsonl", what, rows).write(store, project)
    exported = "rankings" if what == "comparisons" else what
    for ending in ("jsonl", "csv", "parquet"):
        file = tmp_path / f"out.{ending}"
        export_file(store, project, snapshot.Query(exported), file)
        back = [unescaped(row) for _, row in tables.read_export(file)]
        for row, (_, wanted) in zip(rows, KEPT[what], strict=True):
            (found,) = [b for b in back if b["prompt"] == row["prompt"]]
            # CSV has one empty cell for nothing and for an empty text.
            assert {name: found.get(name) or None for name in wanted} == {
                name: value or None for name, value in wanted.items()
            }, ending


@pytest.mark.parametrize(("what", "given", "sentence"), REFUSED)
def test_what_cannot_be_kept_is_a_sentence(tmp_path: Path, what: str, given: dict, sentence: str):
    """With file, line and field, before a database is opened: nothing can be half-written."""
    path = tmp_path / "rows.jsonl"
    with pytest.raises(UserError) as refused:
        load(path, what, [BASE[what], BASE[what] | {"prompt": "Newt?"} | given])
    assert str(refused.value).startswith("rows.jsonl:2: ") and sentence in str(refused.value)
    assert len(str(refused.value)) < 250


def test_dates_of_a_parquet_file(tmp_path: Path):
    import pyarrow
    import pyarrow.parquet

    file = tmp_path / "p.parquet"
    row = PAIR | {"created_at": datetime(2024, 5, 1, 10, tzinfo=UTC)}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), file)
    ingest.load(Config(what="comparisons", source=str(file), quiet=True))


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("completion", {"seed": 2**63}),
    ("completion", {"seed": True}),
    ("completion", {"token_ids": [2**70]}),
    ("completion", {"logprobs": [float("nan")]}),
    ("completion", {"sampling": {"a": DEEP}}),
    ("completion", {"sampling": {"a": b"bytes"}}),
    ("completion", {"finish_reason": 5}),
    ("completion", {"text": ["a"]}),
    ("task", {"score": float("inf")}),
    ("task", {"propensity": True}),
    ("task", {"score": 10**400}),
    ("project", {"name": "n" * 201}),
    ("rater", {"pseudonym": 5}),
    ("run", {"config": {"x": float("nan")}}),
    ("offer", {"candidates": [{"logprobs": [float("-inf")]}]}),
]


def test_the_columns_are_the_last_border(store: Store):
    """For what reads no file: rounds, conversations, programs. The same sentence on both databases."""
    for table, values in WRONG:
        name = next(iter(values))
        insertion = insert(schema.metadata.tables[table]).values(id=new_id(), **values)
        with pytest.raises(UserError, match=f"^`{name}` of a {table} must"), store.write() as c:
            c.execute(insertion)


def test_other_doors(store: Store):
    """Names, options, replies of models; mutation caught: a limit of PostgreSQL's indexes told as a traceback."""
    project, rater = make_project(store), make_rater(store)
    with store.write() as connection:
        assert people.by_login(connection, NASTY + "\ud800") is None
        assert limits.take_all(connection, [(f"login-of:{NASTY}\ud800", limits.ADDRESS)]) == 0
        assert people.ensure_judge(connection, NASTY)
        assert people.ensure_judge(connection, "\ud83d\udc4d" * 100)  # four bytes each, and unique
        for make in (projects.ensure, people.ensure_judge):
            with pytest.raises(UserError, match="must have at most 200 characters"):
                make(connection, "n" * 100_000)
    for kind, options in (
        ("rate", {"axes": [{"name": "h", "low": 10**400}]}),
        ("rate", {"axes": [{"name": "h", "high": float("nan")}]}),
        ("rate", {"axes": [{"name": "h", "low_label": [1]}]}),
        ("rate", {"axes": [{"name": "h", "note": DEEP}]}),
        ("rate", {"axes": [{"name": "h" * 100_000}]}),
        ("rate", {"axes": [{"name": "h", "high_label": "h" * 100_000}]}),
        ("rate", {"axes": [{"name": f"h{i}"} for i in range(101)]}),
        ("rules", {"rules": [{"code": "c", "text": "t" * 100_000}]}),
        ("chat", {"max_turns": 10**400}),
        ("chat", {"min_turns": True}),
    ):
        with pytest.raises(UserError):
            check_options(kind, options)
    make_task(store, project, "chat", responses=())
    from workspace import claim

    assignment = claim(store, project, rater)
    assert assignment
    said = [{"text": NASTY, "model": "m", "seed": 2**62, "tokens": [1], "logprobs": [-0.5]}] * 2
    with store.write() as connection:
        talk.offer(connection, assignment, rater, 0, NASTY, said)
    with store.read() as connection:
        assert connection.execute(select(schema.offer.c.candidates)).scalar_one() == said
        assert connection.execute(select(func.count()).select_from(schema.offer)).scalar() == 1
