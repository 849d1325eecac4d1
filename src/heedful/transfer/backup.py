"""A workspace as one file, and a workspace out of such a file: whole and verified, or not there at all.

The file is a zip archive: the database as SQLite, whatever kind it was; the files that lie in the workspace's folder,
such as settings; and `manifest.json` with a sha256 of each, how many rows each table has, and where the audit log ends.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import struct
import tomllib
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from heedful import __version__
from heedful.disk import PARTIAL, whole, write_folder
from heedful.errors import Unavailable, UserError
from heedful.store.database import audit, copying, db, integrity
from heedful.store.database.db import Store, open_store
from heedful.store.tables import schema
from heedful.transfer.checked import REMEMBERED
from heedful.transfer.workspace import opened

FORMAT = 1  # of the archive
MANIFEST, DATABASE, SETTINGS = "manifest.json", "heedful.db", "heedful.toml"
BLOCK = 1 << 20  # bytes
# What zipfile raises where bytes are others than were written: of its own, and what it meets on the way.
UNREADABLE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, TypeError, ValueError, RuntimeError,
)  # fmt: skip
ITS_DATABASE = re.compile(r"^[ \t]*database[ \t]*=.*$", re.MULTILINE)
GROWING = {table.name for table in schema.IMMUTABLE}


# ── out ──────────────────────────────────────────────────────────────────────────────────────────


def write(workspace: Path, file: Path, *, folders: bool = False) -> dict[str, Any]:
    """Write the backup of a workspace while people work; returns its manifest.

    It holds every transaction that was committed when it began. An earlier `file` is replaced once the new one has
    been read back and is right. `folders`: also those in the workspace's folder, such as runs with their models.
    """
    with _sentences(file), opened(workspace) as store, whole(file) as raw:
        os.fchmod(raw.fileno(), 0o600)  # hashes of passwords, secrets of webhooks, what people said
        with store.read() as connection:
            committed, head = copying.counts(connection), audit.head(connection)
        with _scratch(Path(raw.name)) as copy:
            _copy(store, copy)
            tables, end = _verified(copy, since=head)
            if fewer := [t for t, n in committed.items() if t in GROWING and tables.get(t, 0) < n]:
                raise UserError(f"the copy of the database lacks rows of {', '.join(fewer)}")
            files, left_out = _files(workspace, file, folders)
            with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                packed = _pack(archive, {DATABASE: copy, **files})
                manifest = {
                    "format": FORMAT,
                    "heedful": __version__,
                    "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
                    "database": store.dialect,
                    "tables": tables,
                    "audit": {"events": end.seq, "hash": end.hash},
                    "files": packed,
                    "left_out": left_out,
                }
                archive.writestr(MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
        raw.flush()
        with _archive(Path(raw.name)) as (archive, manifest):
            for name in manifest["files"]:
                _unpack(archive, manifest, name)
    return manifest


def _copy(store: Store, copy: Path) -> None:
    """The database as it is at one moment, in a SQLite file."""
    if store.dialect == "sqlite":
        db.backup(Path(store.engine.url.database or ""), copy)
        return
    with _opened(f"sqlite:///{copy}") as target, store.read() as rows, target.write() as connection:
        copying.copy_rows(rows, connection)


def _files(workspace: Path, file: Path, folders: bool) -> tuple[dict[str, Path], list[str]]:
    """What lies in the workspace besides its database, by name; the folders that are left out."""
    files: dict[str, Path] = {}
    left_out: list[str] = []
    for path in sorted(workspace.iterdir()):
        if path.is_dir():
            if not folders:
                left_out += [path.name] if any(path.iterdir()) else []
                continue
            below = [Path(at, name) for at, _, names in os.walk(path) for name in names]
            files |= {p.relative_to(workspace).as_posix(): p for p in sorted(below)}
        elif not path.name.startswith(DATABASE) and path.name not in (REMEMBERED, file.name):
            files[path.name] = path
    return {n: p for n, p in files.items() if p.is_file() and _belongs(p)}, left_out


def _belongs(path: Path) -> bool:
    """Neither half-written, nor another backup."""
    if any(part.endswith(PARTIAL) for part in path.parts):
        return False
    if not zipfile.is_zipfile(path):
        return True
    with zipfile.ZipFile(path) as archive:
        return not {MANIFEST, DATABASE} <= set(archive.namelist())


def _pack(archive: zipfile.ZipFile, files: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Write the files into the archive; returns {sha256, bytes} of each as it was read."""
    packed: dict[str, dict[str, Any]] = {}
    for name, path in files.items():
        with path.open("rb") as source, archive.open(name, "w", force_zip64=True) as target:
            packed[name] = _pour(source, target)
    return packed


# ── and back ─────────────────────────────────────────────────────────────────────────────────────


