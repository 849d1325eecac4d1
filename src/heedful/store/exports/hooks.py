"""Webhooks: addresses to which every judgment and alert is posted, and the queue of deliveries.

A delivery is written with its judgment, in one transaction, so none is lost; it is sent at least once, each time with
the same id. What was given up is kept with the reason, and can be sent again.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, func, select

from heedful.errors import UserError
from heedful.store.database import audit
from heedful.store.database.db import insert, now
from heedful.store.exports import export
from heedful.store.membership import rights
from heedful.store.project import consent, records
from heedful.store.project.projects import settings_of
from heedful.store.tables.schema import project, rater, webhook, webhook_delivery

FIRST_WAIT, LONGEST_WAIT = 10.0, 3600.0  # seconds; doubled after each attempt, up to an hour
MAX_ATTEMPTS = 33  # the last is a day after the first
State = Literal["waiting", "sent", "failed"]
LEASE = 60.0  # seconds that a sender has for the deliveries that it claimed


@dataclass(frozen=True)
class Delivery:
    """One judgment to be posted to one webhook."""

    id: str
    url: str
    secret: str
    body: dict[str, Any]


def add(connection: Connection, project_id: str, url: str, *, actor: str | None) -> tuple[str, str]:
    """The webhook's id, and the secret that signs its deliveries. Whether the address is allowed, the caller checks."""
    if connection.execute(select(project.c.id).where(project.c.id == project_id)).first() is None:
        raise UserError("there is no such project")
    duplicate = select(webhook.c.id).where(webhook.c.project == project_id, webhook.c.url == url)
    if connection.execute(duplicate).first():
        raise UserError("this project has a webhook with this address already")
    secret = secrets.token_hex(32)
    row = {"project": project_id, "url": url, "secret": secret, "added_by": actor}
    key = insert(connection, webhook, **row)
    audit.record(connection, actor, "webhook.add", webhook=key, project=project_id, url=url)
    return key, secret


def remove(connection: Connection, key: str, *, actor: str | None) -> None:
    """Forget a webhook and what was still to be delivered to it."""
    # Before its deliveries: a judgment that is being written now would add one in between.
    connection.execute(select(webhook.c.id).where(webhook.c.id == key).with_for_update())
    connection.execute(webhook_delivery.delete().where(webhook_delivery.c.webhook == key))
    if not connection.execute(webhook.delete().where(webhook.c.id == key)).rowcount:
        raise UserError("there is no such webhook")
    audit.record(connection, actor, "webhook.remove", webhook=key)


def of_project(connection: Connection, project_id: str) -> list[dict[str, Any]]:
    """A project's webhooks without their secrets, and how many deliveries wait, are sent and have failed."""
    counts: dict[str, dict[str, int]] = {}
    rows = connection.execute(
        select(webhook_delivery.c.webhook, webhook_delivery.c.state, func.count())
        .join(webhook, webhook.c.id == webhook_delivery.c.webhook)
        .where(webhook.c.project == project_id)
        .group_by(webhook_delivery.c.webhook, webhook_delivery.c.state)
    )
    for key, state, number in rows:
        counts.setdefault(key, {})[state] = number
    none, silent = {"waiting": 0, "sent": 0, "failed": 0}, _silent(connection)
    return [
        {
            "id": row.id,
            "url": row.url,
            "created_at": row.created_at,
            "added_by": row.pseudonym,
            "paused": row.id in silent,
            **none,
            **counts.get(row.id, {}),
        }
        for row in connection.execute(
            select(webhook, rater.c.pseudonym)
            .outerjoin(rater, rater.c.id == webhook.c.added_by)
            .where(webhook.c.project == project_id)
            .order_by(webhook.c.id)
        )
    ]


def any_due(connection: Connection) -> bool:
    """Whether a delivery is due; takes no lock."""
    table = webhook_delivery.c
    due = select(table.id).join(webhook, webhook.c.id == table.webhook)
    due = due.where(table.state == "waiting", table.due_at <= now(connection))
    due = due.where(table.webhook.not_in(_silent(connection)))
    return connection.execute(due.limit(1)).first() is not None


def _silent(connection: Connection) -> list[str]:
    """Webhooks whose adder is paused, or leads their project no more: they would go on telling them. What they are owed
    waits."""
    added = (rater.c.id == webhook.c.added_by, webhook.c.project == project.c.id)
    query = select(
        webhook.c.id, webhook.c.project, rater.c.id.label("rater"), rater.c.role, rater.c.status
    )
    silent = []
    for row in connection.execute(query.where(*added)):
        has = rights.standing(connection, row.project, row.rater, row.role)
        if row.status == "paused" or has is None or not has.may("lead"):
            silent.append(row.id)
    return silent


