"""`heedful backup` and `heedful restore`: nothing that was acknowledged is lost, nothing damaged is put in place."""

from __future__ import annotations

import json
import os
import shutil
import stat
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select

from heedful.cli import main
from heedful.store.database import copying
from heedful.store.database.db import Store, new_id, open_store
from heedful.store.exports.books import reconcile
from heedful.store.tables import schema
from workspace import answer, claim, make_project, make_rater, make_tasks

RATERS = 4


@pytest.fixture
def workspace(url: str, tmp_path: Path) -> Path:
    """One on each kind of database, with what is not in the database beside it."""
    folder = tmp_path / "work"
    folder.mkdir()
    if url.startswith("sqlite"):
        url = f"sqlite:///{folder / 'heedful.db'}"
    (folder / "heedful.toml").write_text(f'# ours\ndatabase = "{url}"\n')
    (folder / "key.bin").write_bytes(bytes(range(256)))
    (folder / "runs" / "sft").mkdir(parents=True)
    (folder / "runs" / "sft" / "config.json").write_text("{}")
    return folder


@pytest.fixture
def another(url: str) -> Callable[[], str | None]:
    """The address of a second empty database of the same server; none for SQLite, whose workspace has it."""

    def make() -> str | None:
        if url.startswith("sqlite"):
            return None
        name = f"heedful_{new_id().replace('-', '')}"
        driver = url.replace("postgresql://", "postgresql+psycopg://", 1)
        engine = create_engine(driver, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        engine.dispose()
        return url.rsplit("/", 1)[0] + f"/{name}"

    return make


def judged(store: Store) -> set[tuple[str, str]]:
    with store.read() as connection:
        j = schema.judgment.c
        return {tuple(row) for row in connection.execute(select(j.id, j.idempotency_key))}


@pytest.mark.long_on_postgres
def test_a_restore_drill(workspace: Path, another, tmp_path: Path, capsys):
    """A backup taken while threads judge has every judgment acknowledged before it began; rating goes on from it."""
    store = open_store(workspace)
    project = make_project(store, gold_rate=0.0)
    raters = [make_rater(store) for _ in range(RATERS)]
    make_tasks(store, project, 60, overlap=RATERS)
    acknowledged: set[tuple[str, str]] = set()
    begun, stop = threading.Event(), threading.Event()

    def rate(rater: str) -> None:
        while not stop.is_set() and (given := claim(store, project, rater)):
            key = new_id()
            acknowledged.add((answer(store, given, rater, {"value": 2}, key).judgment, key))
            if len(acknowledged) > 10:
                begun.set()

    threads = [threading.Thread(target=rate, args=(rater,)) for rater in raters]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    before = set(acknowledged)
    archive = tmp_path / "backup.zip"
    try:
        assert main(["backup", str(workspace), str(archive)]) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["left_out"] == ["runs"] and stat.S_IMODE(archive.stat().st_mode) == 0o600
    there, url = tmp_path / "again", another()
    words = ["restore", str(archive), str(there), *(["--database", url] if url else [])]
    assert main(words) == 0
    assert main(["check", str(there)]) == 0
    assert (there / "key.bin").read_bytes() == bytes(range(256))
    assert stat.S_IMODE((there / "key.bin").stat().st_mode) == 0o600
    restored = open_store(there)
    assert restored.engine.url != store.engine.url, (
        "the restored workspace works in the old database"
    )
    kept = judged(restored)
    assert before <= kept <= judged(store), "an acknowledged judgment is lost"
    with restored.read() as connection:
        assert copying.counts(connection)["judgment"] == manifest["tables"]["judgment"]
    given = claim(restored, project, raters[0])
    assert given and answer(restored, given, raters[0]).disposition == "counted"
    with restored.read() as connection:
        assert all(c.missing == 0 for c in reconcile(connection, project).values())
    for opened in (store, restored):
        opened.close()
    # The same backup also becomes a SQLite workspace, wherever it comes from.
    assert main(["restore", str(archive), str(tmp_path / "small")]) == 0
    assert (tmp_path / "small" / "heedful.db").is_file()
    assert main(["restore", str(archive), str(there)]) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    assert main(["init", str(folder / "work")]) == 0
    store = open_store(folder / "work")
    project, rater = make_project(store), make_rater(store)
    make_tasks(store, project, 5)
    for _ in range(3):
        given = claim(store, project, rater)
        assert given
        answer(store, given, rater)
    store.close()
    assert main(["backup", str(folder / "work"), str(folder / "b.zip")]) == 0
    return folder / "b.zip"


def test_what_is_damaged_is_refused_and_leaves_nothing(backup: Path, tmp_path: Path, capsys):
    """A byte changed anywhere, an end cut off, a file put in or taken out: no folder, no half of one."""
    whole = backup.read_bytes()
    damaged = tmp_path / "d.zip"
    for where in [*range(60, len(whole), len(whole) // 12), len(whole) - 30]:
        damaged.write_bytes(whole[:where] + bytes([whole[where] ^ 0x55]) + whole[where + 1 :])
        code = main(["restore", str(damaged), str(tmp_path / "w")])
        if code == 0:  # a byte that means nothing, such as a time in the archive's own list
            shutil.rmtree(tmp_path / "w")
        assert code in (0, 2) and not list(tmp_path.glob("*w*")), where
    damaged.write_bytes(whole[: len(whole) // 2])
    assert main(["restore", str(damaged), str(tmp_path / "w")]) == 2
    shutil.copy(backup, damaged)
    with zipfile.ZipFile(damaged, "a") as archive:
        archive.writestr("../evil", "x")
    assert main(["restore", str(damaged), str(tmp_path / "w")]) == 2
    damaged.write_text("no archive")
    assert main(["restore", str(damaged), str(tmp_path / "w")]) == 2
    assert main(["restore", str(tmp_path / "none.zip"), str(tmp_path / "w")]) == 2
    assert "none.zip: there is no such file" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.zip"]


def test_another_database_under_the_same_sum_is_refused(backup: Path, tmp_path: Path, capsys):
    """The sums fit, and the database is still not the one of the manifest: rows are counted, the log is followed."""
    import hashlib
    import sqlite3

    def forged(statements: list[str]) -> Path:
        with zipfile.ZipFile(backup) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        (tmp_path / "x.db").write_bytes(files["heedful.db"])
        with sqlite3.connect(tmp_path / "x.db") as raw:
            for statement in statements:
                raw.execute(statement)
        raw.close()
        files["heedful.db"] = (tmp_path / "x.db").read_bytes()
        manifest = json.loads(files["manifest.json"])
        manifest["files"]["heedful.db"] = {
            "sha256": hashlib.sha256(files["heedful.db"]).hexdigest(),
            "bytes": len(files["heedful.db"]),
        }
        files["manifest.json"] = json.dumps(manifest).encode()
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return tmp_path / "x.zip"

    for statements, words in (
        (["DELETE FROM rate_limit", "INSERT INTO rate_limit VALUES ('x', 1, 1)"], "as many rows"),
        (["DROP TRIGGER immutable_audit_event_update",
          "UPDATE audit_event SET actor = 'x' WHERE seq = 1"], "event 1"),
    ):  # fmt: skip
        assert main(["restore", str(forged(statements)), str(tmp_path / "w")]) == 2
        assert words in capsys.readouterr().err
        assert not (tmp_path / "w").exists()


def test_a_backup_that_fails_leaves_the_earlier_one(backup: Path, tmp_path: Path, capsys):
    """A damaged workspace, a folder that is none, a file that cannot be written: one sentence, the old file whole."""
    assert main(["restore", str(backup), str(tmp_path / "w")]) == 0
    file = tmp_path / "b.zip"
    shutil.copy(backup, file)
    earlier = file.read_bytes()
    database = tmp_path / "w" / "heedful.db"
    raw = bytearray(database.read_bytes())
    for start in range(8 * 4096, len(raw), 4096):
        raw[start : start + 8] = os.urandom(8)
    database.write_bytes(raw)
    assert main(["backup", str(tmp_path / "w"), str(file)]) == 2
    assert main(["backup", str(tmp_path / "nowhere"), str(file)]) == 2
    assert (
        main(["backup", str(tmp_path / "w"), str(tmp_path / "w" / "heedful.toml" / "x.zip")]) == 2
    )
    assert file.read_bytes() == earlier and len(list(tmp_path.iterdir())) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_the_database_that_the_environment_names(backup: Path, tmp_path: Path, monkeypatch, capsys):
    """It is where the workspace would look afterwards: rows in the folder would never be seen."""
    elsewhere = tmp_path / "elsewhere.db"
    monkeypatch.setenv("HEEDFUL_DATABASE", f"sqlite:///{elsewhere}")
    assert main(["restore", str(backup), str(tmp_path / "w")]) == 0
    assert not (tmp_path / "w" / "heedful.db").exists()
    assert main(["check", str(tmp_path / "w")]) == 0
    assert main(["restore", str(backup), str(tmp_path / "other")]) == 2  # in use
    assert "is not empty" in capsys.readouterr().err and not (tmp_path / "other").exists()


def test_folders_are_in_it_when_asked_for_and_earlier_backups_never(backup: Path, tmp_path: Path):
    work, file = tmp_path / "w", tmp_path / "w" / "b.zip"
    assert main(["restore", str(backup), str(work)]) == 0
    (work / "runs" / "sft").mkdir(parents=True)
    (work / "runs" / "sft" / "model.safetensors").write_bytes(b"weights")
    (work / "runs" / "sft" / ".x.partial").write_bytes(b"half")
    shutil.copy(backup, work / "yesterday.zip")
    for _ in range(2):
        assert main(["backup", str(work), str(file), "--folders"]) == 0
    assert main(["restore", str(file), str(tmp_path / "again")]) == 0
    there = sorted(p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*.*"))
    assert [str(p) for p in there] == [
        "heedful.db", "heedful.toml", "runs/sft/model.safetensors",
    ]  # fmt: skip
