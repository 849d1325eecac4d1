"""What raters are told and agree to, and what becomes of answers that were taken back."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from sqlalchemy import func, select, update

from databases import new_store
from heedful.data.files import read_rows, write_rows
from heedful.errors import UserError
from heedful.store.database.db import Store, now
from heedful.store.exports import hooks
from heedful.store.exports.snapshot import Query
from heedful.store.project import consent
from heedful.store.rating import work
from heedful.store.tables import schema
from heedful.transfer.rounds import Round, freeze, held_out_with, merge
from heedful.transfer.sources import materialise
from heedful.transfer.withdrawn import holding
from heedful.transfer.workspace import export_file
from workspace import answer, claim, make_project, make_rater, make_task, make_tasks


def why(store: Store, project: str, rater: str) -> str | None:
    with store.write() as connection:
        return work.claim(connection, project, rater).reason


def test_nobody_is_asked_before_they_agree(store: Store):
    """To the newest version, each person for themselves; an older one is no agreement, and an empty one asks for none.
    Mutations caught: another's agreement, one to any version, the question that was open already given all the same."""
    project, ada, bao = make_project(store), make_rater(store), make_rater(store)
    make_tasks(store, project, 3)
    open_already = claim(store, project, ada)
    with store.write() as connection:
        first = consent.write(connection, project, "We keep what you say.", actor=None)
        assert first == consent.write(connection, project, "We keep what you say.", actor=None)
    assert first and why(store, project, ada) == why(store, project, bao) == "disclosure"
    with store.write() as connection:
        consent.agree(connection, project, ada, first)
        consent.agree(connection, project, ada, first)
    assert claim(store, project, ada) == open_already
    assert why(store, project, bao) == "disclosure"
    with store.write() as connection:
        second = consent.write(connection, project, "We publish it, too.", actor=None)
        with pytest.raises(UserError, match="the text has changed"):
            consent.agree(connection, project, ada, first)
        told = consent.standing(connection, project, ada)
    assert told["disclosure"]["id"] == second and told["agreed_at"] is None
    assert why(store, project, ada) == "disclosure"
    with store.write() as connection:
        consent.write(connection, project, " ", actor=None)
    assert claim(store, project, bao)
    with store.read() as connection:
        count = select(func.count()).select_from(schema.agreement)
        assert connection.execute(count).scalar_one() == 1


def test_a_lead_takes_out_and_puts_back(store: Store):
    """What a lead took out a person cannot put back, but can take back for good. Mutation caught: whoever comes last
    decides."""
    project, ada, lead = make_project(store), make_rater(store), make_rater(store, "lead")
    with store.write() as connection:
        consent.withdraw(connection, project, ada, actor=lead)
        with pytest.raises(UserError, match="your lead has taken your answers out"):
            consent.give_again(connection, project, ada, actor=ada)
        consent.give_again(connection, project, ada, actor=lead)
        assert consent.refusal(connection, project, ada) is None
        consent.withdraw(connection, project, ada, actor=lead)
        consent.withdraw(connection, project, ada, actor=ada)
        consent.withdraw(connection, project, ada, actor=lead)
        assert consent.standing(connection, project, ada)["by_themselves"]
        assert consent.withdrawn(connection, project) == [ada]
    assert why(store, project, ada) == "withdrawn"


def test_frozen_rounds_and_webhooks_let_go(store: Store, tmp_path: Path):
    """A round that was frozen before does not bring back what was withdrawn since, nor does a delivery that waits.
    Mutations caught: the frozen file read as it is; a withdrawal in one project that is one in all."""
    project, other = make_project(store), make_project(store, "other")
    ada, bao = make_rater(store), make_rater(store)
    with store.write() as connection:
        hooks.add(connection, project, "https://example.org/hear", actor=None)
    tasks = [make_task(store, project, question=f"{i}?", overlap=2) for i in range(3)]
    for rater in (ada, bao):
        while given := claim(store, project, rater):
            answer(store, given, rater)
    done = Round(tmp_path / "comparisons.jsonl", tasks)
    everything = held_out_with([])
    freeze(store, project, done, everything)
    with store.write() as connection:
        consent.withdraw(connection, other, bao, actor=bao)
        consent.withdraw(connection, project, ada, actor=ada)
        connection.execute(update(schema.webhook_delivery).values(due_at=now(connection) - 1))
    files = {"train": tmp_path / "train.jsonl", "evaluation": tmp_path / "evaluation.jsonl"}
    merge(store, [], [done], everything, **files)
    left = [row["rater"] for f in files.values() if f.exists() for _, row in read_rows(f)]
    with store.write() as connection:
        names = select(schema.rater.c.pseudonym).where(schema.rater.c.id == bao)
        assert left == [connection.execute(names).scalar_one()] * 3
        sent = hooks.claim_due(connection)
        assert [d.body["judgment"]["rater"] for d in sent] == left
        count = select(func.count()).select_from(schema.webhook_delivery)
        assert connection.execute(count).scalar_one() == 3


