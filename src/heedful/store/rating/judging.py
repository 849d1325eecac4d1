"""Storing judgments, each exactly once: submissions, corrections, skips and flags."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

from sqlalchemy import Connection, Row, Select, Table, bindparam, func, select

from heedful.errors import UserError
from heedful.store.database import audit
from heedful.store.database.bulk import insert_all
from heedful.store.database.db import new_id, new_ids, now
from heedful.store.database.prepared import prepared
from heedful.store.kinds import UNANSWERED, Parsed, Question, kind_of, parse
from heedful.store.project import critiques, screens
from heedful.store.project.content import add_completion, add_demonstration, task_of
from heedful.store.project.records import texts
from heedful.store.rating import asides, probing, trials
from heedful.store.tables.columns import Json, canonical, sha256
from heedful.store.tables.schema import (
    assignment,
    critique,
    edit,
    judgment,
    offer,
    question_answer,
    ranking_item,
    rule_flag,
    score,
    task_slot,
    turn,
    webhook,
    webhook_delivery,
)

PLAYED = "play"  # the engine of a response that somebody has played in an environment


class Conflict(Exception):
    """The idempotency key has been used for something else."""


@dataclass(frozen=True)
class Receipt:
    """What the rater's page gets back, after the commit."""

    judgment: str
    revision: int
    disposition: str
    replayed: bool = False


def submit(
    connection: Connection,
    assignment_id: str,
    rater_id: str,
    answer: dict[str, Any],
    *,
    key: str,
    active_ms: int | None = None,
    wall_ms: int | None = None,
    client_at: float | None = None,
    ui_version: str | None = None,
    partly: bool = False,
) -> Receipt:
    """Keep an answer, with its parts, its slot and its audit event, in the caller's write transaction.

    The same key and body again returns the first receipt; another body raises `Conflict`. A second answer to the
    same assignment is a correction, which supersedes the first; so is an answer to a task that was skipped. An answer
    after the lease is `late` if the slot is still free and fills it; if somebody else has it, the answer is `surplus`.
    Neither is ever dropped. `partly`: required questions of a screen may be left out.
    """
    if not key or len(key) > 64:
        raise UserError("an idempotency key of 1 to 64 characters is needed")
    request = _request(assignment_id, canonical(answer))
    lease = assignment_of(connection, assignment_id, rater_id, lock=True)
    if receipt := _replayed(connection, rater_id, key, request):
        return receipt
    task_row = task_of(connection, lease.task).one()
    shown = [task_row.completions[i] for i in lease.order_shown]
    question = Question(task_row.options, shown, lambda: _lengths(connection, shown))
    parsed = screens.parse(task_row.kind, task_row.options, question, answer, partly=partly)
    if parsed.turns and parsed.turns != _turns(connection, assignment_id):
        raise UserError(f"the conversation has not {parsed.turns} turns")
    if parsed.turns and kind_of(task_row.kind).plays:
        played = _played(connection, assignment_id, task_row.prompt, rater_id)
        parsed = replace(parsed, demonstration=played)
    timestamp = now(connection)
    last = latest(connection, assignment_id)
    corrected = _corrected(last, parsed.outcome)
    disposition = corrected.disposition if corrected else _disposition(connection, lease, timestamp)
    row = _row(
        parsed,
        id=new_id(),
        assignment=assignment_id,
        task=task_row.id,
        project=task_row.project,
        rater=rater_id,
        revision=last.revision + 1 if last else 1,
        supersedes=last.id if last else None,
        said=answer,
        disposition=disposition,
        active_ms=active_ms,
        wall_ms=wall_ms,
        client_at=client_at,
        ui_version=ui_version,
        idempotency_key=key,
        request_sha256=request,
        created_at=timestamp,
    )
    insert_all(connection, judgment, [row])
    _parts(connection, row["id"], task_row, parsed, rater_id, assignment_id)
    events = ["judgment"]
    if not corrected and disposition != "surplus":
        if parsed.outcome not in UNANSWERED:
            _fill(connection, lease, row["id"])
        elif asides.decline(connection, lease, task_row, parsed.outcome) == "alert":
            events.append("alert")
    if task_row.is_gold:
        trials.answered(connection, assignment_id)
    about = {"judgment": row["id"], "revision": row["revision"], "disposition": disposition}
    audit.record(connection, rater_id, "judgment", **about, request=request)
    _notify(connection, task_row.project, [row["id"]], timestamp, events)
    return Receipt(row["id"], row["revision"], disposition)


class First(NamedTuple):
    """The first answer to an assignment that was made for it, as those in a file are."""

    assignment: str
    task: str
    rater: str
    kind: str
    shown: Sequence[str]  # ids of completions, in their order on the screen
    answer: dict[str, Any]
    key: str
    active_ms: int | None = None
    client_at: float | None = None


