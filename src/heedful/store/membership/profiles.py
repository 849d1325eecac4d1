"""What somebody seems to like in a project, in a sentence: they see it, change it and delete it, and nobody else is
shown it. It stands with the account, and goes when that is erased; what was found from answers goes with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from heedful.errors import UserError
from heedful.store.database import audit
from heedful.store.database.db import now
from heedful.store.tables.schema import rater

KEY = "profiles"  # in a rater's settings: {project: {sentence, theirs, made_at}}
MOST = 2000  # characters


def of(connection: Connection, project: str, rater_id: str) -> dict[str, Any] | None:
    """{sentence, theirs, made_at}: `theirs` where they have written it themselves; None where there is none."""
    found = _all(connection, rater_id).get(project)
    return found if found and found["sentence"] else None


def write(connection: Connection, project: str, rater_id: str, sentence: str) -> None:
    """Somebody says themselves what they like; nothing that is found out later takes its place."""
    sentence = sentence.strip()
    if not 0 < len(sentence) <= MOST:
        raise UserError(f"a profile has 1 to {MOST} characters; delete it if you want none")
    _set(connection, project, rater_id, sentence, theirs=True)
    audit.record(connection, rater_id, "profile.write", project=project, rater=rater_id)


def delete(connection: Connection, project: str, rater_id: str) -> None:
    """There is none any more, and none is made again from their answers."""
    _set(connection, project, rater_id, None, theirs=True)
    audit.record(connection, rater_id, "profile.delete", project=project, rater=rater_id)


def forget(connection: Connection, project: str, rater_id: str) -> None:
    """What was found from answers goes when these are withdrawn; what they have written themselves stays."""
    if (found := of(connection, project, rater_id)) and not found["theirs"]:
        _set(connection, project, rater_id, None, theirs=False)


def keep(connection: Connection, project: str, told: Mapping[str, str]) -> int:
    """What was found of people, a sentence each by pseudonym; returns of how many it is kept: not of those who have
    written or deleted theirs, nor of judges."""
    kept = 0
    people = select(rater.c.id, rater.c.pseudonym).where(
        rater.c.pseudonym.in_(told), rater.c.role != "judge", rater.c.status != "gone"
    )
    for person in connection.execute(people).all():
        if not _all(connection, person.id).get(project, {}).get("theirs"):
            sentence = told[person.pseudonym][:MOST]
            _set(connection, project, person.id, sentence, theirs=False)
            kept += 1
    return kept


def _all(connection: Connection, rater_id: str) -> dict[str, Any]:
    settings = connection.execute(select(rater.c.settings).where(rater.c.id == rater_id)).scalar()
    return (settings or {}).get(KEY, {})


def _set(
    connection: Connection, project: str, rater_id: str, sentence: str | None, *, theirs: bool
) -> None:
    mine = rater.c.id == rater_id
    settings = connection.execute(
        select(rater.c.settings).where(mine).with_for_update()
    ).scalar_one()
    profile = {"sentence": sentence, "theirs": theirs, "made_at": now(connection)}
    profiles = settings.get(KEY, {}) | {project: profile}
    changed = rater.update().where(mine).values(settings=settings | {KEY: profiles})
    connection.execute(changed)
