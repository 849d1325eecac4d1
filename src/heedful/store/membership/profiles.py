"""What somebody seems to like in a project, in a sentence: they see it, change it and delete it, and nobody else is
shown it. It stands with the account, and goes when that is erased; what was found from answers goes with them.

What was found has a version, that of the profiles it was chosen from: it is out of date where another version counts,
or where its person has answered since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, func, select

from heedful.errors import UserError
from heedful.store.database import audit
from heedful.store.database.db import now
from heedful.store.tables.schema import judgment, rater

KEY = "profiles"  # in a rater's settings: {project: {sentence, theirs, made_at, version}}
MOST = 2000  # characters
# Comparisons before one is made from them: the fewest after which new users of all the worlds of `many-people` and
# `household` (docs/results/reproductions) have over two thirds of the accuracy that eight bring; after two it is half.
FEWEST = 4


def version_of(file: bytes) -> str:
    """Of the profiles that sentences are chosen from, by the bytes of their file."""
    return hashlib.sha256(file).hexdigest()[:16]


def of(connection: Connection, project: str, rater_id: str) -> dict[str, Any] | None:
    """{sentence, theirs, made_at}: `theirs` where they have written it themselves; None where there is none."""
    found = _all(connection, rater_id).get(project)
    return found if found and found["sentence"] else None


def is_off(connection: Connection, project: str, rater_id: str) -> bool:
    """Whether somebody has deleted theirs, so that none is made."""
    found = _all(connection, rater_id).get(project, {})
    return bool(found.get("theirs")) and not found["sentence"]


def wanted_since(connection: Connection, project: str, rater_id: str) -> float:
    """When somebody has answered last in a project, or let it be made again; 0 for who has done neither."""
    mine = (judgment.c.project == project, judgment.c.rater == rater_id)
    newest = connection.execute(select(func.max(judgment.c.created_at)).where(*mine)).scalar()
    found = _all(connection, rater_id).get(project, {"sentence": ""})
    return max(newest or 0.0, found["made_at"] if found["sentence"] is None else 0.0)


def outdated(
    connection: Connection, project: str, version: str, rater_id: str | None = None
) -> set[str]:
    """Pseudonyms of those whose profile is to be made of this version: they have answered since it was made, or it is
    of another one, or there is none; and they have neither written nor deleted it. Of all, or of one person."""
    newest = func.max(judgment.c.created_at).label("newest")
    query = select(rater.c.pseudonym, rater.c.settings, newest)
    query = query.join(judgment, judgment.c.rater == rater.c.id).group_by(rater.c.id)
    query = query.where(judgment.c.project == project, rater.c.role != "judge")
    if rater_id is not None:
        query = query.where(rater.c.id == rater_id)
    stale = set()
    for person in connection.execute(query):
        found = (person.settings or {}).get(KEY, {}).get(project, {})
        fresh = found.get("version") == version and found["made_at"] >= person.newest
        if not (found.get("theirs") or fresh):
            stale.add(person.pseudonym)
    return stale


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


def let(connection: Connection, project: str, rater_id: str) -> None:
    """It is made from their answers again, in place of what they have written or deleted."""
    _set(connection, project, rater_id, None, theirs=False)
    audit.record(connection, rater_id, "profile.let", project=project, rater=rater_id)


def forget(connection: Connection, project: str, rater_id: str) -> None:
    """What was found from answers goes when these are withdrawn; what they have written themselves stays."""
    if (found := of(connection, project, rater_id)) and not found["theirs"]:
        _set(connection, project, rater_id, None, theirs=False)


def keep(
    connection: Connection, project: str, told: Mapping[str, str], *, version: str, made_at: float
) -> int:
    """What was found of people in answers up to `made_at`, a sentence each by pseudonym; returns of how many it is
    kept: not of those who have written or deleted theirs, nor of judges."""
    kept = 0
    people = select(rater.c.id, rater.c.pseudonym).where(
        rater.c.pseudonym.in_(told), rater.c.role != "judge", rater.c.status != "gone"
    )
    for person in connection.execute(people).all():
        if not _all(connection, person.id).get(project, {}).get("theirs"):
            found = {"sentence": told[person.pseudonym][:MOST], "theirs": False}
            _put(connection, project, person.id, found | {"made_at": made_at, "version": version})
            kept += 1
    return kept


def _all(connection: Connection, rater_id: str) -> dict[str, Any]:
    settings = connection.execute(select(rater.c.settings).where(rater.c.id == rater_id)).scalar()
    return (settings or {}).get(KEY, {})


def _set(
    connection: Connection, project: str, rater_id: str, sentence: str | None, *, theirs: bool
) -> None:
    profile = {"sentence": sentence, "theirs": theirs, "made_at": now(connection)}
    _put(connection, project, rater_id, profile)


def _put(connection: Connection, project: str, rater_id: str, profile: dict[str, Any]) -> None:
    mine = rater.c.id == rater_id
    settings = connection.execute(
        select(rater.c.settings).where(mine).with_for_update()
    ).scalar_one()
    profiles = settings.get(KEY, {}) | {project: profile}
    changed = rater.update().where(mine).values(settings=settings | {KEY: profiles})
    connection.execute(changed)