def claim_due(connection: Connection, limit: int = 20) -> list[Delivery]:
    """Deliveries that are due, for this sender alone for `LEASE` seconds. Call it within a write transaction."""
    timestamp = now(connection)
    table = webhook_delivery.c
    rows = connection.execute(
        select(webhook_delivery, webhook.c.url, webhook.c.secret, webhook.c.project)
        .join(webhook, webhook.c.id == table.webhook)
        .where(table.state == "waiting", table.due_at <= timestamp)
        .where(table.webhook.not_in(_silent(connection)))
        .order_by(
            table.attempts, table.due_at, table.id
        )  # an address that is away holds up no other
        .limit(limit)
        .with_for_update(skip_locked=True, of=webhook_delivery)
    ).all()
    if not rows:
        return []
    connection.execute(
        webhook_delivery.update()
        .where(table.id.in_([row.id for row in rows]))
        .values(due_at=timestamp + LEASE, attempts=table.attempts + 1)
    )
    judged = records.load(connection, sorted({row.judgment for row in rows}))
    by_id = {j.judgment.id: j for j in judged}
    gone = consent.taken_back(connection, list(by_id))
    kept = [row for row in rows if row.judgment not in gone]
    dropped = [row.id for row in rows if row.judgment in gone]
    connection.execute(webhook_delivery.delete().where(table.id.in_(dropped)))
    return [
        Delivery(
            row.id,
            row.url,
            row.secret,
            {
                "event": row.event,
                "delivery": row.id,
                "project": row.project,
                **_content(connection, row, by_id[row.judgment]),
            },
        )
        for row in kept
    ]


def _content(connection: Connection, row: Row, judged: records.JudgmentRecord) -> dict[str, Any]:
    """The judgment; or the alert that it gave, without the answer."""
    if row.event == "judgment":
        return {"judgment": export.judgments(judged)[0]}
    settings, what = settings_of(connection, row.project), judged.judgment.outcome
    limit = settings.flags_an_hour if what == "flag" else settings.skips_an_hour
    who = {"id": judged.rater.id, "pseudonym": judged.rater.pseudonym}
    text = f"{judged.rater.pseudonym} has given more than {limit} {what}s within an hour; more set nothing aside"
    return {"alert": {"text": text, "what": what, "limit": limit, "rater": who}}


def deliveries(
    connection: Connection, project_id: str, *, state: State = "failed", limit: int = 100
) -> list[dict[str, Any]]:
    """A project's newest deliveries in a state: {id, webhook, url, event, judgment, state, attempts, due_at, status,
    error}: what was answered last, or why nothing was."""
    d = webhook_delivery.c
    columns = (d.id, d.webhook, webhook.c.url, d.event, d.judgment, d.state, d.attempts, d.due_at)
    query = (
        select(*columns, d.status, d.error)
        .join(webhook, webhook.c.id == d.webhook)
        .where(webhook.c.project == project_id, d.state == state)
        .order_by(d.id.desc())
        .limit(limit)
    )
    return [dict(row._mapping) for row in connection.execute(query)]


def send_again(connection: Connection, key: str, *, actor: str | None) -> int:
    """A delivery, or all those of a webhook that were given up; returns how many are on their way again."""
    d = webhook_delivery.c
    of_hook = (d.webhook == key) & (d.state == "failed")
    this = (d.id == key) & (d.state != "waiting")
    values = {"state": "waiting", "attempts": 0, "due_at": now(connection)}
    sent = connection.execute(webhook_delivery.update().where(of_hook | this).values(**values))
    if not sent.rowcount:
        raise UserError("there is nothing to send again under this id")
    audit.record(connection, actor, "webhook.again", of=key, deliveries=sent.rowcount)
    return sent.rowcount


def mark_sent(connection: Connection, key: str, status: int | None = None) -> None:
    """The delivery has arrived."""
    values = {"state": "sent", "status": status, "error": None}
    connection.execute(
        webhook_delivery.update().where(webhook_delivery.c.id == key).values(**values)
    )


def mark_failed(
    connection: Connection,
    key: str,
    *,
    status: int | None = None,
    error: str | None = None,
    give_up: bool = False,
) -> None:
    """Try again later, each time after twice as long, an hour at most; not any more after `MAX_ATTEMPTS`, or if told
    to `give_up`."""
    attempts = connection.execute(
        select(webhook_delivery.c.attempts).where(webhook_delivery.c.id == key)
    ).scalar()
    if attempts is None:  # the webhook was removed meanwhile
        return
    wait = min(FIRST_WAIT * 2 ** (attempts - 1), LONGEST_WAIT)
    values: dict[str, Any] = {"due_at": now(connection) + wait}
    if give_up or attempts >= MAX_ATTEMPTS:
        values = {"state": "failed"}
    values |= {"status": status, "error": error}
    connection.execute(
        webhook_delivery.update().where(webhook_delivery.c.id == key).values(**values)
    )
