"""The lead's interface and pages: projects, settings, progress, statistics, disagreements."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from heedful.configs.ingest import asked_of
from heedful.errors import UserError
from heedful.store.kinds import KINDS, SCREEN
from heedful.store.kinds.kind import Kind
from heedful.store.lead import reports
from heedful.store.membership import members, rights
from heedful.store.project import consent, lifecycle, projects, screens
from heedful.store.project.starters import STARTERS
from heedful.store.rating import asides
from heedful.store.tables.schema import project as project_table
from heedful.web.alerts import dismiss
from heedful.web.doors import Door, terms
from heedful.web.episodes import response_html
from heedful.web.render import to_html, turn_text
from heedful.web.respond import page
from heedful.web.routes.pages import not_in_project, not_yours, to_login, visitor
from heedful.web.security import (
    Lead,
    LeadSomewhere,
    Owner,
    Reviewer,
    ReviewerSomewhere,
    roles_of,
    store_of,
)

router = APIRouter(route_class=Door, tags=["lead"])

Place = Annotated[int, Query(ge=0, le=10**9)]
Some = Annotated[int, Query(ge=1, le=100)]
PARTS = {
    "": "Overview",
    "questions": "Questions",
    "raters": "Raters",
    "agreement": "Agreement",
    "labels": "Labels and models",
    "aside": "Needs review",
    "members": "Members",
    "files": "Files",
    "screen": "Screen",
    "training": "Training",
    "playground": "Playground",
    "settings": "Settings",
}
REVIEWERS = (
    "",
    "agreement",
    "aside",
)  # what who reviews a project sees of it: no models' names, they judge


class NewProject(BaseModel):
    name: str = Field(max_length=200)
    settings: dict[str, Any] = Field(default_factory=dict)


class Change(BaseModel):
    settings: dict[str, Any] = Field(default_factory=dict)
    name: str | None = Field(None, max_length=200)
    archived: bool | None = None


class Delete(BaseModel):
    name: str = Field(max_length=200)


class Guidelines(BaseModel):
    body: str = Field(max_length=200_000)


class Unpark(BaseModel):
    close: bool = False


class Dismiss(BaseModel):
    what: str = Field(max_length=20)
    rater: str | None = Field(None, max_length=36)


class TakeBack(BaseModel):
    rater: str = Field(max_length=36)
    since: float = Field(0.0, ge=0, lt=1e11)


@router.get("/api/projects")
def list_projects(
    request: Request, user: ReviewerSomewhere, which: reports.Shelf = "active"
) -> list[dict[str, Any]]:
    """Of the projects that you lead or review those in use, archived or deleted, with what is stored and what is left
    to answer."""
    theirs = roles_of(request, user, "reviewer")
    with store_of(request).read() as connection:
        listed = reports.projects(connection, which, request.app.state.tallies)
    return [row | {"role": theirs[row["id"]]} for row in listed if row["id"] in theirs]


@router.post("/api/projects", status_code=201)
@terms(body=200_000)
def make_project(body: NewProject, request: Request, user: Lead) -> dict[str, str]:
    settings = projects.settings_from(body.settings)
    request.app.state.models.refuse(settings.models)
    request.app.state.models.refuse_profiles(settings.profiles)
    with store_of(request).write() as connection:
        key = projects.create(connection, body.name.strip(), settings, actor=user.rater)
        if user.role != "owner":
            members.change(connection, key, user.rater, actor=user.rater, role="lead")
    return {"id": key}


@router.get("/api/projects/{project}")
def project_of(project: str, request: Request, _user: Lead) -> dict[str, Any]:
    """Settings, every version of the guidelines, the newest first, and what raters agree to before they begin."""
    with store_of(request).read() as connection:
        settings = projects.settings_of(connection, project)
        row = connection.execute(select(project_table).where(project_table.c.id == project)).one()
        versions = reports.guideline_versions(connection, project)
        disclosed = consent.told(connection, project)
    if versions:
        versions[0]["html"] = to_html(versions[0]["body"])
    return {
        "id": row.id,
        "name": row.name,
        "created_at": row.created_at,
        "archived": row.archived_at is not None,
        "settings": vars(settings),
        "guidelines": versions,
        "disclosure": disclosed and {"body": disclosed.body, "html": to_html(disclosed.body)},
    }


@router.patch("/api/projects/{project}")
@terms(body=200_000)
def change_project(project: str, body: Change, request: Request, user: Lead) -> dict[str, Any]:
    """Change settings, the name, or whether it is archived: hidden from raters and lists. What is not named stays."""
    with store_of(request).write() as connection:
        settings = projects.settings_of(connection, project)
        there, before = settings.models, settings.profiles  # what is gone hinders no other change
        if body.settings:
            settings = projects.change(connection, project, body.settings, actor=user.rater)
        members.keep_lead(connection, project, user.rater, user.role)
        request.app.state.models.refuse([m for m in settings.models if m not in there])
        if settings.profiles != before:
            request.app.state.models.refuse_profiles(settings.profiles)
        if body.name is not None:
            lifecycle.rename(connection, project, body.name, actor=user.rater)
        if body.archived is not None:
            lifecycle.archive(connection, project, body.archived, actor=user.rater)
    return {"settings": vars(settings)}


@router.post("/api/projects/{project}/delete")
def delete_project(project: str, body: Delete, request: Request, user: Owner) -> dict[str, str]:
    """Hide a project from everybody; `name` is its name, typed once more. No row is removed; `restore` undoes it."""
    with store_of(request).write() as connection:
        lifecycle.delete(connection, project, body.name, actor=user.rater)
    return {"id": project}


@router.post("/api/projects/{project}/restore")
def restore_project(project: str, request: Request, user: Owner) -> dict[str, str]:
    """Bring a deleted project back, as it was."""
    with store_of(request).write() as connection:
        return {"id": project, "name": lifecycle.restore(connection, project, actor=user.rater)}


@router.get("/api/models")
def models(request: Request, _user: LeadSomewhere) -> list[str]:
    """What a project may name for conversations: models in the workspace, and those of `heedful serve --models`."""
    return request.app.state.models.names()


@router.put("/api/projects/{project}/guidelines")
@terms(body=2_000_000)
def write_guidelines(
    project: str, body: Guidelines, request: Request, user: Lead
) -> dict[str, str]:
    """A new version; raters see it from their next question on."""
    with store_of(request).write() as connection:
        projects.settings_of(connection, project)
        key = projects.write_guidelines(connection, project, body.body, actor=user.rater)
    return {"id": key, "html": to_html(body.body)}


@router.get("/api/projects/{project}/overview")
@terms(lane="reports")
def overview(project: str, request: Request, user: Reviewer) -> dict[str, Any]:
    """Answers by hour, answers wanted by state, the projected end, the cost, and where every judgment went; for leads
    also who set aside too much."""
    with store_of(request).read() as connection:
        report = reports.overview(connection, project, request.app.state.tallies)
        standing = rights.standing(connection, project, user.rater, user.role)
    return report if standing and standing.may("lead") else report | {"alerts": []}


@router.get("/api/projects/{project}/alerts")
@terms(lane="reports")
async def alerts(project: str, request: Request, _user: Lead) -> list[dict[str, Any]]:
    """What the newest answers say that somebody ought to look at; thresholds are among the settings (`alert_…`)."""
    return await request.app.state.figures("alerts", project)


@router.post("/api/projects/{project}/alerts/dismiss")
def dismiss_alert(project: str, body: Dismiss, request: Request, user: Lead) -> dict[str, str]:
    """Say nothing of an alert for a week; `rater` is null for those about the whole project."""
    with store_of(request).write() as connection:
        dismiss(connection, project, body.what, body.rater, actor=user.rater)
    return {"dismissed": body.what}


@router.get("/api/projects/{project}/agreement")
@terms(lane="reports")
async def agreement(project: str, request: Request, _user: Reviewer) -> dict[str, Any]:
    """Krippendorff's α with an interval, of each kind of question, axis and rule."""
    return await request.app.state.figures("agreement", project)


