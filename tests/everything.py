"""A workspace with a row in every table, for tests of what must take all of them along."""

from __future__ import annotations

from typing import Any

from heedful.store.database import limits
from heedful.store.database.db import Store
from heedful.store.exports import hooks, snapshot
from heedful.store.kinds import KINDS, SCREEN
from heedful.store.membership import access, identities, members, people
from heedful.store.project import consent, content, critiques, projects, suggestions
from heedful.store.rating import judging, plays, talk, trials
from heedful.store.tables import schema
from heedful.store.tables.asking import own_response
from heedful.types import Message
from workspace import answer, claim, expire_lease, make_project, make_rater, make_task

QUESTIONS = [{"name": "better", "kind": "pair"}, {"name": "why", "kind": "note"}]
NASTY = "a\x00b\x1a\ud800\u202e e\u0301 \x1a0041 'x'; --"


def fill(store: Store) -> str:
    """Returns the project's id."""
    project = make_project(store, NASTY, models=["a", "b"], cost_per_hour=12.5)
    with store.write() as connection:
        for body in ("Be kind.", NASTY):
            projects.write_guidelines(connection, project, body, actor=None)
        owner = people.accept(
            connection, people.invite(connection, "owner", actor=None), login="o@e.org",
            password_hash="$argon2id$none", name=NASTY,
        )  # fmt: skip
        people.invite(connection, "lead", actor=owner)
        people.begin_session(connection, owner)
        access.remember_device(connection, owner, None)
        identities.link(connection, identities.Claims("https://e.org", NASTY), owner)
        access.make_link(connection, owner, actor=owner)
        people.make_token(connection, owner, "script", ("read",), days=3)
        limits.take_all(connection, [("login:\u00e9", limits.ADDRESS)])
        hooks.add(connection, project, "https://example.org/hook", actor=owner)
        group = members.make_group(connection, NASTY, actor=owner)
        members.join(connection, group, owner, actor=owner)
        members.give(connection, project, group, "reviewer", actor=owner)
        members.change(connection, project, owner, actor=owner, role="lead")
        first = content.add_run(
            connection, project, "sft", "runs/sft", {"lr": 1e-3}, seed=2**31 - 1
        )
        second = content.add_run(connection, project, "dpo", "runs/dpo", {}, parent=first)
        checkpoint = content.add_checkpoint(connection, "runs/dpo", "0" * 64, run=second, step=7)
        prompt = content.add_prompt(
            connection,
            project,
            (Message("user", NASTY),),
            source="x.jsonl",
            licence="CC0",
            language="en",
        )
        written = [
            content.add_completion(
                connection, prompt, text, checkpoint=checkpoint, model=NASTY, token_ids=[1, 2],
                logprobs=[-0.1, -1e-300], sampling={"temperature": 0.7}, seed=5, finish_reason="stop",
                engine="torch",
            )
            for text in (NASTY, "Hoo.")
        ]  # fmt: skip
        content.add_demonstration(connection, prompt, NASTY, source="d.jsonl")
        gold = {"ranks": {written[0]: 1, written[1]: 2}}
        content.add_task(connection, project, "pair", prompt, written, gold=gold, propensity=0.1)
        pair = content.add_task(connection, project, "pair", prompt, written, overlap=2, score=1.5)
        content.add_task(connection, project, "pair", prompt, written[::-1], swap_of=pair)
    for name, kind in KINDS.items():
        texts = [f"{letter}: some words" for letter in "abcdefgh"[: kind.responses[0]]]
        make_task(store, project, name, texts, name, options=kind.example_options)
    make_task(store, project, SCREEN, ["a: words", "b: words"], options={"questions": QUESTIONS})
    with store.write() as connection:
        asked, _ = suggestions.wanted(connection, project, NASTY, "a1b2")
        suggestions.add(connection, project, NASTY, "a1b2", {asked[-1]: [1, 2]})
        of = {task: [NASTY] * 2 for task in critiques.wanted(connection, project, NASTY, "")[-1:]}
        critiques.add(connection, project, NASTY, "", of)
        shown = {"suggestions": NASTY, "suggestions_hidden": 0.5}
        shown |= {"critiques": NASTY, "critiques_hidden": 0.0}
        drawn = {"order": "priority", "order_by_chance": 0.5}
        projects.change(connection, project, shown | drawn, actor=None)
        own = {"task": asked[-1], "rater": owner}
        connection.execute(own_response.insert().values(own))
        version = consent.write(connection, project, NASTY, actor=None)
        consent.agree(connection, project, owner, version or "")
        consent.withdraw(connection, project, owner, actor=owner)
        consent.write(connection, project, "", actor=None)
    _answered(store, project)
    _tried(store, project)
    snapshot.take(store, project, snapshot.Query("rankings"))
    return project