def restore(file: Path, workspace: Path, *, database: str | None = None) -> dict[str, Any]:
    """Make a workspace of a backup; returns the backup's manifest.

    The folder must not be there or be empty, and so must the `database` (or $HEEDFUL_DATABASE) if another one than
    SQLite in the folder is to hold it. Everything is verified before it gets its name.
    """
    target, url = workspace.resolve(), database or os.environ.get("HEEDFUL_DATABASE")
    if target == Path.cwd():
        raise UserError("restore into a folder by its name, not into the one that you are in")
    with _sentences(workspace), _archive(file) as (archive, manifest):
        _refuse_occupied(target)

        def fill(folder: Path) -> None:
            for name in manifest["files"]:
                _unpack(archive, manifest, name, folder / name)
            copy = folder / DATABASE
            if _row_counts(copy) != manifest["tables"]:
                raise UserError(f"{file}: tables do not have as many rows as the manifest says")
            known = manifest["audit"]
            _verified(copy, since=audit.Head(known["events"], known["hash"]))
            for left in folder.glob(f"{DATABASE}.before-*"):  # by a migration, if it is older
                left.unlink()
            _point_to(folder / SETTINGS, database)
            _refuse_occupied(target)
            if url:
                _move(copy, url)

        write_folder(target, fill)
    return manifest


def _refuse_occupied(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} is not empty; a backup is restored into a folder of its own")


def _point_to(settings: Path, database: str | None) -> None:
    """Settings that name this database, and never the one that was backed up: it may be in use."""
    text = settings.read_text(encoding="utf-8") if settings.exists() else ""
    text = ITS_DATABASE.sub(r"# before it was restored: \g<0>", text)
    if database:
        text = f"database = {json.dumps(database)}\n{text}"
    if tomllib.loads(text).get("database") != database:
        raise UserError(f"cannot change the database that {SETTINGS} of the backup names")
    settings.touch(0o600)
    settings.write_text(text, encoding="utf-8")


def _move(copy: Path, url: str) -> None:
    """All rows into the other database, in one transaction, and the file away."""
    with (
        _opened(f"sqlite:///{copy}") as source,
        _opened(url) as target,
        source.read() as rows,
        target.write() as connection,
    ):
        copied = copying.copy_rows(rows, connection)
        wrong = integrity.damage(target, connection)
        if copying.counts(connection) != copied or wrong:
            raise UserError(f"the rows have not arrived as they were; {'; '.join(wrong)}")
    copy.unlink()


# ── what both verify ─────────────────────────────────────────────────────────────────────────────


def _verified(copy: Path, since: audit.Head) -> tuple[dict[str, int], audit.Head]:
    """Rows of each table and the end of the audit log of a SQLite file; `UserError` where anything is wrong with it.

    `since`: an event that must be in its log.
    """
    tables = _row_counts(copy)
    with _opened(f"sqlite:///{copy}") as store, store.read() as connection:
        wrong = integrity.damage(store, connection)
        if not audit.has(connection, since):
            wrong.append(f"the audit log lacks event {since.seq}")
        if wrong:
            raise UserError(f"the copy of the database is not sound: {'; '.join(wrong)}")
        return tables, audit.head(connection)


def _row_counts(copy: Path) -> dict[str, int]:
    with closing(sqlite3.connect(copy)) as raw:
        names = raw.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        return {
            name: raw.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
            for (name,) in names.fetchall()
        }


@contextmanager
def _archive(file: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, Any]]]:
    """A backup and its manifest; what is none, or of a newer heedful, is refused."""
    if not file.is_file():
        raise UserError(f"{file}: there is no such file")
    with ExitStack() as stack:
        with _readable(file):
            archive = stack.enter_context(zipfile.ZipFile(file))
            manifest = json.loads(archive.read(MANIFEST))
            if manifest["format"] > FORMAT:
                raise UserError(f"{file} was written by a newer heedful ({manifest['heedful']})")
            named = {*manifest["files"], MANIFEST}
            if set(archive.namelist()) != named or not all(map(_inside, named)):
                raise UserError(f"{file}: its files are not those of its manifest")
        yield archive, manifest


@contextmanager
def _readable(file: Any) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        raise UserError(f"{file} is no whole backup of heedful: {error}") from error


def _inside(name: str) -> bool:
    """Whether a name leads nowhere out of the folder that it is unpacked in."""
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name


def _unpack(
    archive: zipfile.ZipFile, manifest: dict[str, Any], name: str, target: Path | None = None
) -> None:
    """A file out of the archive, or nowhere; `UserError` if it is not the one that was put in."""
    with _readable(archive.filename), archive.open(name) as source:
        if target is None:
            seen = _pour(source, None)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as out:
                seen = _pour(source, out)
    if seen != manifest["files"][name]:
        raise UserError(f"{archive.filename}: {name} is not as it was put in; its sha256 differs")


def _pour(source: IO[bytes], target: IO[bytes] | None) -> dict[str, Any]:
    sha, length = hashlib.sha256(), 0
    while block := source.read(BLOCK):
        sha.update(block)
        length += len(block)
        if target is not None:
            target.write(block)
    return {"sha256": sha.hexdigest(), "bytes": length}


@contextmanager
def _scratch(file: Path) -> Iterator[Path]:
    """The name of a database that is gone when the block ends."""
    copy = file.with_name(f"{file.name}.db{PARTIAL}")

    def remove() -> None:
        for path in copy.parent.glob(f"{copy.name}*"):
            path.unlink()

    remove()
    try:
        yield copy
    finally:
        remove()


@contextmanager
def _opened(url: str) -> Iterator[Store]:
    store = open_store(url)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """What the disk or a database refuses, as a sentence."""
    try:
        yield
    except (Unavailable, sqlite3.Error) as error:
        raise UserError(f"{path}: {error}; nothing was written") from error
