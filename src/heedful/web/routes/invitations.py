"""Invitations over HTTP: one or many links, for anybody or for people by name, by mail where the server can send it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, BackgroundTasks, Request
from pydantic import BaseModel, Field

from heedful.errors import UserError
from heedful.store.database.db import Store
from heedful.store.membership import invitations
from heedful.store.membership.invitations import Addressee, Gives
from heedful.store.membership.rights import Role
from heedful.web import proxy
from heedful.web.doors import Door, terms
from heedful.web.mail import Letter, Mailer
from heedful.web.security import Denied, Lead, roles_of, store_of

router = APIRouter(route_class=Door, prefix="/api/invitations", tags=["people"])


class Invitation(BaseModel):
    """For whoever has the link, or one link for each person of a pasted list; with what it gives."""

    role: str = "rater"
    people: str = Field("", max_length=100_000)
    number: int = Field(1, ge=1, le=invitations.MOST)
    groups: list[str] = Field(default_factory=list, max_length=100)
    projects: dict[str, Role] = Field(default_factory=dict, max_length=100)
    mail: bool = False


@router.get("")
def listed(request: Request, user: Lead) -> list[dict[str, Any]]:
    """The newest, with their state: open, used, expired or withdrawn. Whose pseudonym is whose only owners are told."""
    seen = roles_of(request, user, "lead")
    with store_of(request).read() as connection:
        rows = invitations.listed(connection, everything=user.role == "owner")
    for row in rows:
        row["projects"] = {key: role for key, role in row["projects"].items() if key in seen}
    return rows


@router.post("", status_code=201)
@terms(body=200_000)
def invite(
    body: Invitation, request: Request, user: Lead, background: BackgroundTasks
) -> dict[str, Any]:
    """{url, role, invitations: [{id, name, email, url}]}: links for one person each, for seven days; `url` is the
    first. `people` are names, addresses or CSV, one a line; without them `number` links for anybody. Leads invite
    raters; owners invite anybody. With `mail` those with an address get theirs by mail, and the list says when, or why
    not."""
    if body.role != "rater" and user.role != "owner":
        raise Denied(403, "only an owner may invite leads and owners")
    mailer: Mailer | None = request.app.state.mailer
    if body.mail and mailer is None:
        raise UserError("this server sends no mail: heedful serve --smtp")
    people = invitations.addressees(body.people)
    if body.people.strip() and not people:
        raise UserError("there is nobody in this list")
    gives, store, made = Gives(body.groups, body.projects), store_of(request), []
    with store.write() as connection:
        if problem := invitations.refuse(connection, gives, user.rater, user.role):
            raise Denied(403, problem)
        for person in people or [Addressee()] * body.number:
            key, token = invitations.make(
                connection, body.role, actor=user.rater, person=person, gives=gives
            )
            url = f"{proxy.public_url(request)}/join?token={token}"
            made.append({"id": key, "name": person.name, "email": person.email, "url": url})
    if mailer is not None and body.mail:
        letters = {m["id"]: _letter(m) for m in made if m["email"]}
        background.add_task(_send, store, mailer, letters)
    return {"url": made[0]["url"], "role": body.role, "invitations": made}


def _letter(made: dict[str, Any]) -> Letter:
    greeting = f"Hello {made['name']},\n\n" if made["name"] else ""
    text = (
        f"{greeting}you are invited to judge answers of language models. With this link you make your account; it "
        f"works once and for seven days:\n\n{made['url']}\n\nOthers see a pseudonym only.\n"
    )
    return Letter(made["email"], "An invitation to heedful", text)


def _send(store: Store, mailer: Mailer, letters: dict[str, Letter]) -> None:
    problems = mailer.send(list(letters.values()))
    with store.write() as connection:
        invitations.sent(connection, dict(zip(letters, problems, strict=True)))


@router.delete("/{invitation_id}")
def withdraw(invitation_id: str, request: Request, user: Lead) -> dict[str, bool]:
    """An invitation that nobody has used is worth nothing from now on, and names nobody."""
    with store_of(request).write() as connection:
        if not invitations.withdraw(connection, invitation_id, actor=user.rater):
            raise Denied(404, "there is no such open invitation")
    return {"done": True}
