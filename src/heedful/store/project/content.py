"""What is judged: prompts, completions, demonstrations and tasks, each kept once, by the hash of its content."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Select, select

from heedful import __version__
from heedful.errors import UserError
from heedful.store.database.bulk import insert_all, once
from heedful.store.database.db import insert
from heedful.store.database.prepared import prepared
from heedful.store.kinds import KINDS
from heedful.store.project import projects, screens
from heedful.store.tables.columns import canonical, sha256
from heedful.store.tables.schema import (
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
ORIGIN = (
    "checkpoint",
    "author",
    "model",
    "token_ids",
    "logprobs",
    "sampling",
    "seed",
    "finish_reason",
    "engine",
)
NOWHERE: dict[str, Any] = dict.fromkeys(ORIGIN)


def digest(value: Any) -> str:
    """sha256 of a JSON value, whichever the order of its keys."""
    return sha256(canonical(value))


def prompt_content(value: Prompt) -> str | list[dict[str, Any]]:
    """A prompt as the database keeps it: what a chat template is told besides stands with the first turn."""
    return value if isinstance(value, str) else [message_to_json(m) for m in value]


def prompt_from_content(value: str | list[dict[str, Any]]) -> Prompt:
    return value if isinstance(value, str) else tuple(map(message_from_json, value))


def split_of(value: Prompt) -> str:
    """train or held_out: a prompt stays on its side in every round and project, whoever imports it."""
    return _split(digest(prompt_content(value)))


def _split(sha256: str) -> str:
    return "held_out" if int(sha256[:8], 16) % 100 < HELD_OUT else "train"


@dataclass(frozen=True)
class Origin:
    """Where prompts are from."""

    source: str | None = None
    licence: str | None = None
    language: str | None = None


def add_prompt(connection: Connection, project: str, value: Prompt, **origin: str | None) -> str:
    """The id of this prompt in the project; `origin` has the fields of `Origin`."""
    return add_prompts(connection, project, [(value, Origin(**origin))])[0]


def add_prompts(
    connection: Connection, project: str, items: Sequence[tuple[Prompt, Origin]]
) -> list[str]:
    """The ids of these prompts in the project."""
    return [key for key, _ in add_new_prompts(connection, project, items)]


def add_new_prompts(
    connection: Connection, project: str, items: Sequence[tuple[Prompt, Origin]]
) -> list[tuple[str, bool]]:
    """The ids of these prompts in the project, and which of them this transaction has made."""
    rows = []
    for value, origin in items:
        content = prompt_content(value)
        sha256 = digest(content)
        row = {"sha256": sha256, "content": content, "split": _split(sha256)}
        row |= {"source": origin.source, "licence": origin.licence, "language": origin.language}
        rows.append(row)
    return once(connection, prompt, ("project", "sha256"), rows, project=project)


def add_completion(connection: Connection, prompt_id: str, text: str, **origin: Any) -> str:
    """The id of this response with this origin, which `ORIGIN` names."""
    return add_completions(connection, [(prompt_id, text, origin)])[0]


def add_completions(
    connection: Connection,
    items: Sequence[tuple[str, str, Mapping[str, Any]]],
    *,
    new_prompts: Collection[str] = (),
) -> list[str]:
    """The ids of responses, each with its prompt's id, text and origin: the same words of two models are two.

    `new_prompts` are those that this transaction has made: nobody else can have answered them.
    """
    rows, last = [], None
    for prompt_id, text, known in items:
        if known is not last:
            origin, last = NOWHERE | dict(known), known
            before, behind = _around_text(origin)
        key = sha256(f"{before}{canonical(text)}{behind}")
        rows.append({"prompt": prompt_id, "sha256": key, "text": text, **origin})
    how = {"by": "prompt", "absent": new_prompts}
    return [key for key, _ in once(connection, completion, ("prompt", "sha256"), rows, **how)]


def _around_text(origin: Mapping[str, Any]) -> tuple[str, str]:
    """Canonical JSON of a response with this origin, before its text and behind it: its sha256 is of the whole."""
    if unknown := origin.keys() - NOWHERE.keys():
        raise TypeError(f"a response has no {', '.join(unknown)}")
    before = canonical({name: value for name, value in origin.items() if name < "text"})
    behind = canonical({name: value for name, value in origin.items() if name > "text"})
    return f'{before[:-1]},"text":', f",{behind[1:]}"


def add_checkpoint(
    connection: Connection,
    path: str,
    sha256: str,
    *,
    run: str | None = None,
    step: int | None = None,
) -> str:
    """The id of a model's checkpoint; `sha256` is of its weights, tokenizer and chat template."""
    row = {"sha256": sha256, "path": path, "run": run, "step": step}
    return once(connection, checkpoint, ("sha256",), [row])[0][0]


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
    question: str = "",
    source: str | None = None,
) -> str:
    """A response worth imitating, written by a rater (in a judgment, to a question of it) or imported."""
    row = {"prompt": prompt_id, "text": text, "source": source}
    if judgment is None:
        return add_demonstrations(connection, [row])[0]
    said = {"judgment": judgment, "question": question, "sha256": digest(text)}
    return insert(connection, demonstration, **said, **row)