def test_of_no_project_nothing_is_taken_back(store: Store):
    """Mutation caught: the database's own error, which a page gets as one of the server."""
    rater = make_rater(store)
    with store.write() as connection, pytest.raises(UserError, match="no such project"):
        consent.withdraw(connection, "nowhere", rater, actor=rater)


def test_where_withdrawn_answers_still_are(store: Store, tmp_path: Path):
    """Exports by their snapshots, files with such rows, runs that learned from them, and runs that began from those.
    Mutations caught: another's answers, exports of prompts, a run that only has a loss of the same name, one that goes
    on from a clean run; a chain of one step; what is listed after the answers were given again."""
    work_folder = tmp_path / "work"
    work_folder.mkdir()
    ours = new_store(work_folder / "heedful.db")
    project, ada, bao = make_project(ours), make_rater(ours), make_rater(ours)
    for i in range(2):
        make_task(ours, project, question=f"{i}?", overlap=2)
        for who in (ada, bao):
            given = claim(ours, project, who)
            assert given
            answer(ours, given, who, {"value": 1})
    before = export_file(ours, project, Query("judgments"), tmp_path / "gone.csv")
    export_file(ours, project, Query("prompts"), work_folder / "prompts.jsonl")
    data = Path(materialise(f"db:{work_folder}", "rankings", split="all"))
    rows = [row for _, row in read_rows(data)]
    bao_only = [row for row in rows if row["rater"] == f"rater-{bao}"]
    write_rows(work_folder / "round" / "comparisons.jsonl", rows)
    write_rows(work_folder / "clean.jsonl", bao_only)
    for name, config in {
        "reward": {"data": str(data)}, "dpo": {"data": ["x.jsonl", "round/comparisons.jsonl"], "loss": "dpo"},
        "clean": {"data": "clean.jsonl", "loss": "dpo", "method": "reward"},
        "after": {"model": "runs/clean"}, "ppo": {"reward": {"a": "work/runs/reward(user=x.jsonl)"}},
        "again": {"model": "runs/ppo"},
    }.items():  # fmt: skip
        (work_folder / "runs" / name).mkdir(parents=True)
        text = yaml.safe_dump(config | {"out": f"runs/{name}"})
        (work_folder / "runs" / name / "config.yaml").write_text(text)
    assert holding(ours, project, work_folder) == []
    with ours.write() as connection:
        consent.withdraw(connection, project, ada, actor=ada)
    found = holding(ours, project, work_folder)
    export = data.relative_to(work_folder).as_posix()
    by_kind = {
        kind: {h.name: h.answers for h in found if h.kind == kind}
        for kind in ("snapshot", "file", "run")
    }
    assert before["snapshot"] in by_kind["snapshot"] and len(by_kind["snapshot"]) == 2
    assert set(by_kind["snapshot"].values()) == {2}
    assert by_kind["file"] == {export: 2, "round/comparisons.jsonl": 2}
    runs = [f"runs/{name}" for name in ("again", "dpo", "ppo", "reward")]
    assert list(by_kind["run"]) == runs
    data.unlink()  # the run that learned from it is known by its name
    assert [h.name for h in holding(ours, project, work_folder) if h.kind == "run"] == runs
    export_file(
        ours, project, Query("judgments"), work_folder / "b.csv", snapshot_id=before["snapshot"]
    )
    assert all(h.name != "b.csv" for h in holding(ours, project, work_folder))
    with ours.write() as connection:
        consent.give_again(connection, project, ada, actor=ada)
    assert holding(ours, project, work_folder) == []
    ours.close()