@router.get("/api/projects/{project}/rated-alike")
@terms(lane="reports")
async def rated_alike(project: str, request: Request, _user: Reviewer) -> dict[str, Any]:
    """{axes, used, most}: of each axis on which people rate what people compare, how often the higher rated response
    was preferred, and whether two raters agree more where they compare or where they rate."""
    return await request.app.state.figures("rated-alike", project)


@router.get("/api/projects/{project}/raters")
@terms(lane="reports")
async def raters(project: str, request: Request, _user: Lead) -> dict[str, Any]:
    """Everybody who has answered: how much, how fast, how well, how evenly."""
    return await request.app.state.figures("raters", project)


@router.get("/api/projects/{project}/disagreements")
@terms(lane="reports")
async def disagreements(
    project: str, request: Request, _user: Reviewer, after: Place = 0, limit: Some = 20
) -> dict[str, Any]:
    """Questions whose raters said different things, the sharpest first."""
    figures = request.app.state.figures
    report = await figures("disagreements", project, after=after, limit=limit)
    tasks = await run_in_threadpool(lambda: [*map(rendered, report["tasks"])])
    return report | {"tasks": tasks}


@router.get("/api/projects/{project}/labels")
@terms(lane="reports")
async def labels(
    project: str,
    request: Request,
    _user: Lead,
    rater: Annotated[str | None, Query(max_length=36)] = None,
) -> dict[str, Any]:
    """How the newest answers fall, of all or of one rater, and whether longer responses win."""
    return await request.app.state.figures("labels", project, rater_id=rater)


