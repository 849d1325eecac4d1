"""Files in and out over HTTP. A manifest travels in the header `X-Heedful-Manifest`, as JSON, both ways."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import FileResponse, Response
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from heedful.configs.export import What as Exported
from heedful.configs.ingest import Form, What
from heedful.data import bounds
from heedful.data.files import KINDS
from heedful.data.tables import manifest_path
from heedful.disk import DiskError
from heedful.errors import UserError
from heedful.store.database.db import Store
from heedful.store.exports import snapshot
from heedful.store.project import projects
from heedful.transfer import ingest
from heedful.transfer.workspace import export_file
from heedful.web.doors import Door, terms
from heedful.web.lanes import place
from heedful.web.respond import Json
from heedful.web.security import Denied, Lead, User, still

MANIFEST = "X-Heedful-Manifest"
Format = Literal["jsonl", "jsonl.gz", "csv", "csv.gz", "parquet"]
PIECE = 1_000_000  # bytes that are written at once

router = APIRouter(route_class=Door, prefix="/api/projects/{project}", tags=["transfer"])


@router.post("/import")
@terms(body=bounds.MAX_BYTES, lane=None)
async def take_in(
    request: Request,
    project: str,
    user: Lead,
    what: What,
    form: Form = "auto",
    name: Annotated[str, Query(max_length=200)] = "upload.jsonl",
    ask: Annotated[str | None, Query(max_length=20)] = None,
    overlap: int = 1,
    options: Annotated[str | None, Query(max_length=4000)] = None,
    together: bool = False,
    gold: bool = False,
    on_bad_row: Literal["stop", "drop"] = "stop",
    columns: Annotated[str, Query(max_length=400)] = "",
    model: Annotated[str | None, Query(max_length=200)] = None,
    licence: Annotated[str | None, Query(max_length=200)] = None,
    language: Annotated[str | None, Query(max_length=200)] = None,
    dry_run: bool = False,
    manifest: Annotated[str | None, Header(alias=MANIFEST, max_length=20_000)] = None,
) -> Response:
    """The body is the file; `name` is its name, whose ending says what it is. `columns`, such as
    prompt=question,completion=answer, are other names of them. Returns what was added; with `dry_run` nothing is:
    `counts`, `columns` and the `first` items, or the `problem` for which it cannot be read."""
    file = re.sub(r"[^\w.-]", "_", Path(name).name).lstrip(".")
    if not any(file.lower().removesuffix(".gz").endswith(kind) for kind in KINDS):
        raise UserError(f"name must end in {', '.join(KINDS)}, and not be '{name}'")
    store: Store = request.app.state.store
    with tempfile.TemporaryDirectory(prefix="heedful-") as folder:
        path = Path(folder) / file
        await _receive(request, path)
        if manifest is not None:
            manifest_path(path).write_text(manifest, encoding="utf-8")
        config = ingest.Config(
            what=what,
            source=str(path),
            form=form,
            ask=ask,
            overlap=overlap,
            options=options,
            together=together,
            gold=gold,
            on_bad_row=on_bad_row,
            columns=(columns,),
            model=model,
            licence=licence,
            language=language,
            quiet=True,
        )

        def work() -> dict[str, Any]:
            still(request, user)  # the file may have taken its time
            with store.read() as connection:
                projects.settings_of(connection, project)
            bounds.check(path)
            if dry_run:
                return _look(config, file, folder)
            return ingest.load(config, name=file).write(store, project)

        try:
            async with place("imports"):
                return Json(await run_in_threadpool(work))
        except bounds.TooMuch as error:
            raise Denied(413, str(error)) from None
        except DiskError:
            raise
        except UserError as error:
            raise UserError(str(error).replace(f"{folder}/", "")) from None
        except RecursionError:
            raise UserError("the options or a row are nested too deeply") from None


def _look(config: ingest.Config, name: str, folder: str) -> dict[str, Any]:
    """What a file holds, or why it cannot be read, with its columns in either case."""
    try:
        loaded = ingest.load(config, name=name)
    except UserError as error:
        problem = str(error).replace(f"{folder}/", "")
        return {"problem": problem, "columns": ingest.columns_of(config)}
    return {"counts": loaded.counts, "columns": loaded.columns, "first": loaded.first}


async def _receive(request: Request, path: Path) -> None:
    """The body into a file, a megabyte at a time and in a thread: a disk may be slow, and others wait."""
    piece = bytearray()
    try:
        with path.open("wb") as file:
            async for chunk in request.stream():
                piece += chunk
                if len(piece) >= PIECE:
                    await run_in_threadpool(file.write, bytes(piece))
                    piece.clear()
            await run_in_threadpool(file.write, piece)
    except ClientDisconnect:
        raise Denied(400, "the body did not arrive") from None


@router.get("/export")
@terms(lane="reports")
def give_out(
    request: Request,
    project: str,
    user: Lead,
    what: Exported,
    format: Format = "jsonl",
    split: snapshot.Split = "all",
    surplus: bool = False,
    gold: bool = False,
    swaps: bool = False,
    margin: bool = False,
    question: Annotated[str, Query(max_length=40)] = "",
    snapshot_id: Annotated[str | None, Query(alias="snapshot", max_length=36)] = None,
) -> Response:
    """The file as a download; of a screen's questions this one. With `snapshot`, an id out of an earlier manifest, the
    same bytes once more."""
    also = {"surplus": surplus, "gold": gold, "swaps": swaps, "margin": margin}
    query = snapshot.Query(what, split, **also, question=question)
    return download(request, user, project, query, format, snapshot_id=snapshot_id)


def download(
    request: Request,
    user: User,
    project: str,
    query: snapshot.Query,
    format: Format,
    *,
    snapshot_id: str | None = None,
    tasks: Sequence[str] | None = None,
) -> Response:
    """The file of an export, with its manifest in a header; of these questions only, where some are given."""
    store: Store = request.app.state.store
    with store.read() as connection:
        projects.settings_of(connection, project)
    folder = Path(tempfile.mkdtemp(prefix="heedful-"))
    try:
        path = folder / f"{query.what}.{format}"
        manifest = export_file(store, project, query, path, snapshot_id=snapshot_id, tasks=tasks)
        still(request, user)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, UserError) and not isinstance(error, DiskError):
            raise UserError(str(error).replace(f"{folder}/", "")) from None
        raise
    return FileResponse(
        path,
        media_type="application/octet-stream",
        filename=path.name,
        headers={MANIFEST: json.dumps(manifest, separators=(",", ":"))},
        background=BackgroundTask(shutil.rmtree, folder, ignore_errors=True),
    )
