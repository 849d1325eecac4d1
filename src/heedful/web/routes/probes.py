"""Attempts to break a rule: asked for, and how they went."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from heedful.errors import UserError
from heedful.store.intake import ingest
from heedful.store.project import content, projects
from heedful.store.rating.probing import SOURCE
from heedful.web.doors import Door, terms
from heedful.web.probes import KIND
from heedful.web.security import Lead, store_of

router = APIRouter(route_class=Door, prefix="/api/projects/{project}/probes", tags=["probes"])
Turns = Annotated[int, Field(ge=1, le=1000)]


class Rule(BaseModel):
    code: str = Field(min_length=1, max_length=200)
    text: str = Field(min_length=1, max_length=5000)


class Wanted(BaseModel):
    rules: list[Rule] = Field(min_length=1, max_length=100)
    system: str = Field("", max_length=20_000)
    talks: int = Field(1, ge=1, le=ingest.MAX_OVERLAP)
    min_turns: Turns = 1
    max_turns: Turns = 8


@router.get("")
@terms(lane="reports")
async def broken(project: str, request: Request, _user: Lead) -> dict[str, Any]:
    """{rules: [{code, text, models: [{model, talks, broken, value, low, high, unsure, replies}]}], used, most}: of the
    conversations in which people tried to make a model break a rule the share in which it did, with a 95 % interval;
    `model` is empty of all models together, `replies` {broken, kept, unsure}."""
    return await request.app.state.figures("probes", project)


@router.post("", status_code=201)
@terms(body=600_000)
def ask(project: str, body: Wanted, request: Request, _user: Lead) -> dict[str, int]:
    """{tasks}: how many questions are new, one for each rule: in a conversation with one of the project's models that
    begins with the `system` message, people try to make it break the rule, `talks` of them each once."""
    store = store_of(request)
    with store.read() as connection:
        if not projects.settings_of(connection, project).models:
            raise UserError("this project names no models to talk to; say which in its settings")
    options = {
        KIND.apart: [rule.model_dump() for rule in body.rules],
        "min_turns": body.min_turns,
        "max_turns": body.max_turns,
    }
    spec = ingest.TaskSpec(KIND.name, body.talks, options)
    begins = [(body.system, content.Origin(source=SOURCE))]
    return {"tasks": ingest.prompts(store, project, begins, tasks=spec)["tasks"]}