def keep_all(
    connection: Connection, project: str, answers: Sequence[First], *, ui_version: str
) -> list[str]:
    """Keep many answers at once, each of them counted; returns their ids. The caller writes assignments and slots."""
    timestamp, kept = now(connection), cast(Json, judgment.c.said.type)
    rows, events = [], []
    first_of_all = {"revision": 1, "disposition": "counted"}
    children: dict[Table, list[dict[str, Any]]] = defaultdict(list)
    for key, first in zip(new_ids(len(answers)), answers, strict=True):
        parsed = parse(first.kind, Question({}, first.shown, lambda: []), first.answer)
        said = kept.encoded(first.answer)
        request = _request(first.assignment, said)
        row = _row(
            parsed,
            id=key,
            assignment=first.assignment,
            task=first.task,
            rater=first.rater,
            said=said,
            active_ms=first.active_ms,
            client_at=first.client_at,
            idempotency_key=first.key,
            request_sha256=request,
        )
        rows.append(row)
        for table, parts in _children(parsed).items():
            children[table] += ({"judgment": key, "place": i, **r} for i, r in enumerate(parts))
        about = {"judgment": key, **first_of_all, "request": request}
        events.append((first.rater, "judgment", about))
    same = {"project": project, "ui_version": ui_version, "created_at": timestamp, **first_of_all}
    insert_all(connection, judgment, rows, **same)
    for table, parts in children.items():
        insert_all(connection, table, parts)
    audit.record_all(connection, events)
    ids = [row["id"] for row in rows]
    _notify(connection, project, ids, timestamp)
    return ids


def _row(parsed: Parsed, **columns: Any) -> dict[str, Any]:
    """A row of `judgment`."""
    columns["outcome"], columns["text"] = parsed.outcome, parsed.text
    columns["strength"], columns["confidence"] = parsed.strength, parsed.confidence
    return columns


def _request(assignment_id: str, answer: str) -> str:
    """sha256 of what was sent, with the answer as canonical JSON, by which it is known when it is sent again."""
    return sha256(f'{{"answer":{answer},"assignment":{canonical(assignment_id)}}}')


def ask_critique(connection: Connection, assignment_id: str, rater_id: str, place: int) -> str:
    """What a model says against the response at this place on the rater's screen; that they asked is recorded."""
    return critiques.ask(
        connection, assignment_of(connection, assignment_id, rater_id, lock=True), place
    )


def _replayed(connection: Connection, rater_id: str, key: str, request: str) -> Receipt | None:
    """The receipt that this key was given before; `Conflict` if that was for something else."""
    before = _by_key(connection, rater_id, key).first()
    if before is None:
        return None
    if before.request_sha256 != request:
        raise Conflict("this idempotency key was used for another answer")
    return Receipt(before.id, before.revision, before.disposition, replayed=True)


def _corrected(last: Row | None, outcome: str) -> Row | None:
    """The judgment whose place in the slot a correction keeps; None where there is none, or only a skip, which fills
    no slot."""
    if last is None or (last.outcome == "skip" and outcome not in UNANSWERED):
        return None
    if (outcome in UNANSWERED) != (last.outcome in UNANSWERED):
        raise UserError(
            "a task that was flagged cannot be answered any more, nor one that was answered be skipped or flagged"
        )
    return last


def assignment_of(
    connection: Connection, assignment_id: str, rater_id: str, *, lock: bool = False
) -> Row:
    """The rater's assignment; somebody else's does not exist for them. `lock`: until the transaction ends."""
    row = (_locked if lock else _assignment)(connection, assignment_id, rater_id).first()
    if row is None:
        raise UserError("there is no such assignment")
    return row


def latest(connection: Connection, assignment_id: str) -> Row | None:
    """The answer that counts."""
    return _newest(connection, assignment_id).first()


@prepared
def _newest(assignment_id: str) -> Select:
    j = judgment.c
    return (
        select(judgment).where(j.assignment == assignment_id).order_by(j.revision.desc()).limit(1)
    )


@prepared
def _by_key(rater_id: str, key: str) -> Select:
    return select(judgment).where(judgment.c.rater == rater_id, judgment.c.idempotency_key == key)


@prepared
def _assignment(assignment_id: str, rater_id: str) -> Select:
    a = assignment.c
    return select(assignment).where(a.id == assignment_id, a.rater == rater_id)


@prepared
def _locked(assignment_id: str, rater_id: str) -> Select:
    a = assignment.c
    theirs = select(assignment).where(a.id == assignment_id, a.rater == rater_id)
    return theirs.with_for_update()


def _disposition(connection: Connection, lease: Row, timestamp: float) -> str:
    if lease.state == "active" and timestamp <= lease.leased_until:
        return "counted"
    slot = connection.execute(
        select(task_slot.c.state)
        .where(task_slot.c.task == lease.task, task_slot.c.slot == lease.slot)
        .with_for_update()
    ).scalar()
    if lease.state == "active":  # the lease is over, but `work.expire` has not run since
        return "late"
    if lease.state not in ("expired", "skipped") or slot not in ("open", "parked", "closed"):
        return "surplus"
    return "counted" if timestamp <= lease.leased_until else "late"


