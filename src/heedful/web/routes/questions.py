"""A project's questions, to look through and to act upon; one question's whole history."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from heedful.configs.export import What
from heedful.errors import UserError
from heedful.store.exports import snapshot
from heedful.store.lead import browse, history, steering
from heedful.store.project import projects
from heedful.store.rating.judging import Conflict
from heedful.web.doors import Door, terms
from heedful.web.routes.lead import rendered
from heedful.web.routes.transfer import Format, download
from heedful.web.security import Lead, store_of

router = APIRouter(route_class=Door, tags=["questions"])
P = "/api/projects/{project}/questions"
Words = Annotated[str, Query(max_length=1000)]
Name = Annotated[str | None, Query(max_length=200)]
Pairs = Annotated[list[str], Query(max_length=20)]


class Wanted(BaseModel):
    """Which questions: whatever is given must hold of each."""

    text: str = Field("", max_length=1000)
    state: browse.State | None = None
    rater: str | None = Field(None, max_length=200)
    answer: str | None = Field(None, max_length=200)
    differ: bool = False
    where: list[str] = Field(default_factory=list, max_length=20)
    model: str | None = Field(None, max_length=1000)

    def filter(self) -> browse.Filter:
        return browse.Filter(
            self.text,
            self.state,
            self.rater,
            self.answer,
            self.differ,
            tuple(self.where),
            self.model,
        )


class Chosen(BaseModel):
    """Questions by their ids, or all that match."""

    tasks: list[str] | None = Field(None, max_length=5000)
    filter: Wanted | None = None
    expect: int | None = Field(None, ge=0, lt=2**31)

    def ids(self, connection: Connection, project: str) -> list[str]:
        """Their ids; `Conflict` where as many as were expected do not match any more."""
        projects.settings_of(connection, project)
        if (self.tasks is None) == (self.filter is None):
            raise UserError("say which questions: either `tasks`, their ids, or a `filter`")
        if self.tasks is not None:
            return list(dict.fromkeys(self.tasks))
        assert self.filter is not None
        found = list(browse.matching(connection, project, self.filter.filter()))
        if self.expect is not None and len(found) != self.expect:
            raise Conflict(
                f"{len(found)} questions match now, and {self.expect} did when you looked; look again"
            )
        return found


class Act(Chosen):
    action: steering.Action
    number: int | None = Field(None, ge=1, le=steering.MOST)


class Export(Chosen):
    what: What = "judgments"
    format: Format = "jsonl"


@router.get(P)
@terms(lane="reports")
def questions(
    project: str,
    request: Request,
    _user: Lead,
    text: Words = "",
    state: browse.State | None = None,
    rater: Name = None,
    answer: Name = None,
    differ: bool = False,
    where: Pairs = [],  # noqa: B006  (FastAPI copies it)
    model: Annotated[str | None, Query(max_length=1000)] = None,
    after: Annotated[str | None, Query(max_length=36)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:
    """{tasks, next}: questions that match, the newest first; ask again with `after` = `next` for older ones.

    `text`: words, and "phrases", in the prompt or a response. `answer`: an outcome (tie, both_bad, skip, flag, answer)
    or NAME=VALUE of an axis or a rule. `where`: KEY=VALUE of source, licence, language, split, kind, strategy, round.
    """
    wanted = browse.Filter(text, state, rater, answer, differ, tuple(where), model)
    with store_of(request).read() as connection:
        projects.settings_of(connection, project)
        matching = browse.matching(connection, project, wanted, after=after)
        ids = list(islice(matching, limit + 1))
        tasks = history.rows(connection, ids[:limit])
    return {"tasks": tasks, "next": ids[limit - 1] if len(ids) > limit else None}


@router.get(f"{P}/count")
@terms(lane="reports")
def count(
    project: str,
    request: Request,
    _user: Lead,
    text: Words = "",
    state: browse.State | None = None,
    rater: Name = None,
    answer: Name = None,
    differ: bool = False,
    where: Pairs = [],  # noqa: B006
    model: Annotated[str | None, Query(max_length=1000)] = None,
) -> dict[str, Any]:
    """{total, models}: how many questions match, and who wrote the project's responses."""
    wanted = browse.Filter(text, state, rater, answer, differ, tuple(where), model)
    with store_of(request).read() as connection:
        projects.settings_of(connection, project)
        total = browse.count(connection, project, wanted)
        return {"total": total, "models": history.models(connection, project)}


@router.post(f"{P}/act")
@terms(body=1_000_000)
def act(project: str, body: Act, request: Request, user: Lead) -> dict[str, int]:
    """Withdraw, put back, set aside, or ask for more answers of, questions by their ids or all that match.

    {tasks, answers, left_out}: questions that were looked at, answers wanted that changed their state or were added,
    and questions of which none are wanted (gold, repetitions).
    """
    store = store_of(request)
    with store.read() as connection:
        ids = body.ids(connection, project)
    done = steering.steer(store, project, ids, body.action, actor=user.rater, number=body.number)
    return {"tasks": done.tasks, "answers": done.answers, "left_out": done.left_out}


@router.post(f"{P}/export")
@terms(body=1_000_000, lane="reports")
def export(project: str, body: Export, request: Request, user: Lead) -> Response:
    """What was said of these questions, as a file with its manifest."""
    with store_of(request).read() as connection:
        ids = body.ids(connection, project)
    query = snapshot.Query(body.what)
    return download(request, user, project, query, body.format, tasks=ids)


@router.get("/api/tasks/{task}")
@terms(lane="reports")
def question(task: str, request: Request, _user: Lead) -> dict[str, Any]:
    """One question and its whole history: to whom it was shown, who said what and when, what leads did with it."""
    with store_of(request).read() as connection:
        told = history.history(connection, task)
        projects.settings_of(connection, told["project"])
    return rendered(told)
