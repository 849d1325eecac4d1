"""What raters are told before their first answer in a project, that they have agreed to it, and that they took it back.

A disclosure is a text with versions. Nobody is asked anything before they have agreed to the newest one. Who withdraws
is asked no more, and nothing that they said in the project is exported or learned from, whoever exports it, while the
withdrawal stands; the judgments stay where they are, since they never change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import Connection, Exists, Row, Select, Table, exists, select

from heedful.errors import UserError
from heedful.store.database import audit
from heedful.store.database.bulk import batches
from heedful.store.database.db import now
from heedful.store.database.prepared import prepared
from heedful.store.membership import profiles
from heedful.store.project import versions
from heedful.store.project.projects import settings_of
from heedful.store.tables.schema import agreement, disclosure, judgment, withdrawal

Refusal = Literal["disclosure", "withdrawn"]


def write(connection: Connection, project: str, body: str, *, actor: str | None) -> str | None:
    """A new version, unless the newest says the same; everybody is asked to agree anew. An empty one: none any more."""
    if not body.strip() and versions.newest_id(connection, disclosure, project) is None:
        return None
    key, is_new = versions.write(connection, disclosure, project, body)
    if is_new:
        audit.record(connection, actor, "disclosure.write", project=project, version=key)
    return key


def told(connection: Connection, project: str) -> Row | None:
    """The disclosure that counts: {id, body, created_at}; None where nobody need agree to anything."""
    newest = versions.newest(connection, disclosure, project)
    return newest if newest is not None and newest.body.strip() else None


def refusal(connection: Connection, project: str, rater: str) -> Refusal | None:
    """Why somebody is not asked anything here, if so."""
    if _withdrawal(connection, project, rater) is not None:
        return "withdrawn"
    newest = versions.newest_id(connection, disclosure, project)
    if newest is None or _agreed_at(connection, newest, rater) is not None:
        return None
    return "disclosure" if told(connection, project) else None


def standing(connection: Connection, project: str, rater: str) -> dict[str, Any]:
    """{disclosure, agreed_at, withdrawn_at, by_themselves}: what somebody has been told, agreed to and taken back; the
    disclosure is {id, body, created_at} or null."""
    newest, gone = told(connection, project), _withdrawal(connection, project, rater)
    text = newest and {"id": newest.id, "body": newest.body, "created_at": newest.created_at}
    return {
        "disclosure": text,
        "agreed_at": newest and _agreed_at(connection, newest.id, rater),
        "withdrawn_at": gone and gone.created_at,
        "by_themselves": gone is not None and gone.withdrawn_by == rater,
    }


def agree(connection: Connection, project: str, rater: str, version: str) -> None:
    """Somebody has read this version and agrees. UserError where it is not the newest."""
    newest = told(connection, project)
    if newest is None or newest.id != version:
        raise UserError("the text has changed since you opened it: read it once more")
    if _agreed_at(connection, version, rater) is None:
        row = {"disclosure": version, "rater": rater, "created_at": now(connection)}
        connection.execute(agreement.insert().values(**row))
        audit.record(connection, rater, "disclosure.agree", project=project, version=version)


def withdraw(connection: Connection, project: str, rater: str, *, actor: str | None) -> None:
    """Nothing that somebody said in the project is exported any more, and they are not asked. UserError where there
    is no such project."""
    settings_of(connection, project)
    before = _withdrawal(connection, project, rater)
    if before is not None and (before.withdrawn_by == actor or actor != rater):
        return
    connection.execute(withdrawal.delete().where(*_of(project, rater)))
    row = {"project": project, "rater": rater, "withdrawn_by": actor}
    connection.execute(withdrawal.insert().values(**row, created_at=now(connection)))
    profiles.forget(connection, project, rater)
    audit.record(connection, actor, "answers.withdraw", project=project, rater=rater)


def give_again(connection: Connection, project: str, rater: str, *, actor: str | None) -> None:
    """A withdrawal ends. UserError where somebody else's is meant: what people took back only they give again, and
    what a lead took out only a lead puts back."""
    before = _withdrawal(connection, project, rater)
    if before is None:
        return
    if (before.withdrawn_by == rater) != (actor == rater):
        raise UserError(
            "your lead has taken your answers out, and only they can put them back"
            if actor == rater
            else "they have withdrawn their answers themselves, and only they can give them again"
        )
    connection.execute(withdrawal.delete().where(*_of(project, rater)))
    audit.record(connection, actor, "answers.give_again", project=project, rater=rater)


def withdrawn(connection: Connection, project: str) -> list[str]:
    """Whose answers in the project are not exported, in order."""
    query = select(withdrawal.c.rater).where(withdrawal.c.project == project)
    return sorted(connection.execute(query).scalars())


def took_back(table: Any = judgment) -> Exists:
    """Condition on a judgment: its rater has withdrawn it."""
    w = withdrawal.c
    return exists().where(w.project == table.c.project, w.rater == table.c.rater)


def taken_back(connection: Connection, ids: Sequence[str], table: Table = judgment) -> set[str]:
    """Which of these judgments, or rows of a table that a judgment made, their raters have withdrawn."""
    w, j = withdrawal.c, judgment.c
    if connection.execute(select(w.rater).limit(1)).first() is None:
        return set()  # nearly always, and quick
    joined = judgment.join(withdrawal, (w.project == j.project) & (w.rater == j.rater))
    if table is not judgment:
        joined = joined.join(table, table.c.judgment == j.id)
    query = select(table.c.id).select_from(joined)
    return {
        key
        for part in batches(list(ids))
        for key in connection.execute(query.where(table.c.id.in_(part))).scalars()
    }


def _agreed_at(connection: Connection, version: str, rater: str) -> float | None:
    return _agreement(connection, version, rater).scalar()


@prepared
def _agreement(version: str, rater: str) -> Select:
    a = agreement.c
    return select(a.created_at).where(a.disclosure == version, a.rater == rater)


def _withdrawal(connection: Connection, project: str, rater: str) -> Row | None:
    return _withdrawn(connection, project, rater).first()


@prepared
def _withdrawn(project: str, rater: str) -> Select:
    return select(withdrawal).where(*_of(project, rater))


def _of(project: str, rater: str) -> tuple[Any, ...]:
    return withdrawal.c.project == project, withdrawal.c.rater == rater