def _fill(connection: Connection, lease: Row, judgment_id: str) -> None:
    connection.execute(FILLED, {"of": lease.task, "at": lease.slot, "by": judgment_id})
    connection.execute(DONE, {"of": lease.id})


FILLED = (
    task_slot.update()
    .where(task_slot.c.task == bindparam("of"), task_slot.c.slot == bindparam("at"))
    .values(state="done", judgment=bindparam("by"))
)
DONE = assignment.update().where(assignment.c.id == bindparam("of")).values(state="done")


def _parts(
    connection: Connection,
    judgment_id: str,
    task_row: Row,
    parsed: Parsed,
    rater_id: str,
    assignment_id: str,
) -> None:
    """The children of a judgment; an edit and a written response become demonstrations."""
    parts: dict[Table, list[dict[str, Any]]] = defaultdict(list)
    for name, kind, one in parsed.answers or (("", task_row.kind, parsed),):
        rows, text = _children(one), one.demonstration
        if one.edit:
            original, text = one.edit
            rows |= _edited(connection, task_row.prompt, original, text, rater_id)
        if one.verdicts:
            told = probing.verdicts(connection, assignment_id, task_row, one.verdicts)
            rows[rule_flag] = told
        if parsed.answers:
            columns = ("outcome", "strength", "confidence", "text")
            said = {"kind": kind} | {column: getattr(one, column) for column in columns}
            rows[question_answer] = [said]
        for table, new in rows.items():
            parts[table] += ({**row, "question": name} for row in new)
        if text is not None:
            of = {"judgment": judgment_id, "question": name}
            add_demonstration(connection, task_row.prompt, text, **of)
    for table, rows in parts.items():
        numbered = [{"judgment": judgment_id, "place": i, **row} for i, row in enumerate(rows)]
        insert_all(connection, table, numbered)


def _edited(
    connection: Connection, prompt: str, original: str, text: str, rater_id: str
) -> dict[Table, list[dict[str, Any]]]:
    """Rows of an edit, which beats what it was made from."""
    if texts(connection, [original])[original] == text:
        raise UserError("the edited response is the same as before; change it, or skip the task")
    edited = add_completion(connection, prompt, text, author=rater_id)
    ranks = [{"completion": edited, "rank": 1}, {"completion": original, "rank": 2}]
    return {edit: [{"completion": original, "edited": edited}], ranking_item: ranks}


def _played(connection: Connection, assignment_id: str, prompt: str, rater_id: str) -> str:
    """The text of a play that is over. It is kept as a response, too, so that it can be compared with another."""
    theirs = select(offer.c.candidates).where(offer.c.assignment == assignment_id)
    (led,) = connection.execute(theirs.order_by(offer.c.place.desc()).limit(1)).scalar_one()
    if (play := led.get("play")) is None:
        raise UserError("this play is not over yet")
    how = {"author": rater_id, "engine": PLAYED, "sampling": {"episode": play["episode"]}}
    add_completion(connection, prompt, play["text"], **how)
    return play["text"]


def _children(parsed: Parsed) -> dict[Table, list[dict[str, Any]]]:
    """Rows of what an answer consists of, but for texts that are written."""
    parts: dict[Table, list[dict[str, Any]]] = {}
    if parsed.ranks:
        parts[ranking_item] = [{"completion": c, "rank": r} for c, r in parsed.ranks]
    if parsed.scores:
        parts[score] = [{"completion": c, "axis": a, "value": v} for c, a, v in parsed.scores]
    if parsed.rules:
        parts[rule_flag] = [{"completion": c, "rule": r, "verdict": v} for c, r, v in parsed.rules]
    if parsed.critiques:
        names = ("completion", "start", "end", "text")
        parts[critique] = [dict(zip(names, one, strict=True)) for one in parsed.critiques]
    return parts


def _lengths(connection: Connection, shown: list[str]) -> list[int]:
    words = texts(connection, shown)
    return [len(words[c]) for c in shown]


def _turns(connection: Connection, assignment_id: str) -> int:
    return connection.execute(
        select(func.count())
        .select_from(turn.join(offer, offer.c.id == turn.c.offer))
        .where(offer.c.assignment == assignment_id)
    ).scalar_one()


def _notify(
    connection: Connection,
    project: str,
    judgments: Sequence[str],
    timestamp: float,
    events: Sequence[str] = ("judgment",),
) -> None:
    hooks = _hooks(connection, project).scalars()
    common = {"state": "waiting", "attempts": 0, "due_at": timestamp}
    rows = [
        {"id": new_id(), "webhook": hook, "judgment": key, "event": event, **common}
        for hook in list(hooks)
        for key in judgments
        for event in events
    ]
    insert_all(connection, webhook_delivery, rows)


@prepared
def _hooks(project: str) -> Select:
    return select(webhook.c.id).where(webhook.c.project == project)
