"""Where answers that were withdrawn still are: snapshots that were exported, files in the workspace, runs that learned
from these, and runs that began from those or were rewarded by them. Nothing here deletes anything."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from sqlalchemy import Connection, select

from heedful.data.files import read_rows
from heedful.errors import UserError
from heedful.store.database.db import Store
from heedful.store.exports import contents
from heedful.store.project import consent
from heedful.store.tables.schema import dataset_snapshot, judgment, withdrawal

ID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # of a judgment
TEXTS, TABLES = (".jsonl", ".json", ".csv", ".jsonl.gz"), (".parquet",)
SKIPPED = {"checkpoints", "state", "tensorboard", "jobs", "backups"}  # none has rows of answers
WHAT_TO_DO = {
    "snapshot": "whoever has this export: delete it; heedful export --snapshot ID writes it again without them",
    "file": "delete it, or write it again without them",
    "run": "delete it, and train again on data without them",
}


@dataclass(frozen=True)
class Held:
    """Something that withdrawn answers are in: how many, where that is known; and why it is thought so."""

    kind: Literal["snapshot", "file", "run"]
    name: str  # the snapshot's id, or the path in the workspace
    answers: int | None
    why: str

    def row(self) -> dict[str, Any]:
        """With what to do."""
        return asdict(self) | {"do": WHAT_TO_DO[self.kind]}


def holding(store: Store, project: str, workspace: Path | None) -> list[Held]:
    """Snapshots, then files, then runs; nothing where nobody has withdrawn anything. Files are read outside of any
    transaction."""
    gone, snapshots, digests = store.in_read(lambda connection: _in_snapshots(connection, project))
    if not gone or workspace is None:
        return snapshots
    files, configs = _in_files(workspace, gone)
    return [*snapshots, *files, *_runs(workspace, configs, {held.name for held in files}, digests)]


def _in_snapshots(connection: Connection, project: str) -> tuple[set[str], list[Held], set[str]]:
    """The withdrawn judgments, the snapshots that hold some, and how names of such exports end."""
    gone, found, digests = _judgments(connection, project), [], set()
    if not gone:
        return gone, found, digests
    query = select(dataset_snapshot).where(dataset_snapshot.c.project == project)
    for row in connection.execute(query.order_by(dataset_snapshot.c.id)):
        if count := len(_in_snapshot(connection, row, gone)):
            digests.add(row.sha256[:12])
            found.append(Held("snapshot", row.id, count, f"exported as {row.query['what']}"))
    return gone, found, digests


def _judgments(connection: Connection, project: str) -> set[str]:
    """The ids of all that was withdrawn."""
    w, j = withdrawal.c, judgment.c
    query = select(j.id).join(withdrawal, (w.project == j.project) & (w.rater == j.rater))
    return set(connection.execute(query.where(j.project == project)).scalars())


def _in_snapshot(connection: Connection, row: Any, gone: set[str]) -> set[str]:
    what = row.query["what"]
    if what in ("prompts", "samples"):  # nobody's answers
        return set()
    if (table := contents.TABLES.get(what)) is not None:
        return consent.taken_back(connection, row.query.get("ids", ()), table)
    return gone.intersection(row.judgments)


def _in_files(workspace: Path, gone: set[str]) -> tuple[list[Held], dict[str, list[str]]]:
    """Files with rows of these judgments; and what the configs of runs name, by the run's path."""
    found, configs = [], {}
    for path in _walk(workspace):
        name = path.relative_to(workspace).as_posix()
        if path.name == "config.yaml":
            configs[path.parent.relative_to(workspace).as_posix()] = _named(path)
        elif path.name.endswith((*TEXTS, *TABLES)):
            with suppress(OSError, UserError):  # one that cannot be read holds nothing to anybody
                if count := len(gone & _ids(path)):
                    found.append(Held("file", name, count, "has rows of them"))
    return sorted(found, key=lambda held: held.name), configs


def _walk(workspace: Path) -> Iterator[Path]:
    for folder, below, files in os.walk(workspace, followlinks=False):
        below[:] = [d for d in below if d not in SKIPPED and d[0] != "."]
        yield from (Path(folder) / name for name in files)


def _ids(path: Path) -> set[str]:
    if path.suffix in TABLES:
        return {str(row.get("judgment")) for _, row in read_rows(path)}
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        return {key.decode() for line in file for key in ID.findall(line)}


def _named(config: Path) -> list[str]:
    """All strings of a run's config."""
    with suppress(OSError, UnicodeDecodeError, yaml.YAMLError):
        return list(_strings(yaml.safe_load(config.read_text(encoding="utf-8"))))
    return []


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _strings(one)


def _runs(
    workspace: Path, configs: Mapping[str, list[str]], files: set[str], digests: set[str]
) -> list[Held]:
    """Those whose config names such a file, or a run that is among them: as its model, reward, critic."""
    held: dict[str, str] = {}
    while True:
        there = {name: workspace.resolve() / name for name in (*files, *held)}
        new: dict[str, str] = {}
        for run, strings in configs.items():
            for named in () if run in held else strings:
                source = next((name for name, path in there.items() if _is(named, path)), None)
                if source in held:
                    new[run] = f"began from or was rewarded by {source}"
                elif source is not None or any(f"-{digest}." in named for digest in digests):
                    new[run] = f"learned from {source or Path(named).name}"
        if not new:
            return [Held("run", name, None, why) for name, why in sorted(held.items())]
        held |= new


def _is(named: str, path: Path) -> bool:
    """Whether a config means this path: relative to a folder that is not known, or absolute; with options in brackets
    or a share behind it. A single word is the name of a method or a loss."""
    parts = Path(re.split(r"[(@]", named, maxsplit=1)[0]).parts
    parts = tuple(part for part in parts if part not in (".", ".."))
    means = len(parts) > 1 or (bool(parts) and "." in parts[0])
    return means and path.parts[-len(parts) :] == parts
