"""What is judged: prompts, completions, demonstrations and tasks, each kept once, by the hash of its content."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from heedful import __version__
from heedful.errors import UserError
from heedful.store import projects
from heedful.store.columns import canonical
from heedful.store.db import insert, new_id, now
from heedful.store.kinds import check_options, kind_of
from heedful.store.schema import (
    checkpoint,
    completion,
    demonstration,
    gold_key,
    prompt,
    run,
    task,
    task_slot,
)
from heedful.types import Prompt
from heedful.types.messages import message_from_json, message_to_json

HELD_OUT = 10  # percent of prompts


def digest(value: Any) -> str:
    """sha256 of a JSON value, whichever the order of its keys."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def prompt_content(value: Prompt) -> str | list[dict[str, Any]]:
    """A prompt as the database keeps it: what a chat template is told besides stands with the first turn."""
    return value if isinstance(value, str) else [message_to_json(m) for m in value]


def prompt_from_content(value: str | list[dict[str, Any]]) -> Prompt:
    return value if isinstance(value, str) else tuple(map(message_from_json, value))


def split_of(value: Prompt) -> str:
    """train or held_out: a prompt stays on its side in every round and project, whoever imports it."""
    sha256 = digest(prompt_content(value))
    return "held_out" if int(sha256[:8], 16) % 100 < HELD_OUT else "train"


def add_prompt(
    connection: Connection,
    project: str,
    value: Prompt,
    *,
    source: str | None = None,
    licence: str | None = None,
    language: str | None = None,
) -> str:
    """The id of this prompt in the project."""
    content = prompt_content(value)
    sha256 = digest(content)
    return _once(
        connection,
        prompt,
        {"project": project, "sha256": sha256},
        content=content,
        split=split_of(value),
        source=source,
        licence=licence,
        language=language,
    )


def add_completion(
    connection: Connection,
    prompt_id: str,
    text: str,
    *,
    checkpoint: str | None = None,
    author: str | None = None,
    model: str | None = None,
    token_ids: Sequence[int] | None = None,
    logprobs: Sequence[float] | None = None,
    sampling: dict[str, Any] | None = None,
    seed: int | None = None,
    finish_reason: str | None = None,
    engine: str | None = None,
) -> str:
    """The id of this response with this origin: the same words of two models are two completions."""
    origin = {
        "checkpoint": checkpoint,
        "author": author,
        "model": model,
        "token_ids": list(token_ids) if token_ids is not None else None,
        "logprobs": list(logprobs) if logprobs is not None else None,
        "sampling": sampling,
        "seed": seed,
        "finish_reason": finish_reason,
        "engine": engine,
    }
    key = {"prompt": prompt_id, "sha256": digest({"text": text} | origin)}
    return _once(connection, completion, key, text=text, **origin)


def add_checkpoint(
    connection: Connection,
    path: str,
    sha256: str,
    *,
    run: str | None = None,
    step: int | None = None,
) -> str:
    """The id of a model's checkpoint; `sha256` is of its weights, tokenizer and chat template."""
    return _once(connection, checkpoint, {"sha256": sha256}, path=path, run=run, step=step)


def add_run(
    connection: Connection,
    project: str,
    kind: str,
    folder: str,
    config: dict[str, Any],
    *,
    seed: int | None = None,
    parent: str | None = None,
) -> str:
    """A finished training run, which checkpoints and so responses come from. `parent`: the run before it.

    The same run once more adds nothing.
    """
    same = (run.c.project == project, run.c.kind == kind, run.c.folder == folder)
    for row in connection.execute(select(run).where(*same)):
        if (row.config, row.seed, row.parent) == (config, seed, parent):
            return row.id
    return insert(
        connection,
        run,
        project=project,
        kind=kind,
        folder=folder,
        code_version=__version__,
        config=config,
        seed=seed,
        parent=parent,
    )


def add_demonstration(
    connection: Connection,
    prompt_id: str,
    text: str,
    *,
    judgment: str | None = None,
    source: str | None = None,
) -> str:
    """A response worth imitating, written by a rater (in a judgment) or imported."""
    sha256 = digest(text)
    if judgment is None:
        columns = demonstration.c
        existing = connection.execute(
            select(columns.id).where(
                columns.prompt == prompt_id, columns.sha256 == sha256, columns.judgment.is_(None)
            )
        ).scalar()
        if existing:
            return existing
    row = {"prompt": prompt_id, "sha256": sha256, "text": text, "source": source}
    return insert(connection, demonstration, judgment=judgment, **row)


def add_task(
    connection: Connection,
    project: str,
    kind: str,
    prompt_id: str,
    completions: Sequence[str] = (),
    *,
    options: dict[str, Any] | None = None,
    overlap: int = 1,
    strategy: str = "random",
    score: float | None = None,
    propensity: float | None = None,
    round: int = 0,
    gold: dict[str, Any] | None = None,
    swap_of: str | None = None,
) -> str:
    """The id of the question; asking the same in the same round again adds nothing.

    `gold` is the answer that a rater ought to give, {"ranks": {completion id: rank}}; gold questions are
    mixed in for every rater and have no overlap of their own.
    """
    minimum, maximum = kind_of(kind).responses
    if overlap < 1:
        raise UserError(f"the overlap must be at least 1, not {overlap}")
    if not minimum <= len(completions) <= maximum or len(set(completions)) != len(completions):
        number = minimum if minimum == maximum else f"{minimum} to {maximum}"
        raise UserError(f"a task of the kind {kind} shows {number} different responses")
    options = check_options(kind, options or {})
    question = {
        "kind": kind,
        "prompt": prompt_id,
        "completions": sorted(completions),
        "options": options,
        "round": round,
        "swap_of": swap_of,
    }
    guidelines = projects.guidelines(connection, project)
    inserted: list[str] = []
    key = _once(
        connection,
        task,
        {"project": project, "sha256": digest(question)},
        inserted=inserted,
        **{k: question[k] for k in ("kind", "prompt", "options", "round", "swap_of")},
        completions=list(completions),
        overlap=overlap,
        guideline_version=guidelines.id if guidelines else None,
        strategy=strategy,
        score=score,
        propensity=propensity,
        is_gold=gold is not None,
    )
    if not inserted:
        return key
    if gold is not None:
        connection.execute(gold_key.insert().values(task=key, answer=gold))
    elif swap_of is None:
        # The highest score is asked first; tasks without one come in an order of chance.
        position = -score if score is not None else random.random()
        connection.execute(
            task_slot.insert(),
            [
                {"task": key, "slot": i, "project": project, "state": "open", "position": position}
                for i in range(overlap)
            ],
        )
    return key


def _once(
    connection: Connection,
    table: Table,
    key: dict[str, Any],
    *,
    inserted: list[str] | None = None,
    **values: Any,
) -> str:
    """The id of the row with this key, inserted if there is none; `made` gets the id of a new one."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    row = {"id": new_id(), **key, **values, "created_at": now(connection)}
    statement = dialect.insert(table).values(**row).on_conflict_do_nothing().returning(table.c.id)
    if connection.execute(statement).scalar() is not None:
        if inserted is not None:
            inserted.append(row["id"])
        return row["id"]
    conditions = [table.c[name] == value for name, value in key.items()]
    return connection.execute(select(table.c.id).where(*conditions)).scalar_one()
