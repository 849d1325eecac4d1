"""What commands and pages do with a workspace: open it, find a project, write an export with its manifest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection

from heedful.data import tables
from heedful.errors import UserError, did_you_mean
from heedful.progress import Progress
from heedful.store.database.bulk import rarely_collecting
from heedful.store.database.db import Store, open_store
from heedful.store.database.patience import HOUR
from heedful.store.database.privacy import private_files
from heedful.store.exports import snapshot
from heedful.store.lead import quality
from heedful.store.project import projects
from heedful.store.tables import columns

T = TypeVar("T")
FORMULA_CELLS = "a cell of text that a spreadsheet would take for a formula has a ' before it"


@contextmanager
def opened(workspace: Path) -> Iterator[Store]:
    """The workspace's database, for as long as the block lasts; of a command, which waits while it is away."""
    store = open_store(workspace, patience=HOUR)
    try:
        yield store
    finally:
        store.close()


def project_of(connection: Connection, name: str | None) -> str:
    """The id of the project with this name, or of the only one there is."""
    if name is not None and (found := projects.by_name(connection, name)):
        return found.id
    names = [row.name for row in projects.asking(connection)]
    if name is not None:
        raise UserError(f"there is no project '{name}'{did_you_mean(name, names)}")
    if len(names) != 1:
        projects_there = f"it has {', '.join(names)}" if names else "it has none yet"
        raise UserError(f"say which project of the workspace is meant; {projects_there}")
    return project_of(connection, names[0])


@rarely_collecting()
def export_file(
    store: Store,
    project: str,
    query: snapshot.Query,
    path: Path,
    *,
    snapshot_id: str | None = None,
    tasks: Sequence[str] | None = None,
    weights: Mapping[str, Any] | None = None,
    quiet: bool = True,
) -> dict[str, Any]:
    """Write a file and its manifest, each whole or not at all; returns the manifest.

    `weights`: {"version": …, "weights": {rater: number}}, for a column `weight`, 1 where a rater has none there.
    `tasks`: only what was said of these questions. `snapshot_id` is of a snapshot that was taken before: its file is
    written once more, byte for byte. `quiet`: nothing is said of how far it is.
    """
    tables.format_of(path)
    if snapshot_id is None:
        taken = snapshot.take(store, project, query, tasks)
    else:
        taken = store.in_read(lambda connection: snapshot.find(connection, project, snapshot_id))
        if taken.query.what != query.what:
            raise UserError(f"snapshot {snapshot_id} holds {taken.query.what}, not {query.what}")
        if query not in (taken.query, snapshot.Query(query.what)):
            raise UserError(f"snapshot {snapshot_id} has filters of its own; leave the others out")

    names = dict(taken.columns)
    if weights:
        names["weight"] = "number"

    def write(connection: Connection) -> tuple[str, int]:
        bar = None if quiet else Progress(f"export {query.what}", len(taken.ids))
        with bar or nullcontext():
            found = snapshot.rows(connection, taken.query, taken.ids, bar and bar.update)
            if weights:
                by = weights["weights"]
                found = ({**row, "weight": by.get(row["rater"], 1.0)} for row in found)
            rows = tables.write_table(path, found, names, columns.escaped)
        return projects.name_of(connection, project), rows

    name, rows = store.in_read(write)
    manifest: dict[str, Any] = {
        "schema": snapshot.layout.SCHEMA,
        "file": path.name,
        "format": tables.format_of(path),
        "sha256": tables.sha256_of(path),
        "rows": rows,
        "project": name,
        "snapshot": taken.id,
        "snapshot_sha256": taken.sha256,
        "query": asdict(taken.query),
        **asdict(taken.count),
        "columns": names,
        "escape": columns.ESCAPE,
    }
    if weights:
        manifest["weights"] = {"version": weights["version"], "by_rater": weights["weights"]}
    if manifest["format"] == "csv":
        manifest["formula_cells"] = FORMULA_CELLS
    manifest = columns.escaped(manifest)
    tables.write_manifest(path, manifest)
    return manifest


def exported(source: str, what: str, split: snapshot.Split, *, noun: str) -> str:
    """The file of a source `db:DIR#PROJECT#QUESTION`: what is there now, in the workspace's `exports/`, named by its
    content. Without a question it is of the first that ranks. `noun`: what is missing where there is none."""
    workspace, name = _parts(source)
    with opened(workspace) as store:
        project, name, question = store.in_read(lambda connection: _meant(connection, name))
        query = snapshot.Query(what, split, question=question)
        taken = snapshot.take(store, project, query)
        if not taken.ids:
            reasons = "".join(f", {n} {why}" for why, n in taken.count.excluded.items())
            ask = "" if taken.count.stored else f"; `heedful serve {workspace}` asks people"
            raise UserError(
                f"{source} has no {noun} to export: {taken.count.stored} stored{reasons}{ask}"
            )
        safe = re.sub(r"[^\w-]+", "-", name)[:40]
        path = workspace / "exports" / f"{safe}-{what}-{split}-{taken.sha256[:12]}.jsonl"
        if not _is_there(path):
            with private_files():
                export_file(store, project, query, path, snapshot_id=taken.id)
    return str(path)


def gold_shares(source: str) -> dict[str, tuple[int, int]]:
    """By pseudonym how many gold questions somebody has had right among their work, of how many, in the workspace of
    `db:DIR#PROJECT`: whatever kinds of question they were."""
    return in_project(source, quality.gold_shares)


def in_project(source: str, look: Callable[[Connection, str], T]) -> T:
    """What `look` sees in the project of `db:DIR#PROJECT`, by its id."""
    workspace, name = _parts(source)
    with opened(workspace) as store:
        return store.in_read(lambda connection: look(connection, _meant(connection, name)[0]))


def _parts(source: str) -> tuple[Path, str]:
    folder, _, name = source.removeprefix("db:").partition("#")
    return Path(folder or "."), name


def _meant(connection: Connection, name: str) -> tuple[str, str, str]:
    """The project's id and name, and the question, that PROJECT#QUESTION means."""
    whole, question = name, ""
    if "#" in name and projects.by_name(connection, name) is None:
        whole, _, question = name.rpartition("#")
    project = project_of(connection, whole or None)
    return project, projects.name_of(connection, project), question


def _is_there(path: Path) -> bool:
    try:
        return path.is_file() and tables.read_manifest(path) is not None
    except UserError:
        return False
