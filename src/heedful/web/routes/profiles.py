"""What somebody seems to like in a project, over HTTP: theirs to see, to change and to switch off, and nobody else's;
and for a lead, from which profiles these are made."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from heedful.store.database import audit
from heedful.store.lead import quality
from heedful.store.membership import profiles
from heedful.store.project import consent, projects
from heedful.web import profiles as making
from heedful.web.doors import Door
from heedful.web.routes.runs import workspace_of
from heedful.web.security import Lead, SignedIn, User, store_of

router = APIRouter(route_class=Door, prefix="/api/projects")
MINE, NONE = "/{project_id}/profile", {"sentence": None, "theirs": None, "made_at": None}


class Profile(BaseModel):
    sentence: str = Field(max_length=profiles.MOST)


@router.get(MINE, tags=["rate"])
def profile(project_id: str, request: Request, user: SignedIn) -> dict[str, Any]:
    """{sentence, theirs, made_at}: what you seem to like here, found from your answers or written by you (`theirs`);
    nulls where there is none. And whether profiles are `kept` here, yours is switched `off`, is out of date (`stale`),
    is being `made`; and how many answers that compare or rank are `missing` until one is made."""
    with store_of(request).read() as connection:
        return _standing(connection, project_id, request, user)


@router.post(MINE, status_code=202, tags=["rate"])
def make_profile(project_id: str, request: Request, user: SignedIn) -> dict[str, bool]:
    """Have it made from your answers: where these are newer, or where you have changed it or switched it off and want
    it again. {begun: whether that is being done now}; of others who have answered since it is renewed, too."""
    with store_of(request).write() as connection:
        standing = _standing(connection, project_id, request, user)
        wanted = standing["stale"] or (standing["kept"] and _is_theirs(standing))
        if wanted and _is_theirs(standing):
            profiles.let(connection, project_id, user.rater)
        elif wanted:
            audit.record(connection, user.rater, "profile.renew", project=project_id)
        folder = projects.settings_of(connection, project_id).profiles
        name = projects.name_of(connection, project_id)
    begun = (
        wanted
        and not standing["missing"]
        and making.begin(workspace_of(request), project_id, name, folder)
    )
    return {"begun": bool(begun)}


@router.put(MINE, tags=["rate"])
def write_profile(
    project_id: str, body: Profile, request: Request, user: SignedIn
) -> dict[str, bool]:
    """Say yourself what you like."""
    with store_of(request).write() as connection:
        profiles.write(connection, project_id, user.rater, body.sentence)
    return {"done": True}


@router.delete(MINE, tags=["rate"])
def delete_profile(project_id: str, request: Request, user: SignedIn) -> dict[str, bool]:
    """No profile of you here, and none is made from your answers, until you want it again."""
    with store_of(request).write() as connection:
        profiles.delete(connection, project_id, user.rater)
    return {"done": True}


@router.get("/{project}/profiles", tags=["lead"])
def sources(project: str, request: Request, _user: Lead) -> dict[str, Any]:
    """{sources, running, said}: folders of `heedful pluralism` that the setting `profiles` may name; whether profiles
    are being made from the one that is chosen, and the last line that this printed."""
    with store_of(request).read() as connection:
        chosen = projects.settings_of(connection, project).profiles
    workspace, models = workspace_of(request), request.app.state.models
    version = making.version(workspace, chosen)
    last = making.last(workspace, project, version) if version else making.NOTHING
    found = [{"source": name} for name in models.profiles()]
    return {"sources": found, "running": last.running, "said": last.said}


def _is_theirs(standing: dict[str, Any]) -> bool:
    return standing["off"] or bool(standing["theirs"])


def _standing(connection: Connection, project: str, request: Request, user: User) -> dict[str, Any]:
    """`profile`. Nothing is made of those who have withdrawn or not agreed to what they are told."""
    workspace = request.app.state.workspace
    version = making.version(workspace, projects.settings_of(connection, project).profiles)
    found = profiles.of(connection, project, user.rater) or NONE
    standing = {name: found[name] for name in NONE}
    standing |= {"kept": version is not None, "stale": False, "made": False, "missing": 0}
    standing["off"] = profiles.is_off(connection, project, user.rater)
    if version is None or consent.refusal(connection, project, user.rater):
        return standing
    told = sum(quality.compared(connection, project, user.rater).values())
    if told < profiles.FEWEST:
        return standing | {"missing": profiles.FEWEST - told}
    last = making.last(workspace, project, version)
    outdated = bool(profiles.outdated(connection, project, version, user.rater))
    # Of answers that compare nothing no profile comes: one try is enough until something changes.
    since = profiles.wanted_since(connection, project, user.rater)
    tried = last.began_at is not None and last.began_at > since
    return standing | {"stale": outdated and not tried, "made": outdated and last.running}
