"""Webhooks of a project: addresses to which every judgment is posted."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request

from heedful.store.exports import hooks
from heedful.store.project import projects
from heedful.web import deliver
from heedful.web.doors import Door
from heedful.web.security import Lead

router = APIRouter(route_class=Door, prefix="/api", tags=["webhooks"])


@router.get("/projects/{project}/webhooks")
def list_hooks(request: Request, project: str, user: Lead) -> list[dict[str, Any]]:
    """Addresses, and how many deliveries wait, were sent and have failed; the secrets are shown once only."""
    with request.app.state.store.read() as connection:
        projects.settings_of(connection, project)
        return hooks.of_project(connection, project)


@router.post("/projects/{project}/webhooks", status_code=201)
def add_hook(
    request: Request, project: str, user: Lead, url: Annotated[str, Body(embed=True, min_length=1)]
) -> dict[str, str]:
    """Every judgment and alert from now on is posted to `url`, signed with the secret that is shown here only."""
    deliver.check_url(url, allow_private=request.app.state.allow_private_webhooks)
    with request.app.state.store.write() as connection:
        key, secret = hooks.add(connection, project, url, actor=user.rater)
    return {"id": key, "url": url, "secret": secret}


@router.get("/projects/{project}/deliveries")
def list_deliveries(
    request: Request, project: str, user: Lead, state: hooks.State = "failed"
) -> list[dict[str, Any]]:
    """The newest 100 deliveries that wait, were sent or were given up, with what was answered last."""
    with request.app.state.store.read() as connection:
        projects.settings_of(connection, project)
        return hooks.deliveries(connection, project, state=state)


@router.post("/webhooks/{key}/again")
def send_again(request: Request, key: str, user: Lead) -> dict[str, int]:
    """Send again what was given up: all of a webhook, or one delivery by its id, under which it was sent before."""
    with request.app.state.store.write() as connection:
        return {"deliveries": hooks.send_again(connection, key, actor=user.rater)}


@router.delete("/webhooks/{key}")
def remove_hook(request: Request, key: str, user: Lead) -> dict[str, str]:
    """Also forgets what was still to be delivered."""
    with request.app.state.store.write() as connection:
        hooks.remove(connection, key, actor=user.rater)
    return {"removed": key}
