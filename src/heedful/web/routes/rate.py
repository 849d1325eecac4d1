"""The rater's interface and pages: the next question, and submitting answers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from heedful.errors import UserError
from heedful.store.kinds import KINDS
from heedful.store.membership import profiles
from heedful.store.project import projects
from heedful.store.rating import judging, own, show, trials, work
from heedful.store.rating.progress import progress
from heedful.store.tables.schema import project
from heedful.web import profiles as making
from heedful.web.doors import Door, terms
from heedful.web.episodes import response_html
from heedful.web.render import to_html, turn_text
from heedful.web.respond import HERE, page
from heedful.web.routes.consent import told
from heedful.web.routes.pages import not_in_project, to_login, visitor
from heedful.web.security import SignedIn, User, roles_of, store_of

router = APIRouter(route_class=Door, tags=["rate"])


class Next(BaseModel):
    holding: list[str] = Field(default_factory=list, max_length=10)


class Judgment(BaseModel):
    answer: dict[str, Any]
    active_ms: int | None = Field(None, ge=0, lt=2**31)
    wall_ms: int | None = Field(None, ge=0, lt=2**31)
    client_at: float | None = Field(None, ge=0, lt=1e11)
    ui_version: str | None = Field(None, max_length=40)


@router.get("/api/rate/projects")
def rateable(request: Request, user: SignedIn) -> list[dict[str, str]]:
    """The projects that ask you for answers."""
    return _open_to(request, user)


def _open_to(request: Request, user: User) -> list[dict[str, str]]:
    """{id, name} of the projects in which somebody rates, by name."""
    theirs = roles_of(request, user)
    with store_of(request).read() as connection:
        rows = projects.asking(connection)
        return [{"id": row.id, "name": row.name} for row in rows if row.id in theirs]


@router.post("/api/projects/{project_id}/next")
def next_task(project_id: str, body: Next, request: Request, user: SignedIn) -> dict[str, Any]:
    """Your next question, or why there is none. `holding` are those already on your screen."""
    store = store_of(request)
    with store.write() as connection:
        claim = work.claim(connection, project_id, user.rater, holding=body.holding)
    with store.read() as connection:
        assignment_id = claim.assignment
        if assignment_id in body.holding:
            assignment_id = None
        task = (
            payload(show.question(connection, assignment_id, user.rater)) if assignment_id else None
        )
        return {
            "task": task,
            "why": claim.reason,
            "disclosure": told(connection, project_id, user.rater)["disclosure"]
            if claim.reason == "disclosure"
            else None,
            "qualification": trials.verdict(connection, project_id, user.rater),
            "progress": progress(connection, project_id, user.rater),
        }


@router.get("/api/projects/{project_id}/progress")
def how_far(project_id: str, request: Request, user: SignedIn) -> dict[str, Any]:
    """How many you have answered, and how many wait; with `at_least` there may be more, which were not counted."""
    with store_of(request).read() as connection:
        return progress(connection, project_id, user.rater)


@router.get("/api/projects/{project_id}/mine")
def mine(
    project_id: str,
    request: Request,
    user: SignedIn,
    after: Annotated[str | None, Query(max_length=36)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:
    """{answers, next}: your own answers, the newest first; answer an `assignment` again to correct it."""
    with store_of(request).read() as connection:
        return own.answers(connection, project_id, user.rater, after=after, limit=limit)


@router.get("/api/assignments/{assignment_id}")
def assignment(assignment_id: str, request: Request, user: SignedIn) -> dict[str, Any]:
    """A question of yours, with your answer to it: for reloads and for undo."""
    with store_of(request).read() as connection:
        return payload(show.question(connection, assignment_id, user.rater))


@router.get("/api/assignments/{assignment_id}/lesson")
def lesson(assignment_id: str, request: Request, user: SignedIn) -> dict[str, Any]:
    """Of a training question that you have answered: whether that was {right}, the right {ranks} by place on your
    screen, and the {explanation}, as HTML, or null."""
    with store_of(request).read() as connection:
        lease = judging.assignment_of(connection, assignment_id, user.rater)
        told = trials.lesson(connection, lease)
    return told | {"explanation": told["explanation"] and to_html(told["explanation"])}


@router.post("/api/assignments/{assignment_id}/critiques/{place}")
def critique(assignment_id: str, place: int, request: Request, user: SignedIn) -> dict[str, str]:
    """{text}: what a model says against the response at this place on your screen, as plain text, where the question's
    `critiques` say that it can be asked for. That you asked is kept with your answer."""
    with store_of(request).write() as connection:
        return {"text": judging.ask_critique(connection, assignment_id, user.rater, place)}


@router.post("/api/assignments/{assignment_id}/judgments", status_code=201)
@terms(body=2_000_000)
def judge(
    assignment_id: str,
    body: Judgment,
    request: Request,
    response: Response,
    user: SignedIn,
    idempotency_key: Annotated[str, Header(min_length=8, max_length=64)],
) -> dict[str, Any]:
    """Answer. The same key and body again returns the first receipt with 200; another body 409.

    A second answer with a new key is a correction. See `heedful.store.kinds` for the forms of answers.
    """
    store = store_of(request)
    for last_try in (False, True):
        try:
            with store.write() as connection:
                receipt = judging.submit(
                    connection,
                    assignment_id,
                    user.rater,
                    body.answer,
                    key=idempotency_key,
                    active_ms=body.active_ms,
                    wall_ms=body.wall_ms,
                    client_at=body.client_at,
                    ui_version=body.ui_version,
                )
            break
        except IntegrityError as error:
            # The same key was written at the same time for another assignment; the second try sees it.
            if last_try:
                raise UserError("this answer cannot be kept beside what is there") from error
    if receipt.replayed:
        response.status_code = 200
    return {
        "judgment": receipt.judgment,
        "revision": receipt.revision,
        "disposition": receipt.disposition,
    }


def payload(question: dict[str, Any]) -> dict[str, Any]:
    """What `store.show` gives, with the HTML of every text beside it."""
    content = question["prompt"]
    turns = [{"role": "text", "content": content}] if isinstance(content, str) else content
    guidelines = question["guidelines"]
    return question | {
        "prompt": [
            {"role": t["role"], "text": turn_text(t), "html": to_html(turn_text(t))} for t in turns
        ],
        "responses": [
            r | {"html": response_html(r["text"], r.get("episode"))} for r in question["responses"]
        ],
        "guidelines": guidelines and {"id": guidelines["id"], "html": to_html(guidelines["body"])},
        "turns": [
            t | {"replies": [{"text": r, "html": to_html(r)} for r in t["replies"]]}
            for t in question["turns"]
        ],
    }


@router.get("/rate", include_in_schema=False)
def projects_page(request: Request) -> Any:
    user = visitor(request)
    if user is None:
        return to_login(request)
    asking = _open_to(request, user)
    with store_of(request).read() as connection:
        asking = [row | progress(connection, row["id"], user.rater) for row in asking]
    return page(request, "projects.html", projects=asking)


@router.get("/rate/{project_id}", include_in_schema=False)
def rate_page(project_id: str, request: Request, assignment: str = "") -> Any:
    if refused := not_in_project(request, project_id, "rater"):
        return refused
    with store_of(request).read() as connection:
        row = connection.execute(
            select(project).where(project.c.id == project_id, project.c.deleted_at.is_(None))
        ).first()
    if row is None:
        text = "There is no such project."
        return page(request, "message.html", status=404, title="Nothing here", text=text)
    comments = {name: kind.comment for name, kind in KINDS.items()}
    profiled = _profiled(request, project_id)
    return page(
        request,
        "rate.html",
        project=row,
        assignment=assignment,
        comments=comments,
        profiled=profiled,
    )


def _profiled(request: Request, project_id: str) -> bool:
    """Whether what this rater seems to like is made from their answers, which they are told."""
    with store_of(request).read() as connection:
        folder = projects.settings_of(connection, project_id).profiles
        if not making.are_there(request.app.state.workspace, folder):
            return False
        return not profiles.is_off(connection, project_id, request.state.user.rater)


@router.get("/rate/{project_id}/mine", include_in_schema=False)
def mine_page(project_id: str, request: Request) -> Any:
    if refused := not_in_project(request, project_id, "rater"):
        return refused
    there = (project.c.id == project_id, project.c.deleted_at.is_(None))
    with store_of(request).read() as connection:
        row = connection.execute(select(project).where(*there)).first()
    if row is None:
        text = "There is no such project."
        return page(request, "message.html", status=404, title="Nothing here", text=text)
    return page(request, "mine.html", project=row)


@router.get("/static/rate/kinds/{kind}.js", include_in_schema=False)
def widget(kind: str) -> FileResponse:
    """What draws a kind of question: heedful's own, or that of an installed package."""
    if kind not in KINDS:
        raise HTTPException(404, "there is no such kind of question")
    path = KINDS[kind].page or HERE / "static" / "rate" / "kinds" / f"{kind}.js"
    return FileResponse(path, media_type="text/javascript")
