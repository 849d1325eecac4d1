"""Who can be relied on, by the newest fit of the model of raters, and a new one; what suggestions and critiques do."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import select

from heedful.raters import criticised, suggested
from heedful.store.database import audit
from heedful.store.lead import quality
from heedful.store.project import consent, projects
from heedful.store.tables.schema import project as project_table
from heedful.store.tables.schema import rater
from heedful.web import reliability
from heedful.web.doors import Door, terms
from heedful.web.routes.runs import workspace_of
from heedful.web.security import Lead, store_of

router = APIRouter(route_class=Door, tags=["lead"])


@router.get("/api/projects/{project}/reliability")
def reliability_of(project: str, request: Request, _user: Lead) -> dict[str, Any]:
    """{raters, comparisons, version, made_at, running, why, labels, withdrawn}: each rater's reliability, habits, drift
    and weight with intervals, and what to do; `labels` of thumbs, rules and ratings, {axes, …}: how often each says
    what is true; `why` says what ended a later try, `withdrawn` how many have taken their answers back since, who are
    not shown."""
    with store_of(request).read() as connection:
        projects.settings_of(connection, project)
        gone = consent.withdrawn(connection, project)
        names = select(rater.c.pseudonym).where(rater.c.id.in_(gone))
        not_shown = set(connection.execute(names).scalars())
    found = reliability.found(workspace_of(request), project)
    left_out = {one["rater"] for one in found["raters"]} & not_shown
    found["raters"] = [one for one in found["raters"] if one["rater"] not in not_shown]
    for axis in found["labels"]["axes"].values():
        left_out |= {one["rater"] for one in axis["raters"]} & not_shown
        axis["raters"] = [one for one in axis["raters"] if one["rater"] not in not_shown]
    return found | {"withdrawn": len(left_out)}


@router.post("/api/projects/{project}/reliability", status_code=202)
def fit_reliability(project: str, request: Request, user: Lead) -> dict[str, bool]:
    """Fit it to what has been said until now, by a process of its own: {begun: whether none was running}."""
    with store_of(request).write() as connection:
        projects.settings_of(connection, project)
        named = select(project_table.c.name).where(project_table.c.id == project)
        name = connection.execute(named).scalar_one()
        judged = quality.judged(connection, project)
        audit.record(connection, user.rater, "raters.fit", project=project)
    return {"begun": reliability.begin(workspace_of(request), project, name, judged)}


@router.get("/api/projects/{project}/suggestions")
@terms(lane="reports")
def suggestions_of(project: str, request: Request, _user: Lead) -> dict[str, Any]:
    """{sources, effects}: who has suggested something, and of each how often people say the same where they see it and
    where it is hidden, with the difference and its interval (`heedful.raters.suggested`)."""
    with store_of(request).read() as connection:
        projects.settings_of(connection, project)
        return suggested.report(connection, project)


@router.get("/api/projects/{project}/critiques")
@terms(lane="reports")
def critiques_of(project: str, request: Request, _user: Lead) -> dict[str, Any]:
    """{sources, effects}: which models have criticised responses, and of each how often raters ask for it, and what
    being able to ask does to what they say (`heedful.raters.criticised`)."""
    with store_of(request).read() as connection:
        projects.settings_of(connection, project)
        return criticised.report(connection, project)
