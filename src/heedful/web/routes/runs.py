"""Training runs of the workspace: curves that grow while a run goes on, and reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from heedful.errors import UserError
from heedful.web import runs
from heedful.web.doors import Door
from heedful.web.respond import page
from heedful.web.routes.pages import not_leading
from heedful.web.security import Lead

router = APIRouter(route_class=Door, tags=["runs"])

# A report brings its own style and script; it is shown in a frame that is nobody's origin.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; frame-ancestors 'self'"
)


@router.get("/api/runs")
def list_runs(request: Request, _user: Lead) -> list[dict[str, Any]]:
    """Runs and reports in the workspace's folders, those that changed last first."""
    return [runs.about(run) for run in runs.find(workspace_of(request))]


@router.get("/api/runs/{run}/metrics")
def metrics(
    run: str, request: Request, _user: Lead, after: Annotated[int, Query(ge=0, le=2**53)] = 0
) -> dict[str, Any]:
    """{rows, next, state, restarted}: what has been logged since; ask again with `next`."""
    return runs.rows(runs.find_one(workspace_of(request), run), after)


@router.get("/api/runs/{run}/report")
def report(run: str, request: Request, _user: Lead) -> HTMLResponse:
    """The report of a run, a demo or a comparison, as the page that it is."""
    path = runs.report(runs.find_one(workspace_of(request), run))
    if path is None:
        raise UserError("this run has no report")
    headers = {"Content-Security-Policy": REPORT_POLICY, "X-Frame-Options": "SAMEORIGIN"}
    return HTMLResponse(path.read_bytes(), headers=headers)


@router.get("/runs", include_in_schema=False)
def runs_page(request: Request) -> Any:
    return not_leading(request) or page(request, "runs.html")


@router.get("/runs/{run}", include_in_schema=False)
def run_page(run: str, request: Request) -> Any:
    if refused := not_leading(request):
        return refused
    folder = runs.find_one(workspace_of(request), run)
    return page(request, "run.html", run=runs.about(folder), config=runs.config(folder))


def workspace_of(request: Request) -> Path:
    workspace = request.app.state.workspace
    if workspace is None:
        raise UserError("this server has no folder with runs")
    return workspace