@router.get("/api/projects/{project}/win-rates")
@terms(lane="reports")
async def win_rates(project: str, request: Request, _user: Lead) -> dict[str, Any]:
    """How often each model's responses beat other models': overall, by week, by round, by pair."""
    return await request.app.state.figures("win-rates", project)


@router.get("/api/projects/{project}/aside")
def aside(
    project: str,
    request: Request,
    _user: Reviewer,
    which: reports.Which = "parked",
    after: Place = 0,
    limit: Some = 20,
) -> dict[str, Any]:
    """Questions that were skipped or flagged, with every reason given."""
    with store_of(request).read() as connection:
        report = reports.aside(connection, project, which=which, after=after, limit=limit)
    return report | {"tasks": [rendered(task) for task in report["tasks"]]}


@router.post("/api/projects/{project}/aside/take-back")
def take_back(project: str, body: TakeBack, request: Request, user: Lead) -> dict[str, int]:
    """Ask again what a rater's flags and skips since a time have set aside; nothing is deleted.

    {taken_back, tasks, answers}: flags and skips that count no more, questions and answers that are asked for again.
    """
    with store_of(request).write() as connection:
        return asides.take_back(connection, project, body.rater, since=body.since, actor=user.rater)


@router.post("/api/tasks/{task}/review", status_code=201)
def review(task: str, request: Request, user: Reviewer) -> dict[str, str]:
    """Judge a question oneself, beside its raters: {assignment, project}."""
    with store_of(request).write() as connection:
        return reports.review(connection, task, user.rater)


@router.post("/api/tasks/{task}/unpark")
def unpark(task: str, body: Unpark, request: Request, user: Reviewer) -> dict[str, int]:
    """Ask a question again that was set aside, or (`close`) never again."""
    with store_of(request).write() as connection:
        return {"changed": reports.unpark(connection, task, close=body.close, actor=user.rater)}


def rendered(task: dict[str, Any]) -> dict[str, Any]:
    """A question with the HTML of its texts, and without ids of completions."""
    content = task["prompt"]
    turns = [{"role": "text", "content": content}] if isinstance(content, str) else content
    episodes = task.get("episodes") or [{} for _ in task["responses"]]
    return {k: v for k, v in task.items() if k != "completions"} | {
        "prompt": [{"role": t["role"], "html": to_html(turn_text(t))} for t in turns],
        "responses": [
            response_html(text, played)
            for text, played in zip(task["responses"], episodes, strict=True)
        ],
    }


@router.get("/lead", include_in_schema=False)
def projects_page(request: Request) -> Any:
    user = visitor(request)
    if user is None:
        return to_login(request)
    if not (user.leads or user.reviews):
        return not_yours(request, "This page is for leads.")
    return page(request, "lead.html", starters=STARTERS)


@router.get("/lead/{project}", include_in_schema=False)
@router.get("/lead/{project}/{part}", include_in_schema=False)
def project_page(request: Request, project: str, part: str = "") -> Any:
    if refused := not_in_project(request, project, "reviewer" if part in REVIEWERS else "lead"):
        return refused
    user = request.state.user
    with store_of(request).read() as connection:
        there = (project_table.c.id == project, project_table.c.deleted_at.is_(None))
        query = select(project_table).where(*there)
        row = connection.execute(query).first()
        standing = rights.standing(connection, project, user.rater, user.role)
    if row is None or part not in PARTS:
        text = "There is no such page."
        return page(request, "message.html", status=404, title="Nothing here", text=text)
    leads = standing is not None and standing.may("lead")
    name = f"lead/{part or 'overview'}.html"
    form_options = {
        "kinds": list(KINDS.values()),
        "labels": {kind.name: kind.label for kind in KINDS.values()},
        "ask": {
            source: list(filter(_has_defaults, asked_of(source)))
            for source in ("samples", "prompts", "gold")
        },
        "designs": {kind.name: _design(kind) for kind in KINDS.values() if not kind.talks},
        "starters": {name: asdict(starter) for name, starter in STARTERS.items()},
        "parts": {key: title for key, title in PARTS.items() if leads or key in REVIEWERS},
        "leads": leads,
        "models": request.app.state.models.names() if part == "playground" else [],
        "envs": request.app.state.plays.names,
    }
    return page(request, name, project=row, part=part, **form_options)


def _has_defaults(kind: str) -> bool:
    """Whether it can be asked without options; with them it is put on a project's screen."""
    try:
        screens.check_options(kind, {})
    except UserError:
        return kind == SCREEN
    return True


def _design(kind: Kind) -> dict[str, Any]:
    """What the form of a screen knows of a kind."""
    least, most = kind.responses
    about = {"label": kind.label, "does": kind.does, "options": kind.options}
    return about | {"least": least, "most": most}