def _answered(store: Store, project: str) -> None:
    """Each kind answered and corrected; then one question given back, one skipped, one flagged."""
    rater, other = make_rater(store, daily_limit=1000), make_rater(store, "lead")
    while assignment := claim(store, project, rater):
        with store.read() as connection:
            table = schema.assignment.join(
                schema.task, schema.task.c.id == schema.assignment.c.task
            )
            kind = (
                connection.execute(
                    schema.task.select()
                    .select_from(table)
                    .where(schema.assignment.c.id == assignment)
                )
                .one()
                .kind
            )
        if kind == "chat":
            with store.write() as connection:
                said = [{"text": t, "model": "m", "seed": 1} for t in ("x", NASTY)]
                talk.offer(connection, assignment, rater, 0, NASTY, said)
                talk.choose(connection, assignment, rater, 0, 0.5)
        if kind == "probe":
            with store.write() as connection:
                said = [{"text": NASTY, "model": "m", "seed": 1}]
                talk.offer(connection, assignment, rater, 0, NASTY, said)
        if kind == "play":
            played = [{"role": "assistant", "content": NASTY}]
            play = {"text": NASTY, "messages": played, "tools": [], "episode": {"whole": True}}
            with store.write() as connection:
                led = {"text": NASTY, "play": play}
                plays.keep(connection, assignment, rater, 0, NASTY, led)
        if kind == SCREEN:
            with store.write() as connection:
                judging.ask_critique(connection, assignment, rater, 0)
        for comment in ("", NASTY):
            said = _said(kind, comment)
            answer(store, assignment, rater, said)
    for said in (None, {"skip": NASTY}, {"flag": NASTY}):
        if assignment := claim(store, project, other):
            if said:
                answer(store, assignment, other, said)
            else:
                with store.write() as connection:
                    expire_lease(connection, assignment)


def _said(kind: str, comment: str) -> dict[str, Any]:
    if kind == SCREEN:
        return {q["name"]: _said(q["kind"], comment) for q in QUESTIONS}
    return KINDS[kind].example | ({KINDS[kind].comment: comment} if comment else {})


def _tried(store: Store, project: str) -> None:
    """A qualification of one question, which somebody has passed; and a gold answer that is explained."""
    with store.write() as connection:
        projects.change(connection, project, {"qualification_questions": 1}, actor=None)
        gold = schema.task.select().where(schema.task.c.is_gold)
        trials.explain(connection, [(connection.execute(gold).one().id, NASTY)])
    rater = make_rater(store)
    assignment = claim(store, project, rater)
    assert assignment
    answer(store, assignment, rater, {"tie": True})
    with store.write() as connection:
        projects.change(connection, project, {"qualification_questions": 0}, actor=None)
        invited = schema.invitation.select().where(schema.invitation.c.used_by.is_(None))
        row = {
            "invitation": connection.execute(invited).one().id,
            "name": NASTY,
            "email": "x@e.org",
        }
        connection.execute(schema.invitation_pii.insert().values(**row))


def guarded(store: Store) -> None:
    """Every table of IMMUTABLE has its triggers, and no other."""
    query = (
        "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        if store.dialect == "sqlite"
        else "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
    )
    with store.read() as connection:
        found = set(connection.exec_driver_sql(query).scalars())
    wanted = {f"immutable_{t.name}_{a}" for t in schema.IMMUTABLE for a in ("update", "delete")}
    assert found == wanted
