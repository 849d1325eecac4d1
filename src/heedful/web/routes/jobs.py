"""Training from the web, for owners: rounds with people and comparisons of methods, as jobs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy import select

from heedful.store.database import audit
from heedful.store.project import projects
from heedful.store.tables.schema import project as project_table
from heedful.web import jobs, runs, training
from heedful.web.doors import Door
from heedful.web.respond import page
from heedful.web.routes.pages import not_in_project
from heedful.web.routes.runs import workspace_of
from heedful.web.security import Owner, store_of

router = APIRouter(route_class=Door, tags=["jobs"])
Start = Annotated[training.Round | training.Comparison, Body(discriminator="command")]


class Stop(BaseModel):
    force: bool = Field(False, description="at once, and nothing is saved")


@router.get("/api/jobs")
def list_jobs(request: Request, _user: Owner) -> list[dict[str, Any]]:
    """All jobs, the newest first: {id, command, name, out, project, started_at, state, code, ended_at}."""
    workspace = workspace_of(request)
    return [_told(request, job) for job in jobs.listed(workspace)]


@router.post("/api/projects/{project}/jobs", status_code=201)
def start(project: str, body: Start, request: Request, user: Owner) -> dict[str, Any]:
    """Start `iterate` or `compare` on a project's prompts and comparisons, as a process of its own.

    One at a time. The same name again goes on where an earlier job stopped.
    """
    workspace, store = workspace_of(request), store_of(request)
    training.refuse_taken(workspace, body)
    with store.read() as connection:
        projects.settings_of(connection, project)
        named = select(project_table.c.name).where(project_table.c.id == project)
        name = connection.execute(named).scalar_one()
    models = request.app.state.models
    if isinstance(body, training.Round):
        models.refuse([body.model])
        config, out = training.iterate(body, name)
    else:
        models.refuse([body.model, body.reward])
        config, out = training.compare(body, name)
    about = {"name": body.name, "out": out, "project": project}
    job = jobs.start(workspace, body.command, config, actor=user.rater, **about)
    with store.write() as connection:
        audit.record(connection, user.rater, "job.start", job=job.id, command=job.command, **about)
    return _told(request, job)


@router.get("/api/jobs/{job}")
def job_of(
    job: str, request: Request, _user: Owner, after: Annotated[int, Query(ge=0, le=2**53)] = 0
) -> dict[str, Any]:
    """A job, its config, and what has been logged since: ask again with `after` = `log.next`."""
    workspace = workspace_of(request)
    found = jobs.find(workspace, job)
    more = {"log": jobs.log(workspace, found, after), "config": jobs.config_of(workspace, found)}
    return _told(request, found) | more


@router.post("/api/jobs/{job}/stop")
def stop(job: str, body: Stop, request: Request, user: Owner) -> dict[str, bool]:
    """Stop it: {stopped: whether it was running}. It saves its state, and the same name goes on from there."""
    workspace = workspace_of(request)
    found = jobs.find(workspace, job)
    stopped = jobs.stop(workspace, found, force=body.force)
    if stopped:
        with store_of(request).write() as connection:
            audit.record(connection, user.rater, "job.stop", job=job, force=body.force)
    return {"stopped": stopped}


@router.get("/lead/{project}/training", include_in_schema=False)
def training_page(project: str, request: Request) -> Any:
    from heedful.web.routes.lead import PARTS

    if refused := not_in_project(request, project, "lead"):
        return refused
    with store_of(request).read() as connection:
        there = (project_table.c.id == project, project_table.c.deleted_at.is_(None))
        row = connection.execute(select(project_table).where(*there)).first()
    if row is None:
        text = "There is no such page."
        return page(request, "message.html", status=404, title="Nothing here", text=text)
    models = request.app.state.models
    lists = {"models": models.names(), "rewards": models.rewards(), "methods": training.METHODS}
    common = {"project": row, "part": "training", "parts": PARTS, "labels": {}}
    return page(request, "lead/training.html", **common, **lists)


def _told(request: Request, job: jobs.Job) -> dict[str, Any]:
    """With the ids of its `runs`, to follow their curves, and of the folder that has its `report`, if there is one."""
    workspace = workspace_of(request)
    below = (workspace / job.out).resolve()
    found = [r for r in runs.find(workspace) if r.folder.resolve().is_relative_to(below)]
    own = [r.id for r in found if runs.is_own_file(r.folder / runs.METRICS)]
    report = next((r.id for r in found if r.folder.resolve() == below and runs.report(r)), None)
    values = {name: value for name, value in asdict(job).items() if name != "actor"}
    return values | jobs.state(workspace, job) | {"runs": own, "report": report}