def add_demonstrations(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The ids of imported ones, each with prompt (its id), text and source."""
    keyed = [{**row, "sha256": digest(row["text"])} for row in rows]
    imported = demonstration.c.judgment.is_(None)
    return [
        key
        for key, _ in once(
            connection, demonstration, ("prompt", "sha256"), keyed, imported, by="prompt"
        )
    ]


@dataclass(frozen=True)
class Ask:
    """A question to be: a row of `task`, with the ids of its prompt and completions.

    `gold` is the answer that a rater ought to give, {"ranks": {completion id: rank}}; gold questions are
    mixed in for every rater and have no overlap of their own.
    """

    kind: str
    prompt: str
    completions: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    overlap: int = 1
    strategy: str = "random"
    score: float | None = None
    propensity: float | None = None
    round: int = 0
    gold: Mapping[str, Any] | None = None
    swap_of: str | None = None

    def __post_init__(self) -> None:
        minimum, maximum = screens.limits(self.kind, self.options)
        number = len(self.completions)
        if self.overlap < 1:
            raise UserError(f"the overlap must be at least 1, not {self.overlap}")
        if not minimum <= number <= maximum or len(set(self.completions)) != number:
            most = minimum if minimum == maximum else f"{minimum} to {maximum}"
            raise UserError(f"a task of the kind {self.kind} shows {most} different responses")
        apart = self.kind in KINDS and KINDS[self.kind].apart
        if apart and len(self.checked[apart]) > 1:
            raise UserError(f"a task of the kind {self.kind} is about one of the {apart} alone")

    @cached_property
    def sha256(self) -> str:
        """What is asked: whichever the order of the responses, and however many answers are wanted."""
        return digest(
            {
                "kind": self.kind,
                "prompt": self.prompt,
                "completions": sorted(self.completions),
                "options": self.checked,
                "round": self.round,
                "swap_of": self.swap_of,
            }
        )

    @cached_property
    def checked(self) -> dict[str, Any]:
        """The options with the kind's defaults."""
        return screens.check_options(self.kind, dict(self.options or {}))


def add_task(
    connection: Connection,
    project: str,
    kind: str,
    prompt_id: str,
    completions: Sequence[str] = (),
    **how: Any,
) -> str:
    """The id of the question, see `Ask`; asking the same in the same round again adds nothing."""
    return add_tasks(connection, project, [Ask(kind, prompt_id, completions, **how)])[0][0]


@prepared
def task_of(task_id: str) -> Select:
    """A question by its id."""
    return select(task).where(task.c.id == task_id)


def add_tasks(
    connection: Connection,
    project: str,
    asks: Sequence[Ask],
    *,
    slots: bool = True,
    absent: Collection[str] = (),
) -> list[tuple[str, bool]]:
    """The ids of the questions, and which are new: these get open slots, unless the caller writes them.

    `absent` are the sha256 of questions that the caller has looked up, and not found, in this transaction.
    """
    guidelines = projects.guidelines(connection, project)
    rows = [
        {
            "sha256": ask.sha256,
            "kind": ask.kind,
            "prompt": ask.prompt,
            "completions": list(ask.completions),
            "options": ask.checked,
            "overlap": ask.overlap,
            "strategy": ask.strategy,
            "score": ask.score,
            "propensity": ask.propensity,
            "round": ask.round,
            "is_gold": ask.gold is not None,
            "swap_of": ask.swap_of,
        }
        for ask in asks
    ]
    same = {"project": project, "guideline_version": guidelines.id if guidelines else None}
    told = once(connection, task, ("project", "sha256"), rows, absent=absent, **same)
    new = [(key, ask) for (key, is_new), ask in zip(told, asks, strict=True) if is_new]
    gold = [{"task": key, "answer": dict(ask.gold)} for key, ask in new if ask.gold is not None]
    insert_all(connection, gold_key, gold)
    if slots:
        made = (open_slots(project, key, ask) for key, ask in new)
        insert_all(connection, task_slot, list(chain.from_iterable(made)))
    return told


def open_slots(project: str, key: str, ask: Ask, *, first: int = 0) -> Iterator[dict[str, Any]]:
    """Slots of a new question that wait for an answer. Gold questions and repetitions have none of their own."""
    if ask.gold is None and ask.swap_of is None:
        common = {"task": key, "project": project, "state": "open", "position": position_of(ask)}
        yield from ({**common, "slot": i} for i in range(first, ask.overlap))


def position_of(ask: Ask) -> float:
    """The highest score is asked first; tasks without one come in an order of chance."""
    return -ask.score if ask.score is not None else random.random()


def in_short(kind: str, options: Mapping[str, Any], content: str | list[dict[str, Any]]) -> str:
    """What a question is about, for lists: the last turn of its prompt, and what of its options it asks alone."""
    apart = kind in KINDS and KINDS[kind].apart
    words = (
        [*own_text(content)[-1:], *(one["text"] for one in options[apart])]
        if apart
        else own_text(content)[-1:]
    )
    return "\n".join(filter(None, words))


def own_text(content: str | list[dict[str, Any]]) -> list[str]:
    """The words of a prompt, turn by turn."""
    return [content] if isinstance(content, str) else [str(turn["content"]) for turn in content]
