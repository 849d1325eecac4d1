"""What a round of `heedful iterate` learns from: its answers, frozen; those of earlier sources; each judgment once.

What is held out (by the workspace, or as prompts of the evaluation) is asked about and measured on, never trained on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from heedful.data.comparisons import comparison_of
from heedful.data.files import write_rows
from heedful.data.reading import read_table
from heedful.data.sources import prompt_columns, prompt_of
from heedful.errors import UserError
from heedful.store.database.db import Store
from heedful.store.intake import imported
from heedful.store.lead import rounds
from heedful.store.project import consent
from heedful.store.project.content import HELD_OUT, prompt_from_content, split_of
from heedful.transfer.sources import materialise
from heedful.types import Comparison, Facts, Prompt, without_gaps

HeldOut = Callable[[Prompt], bool]
WHY = f"{HELD_OUT} % of all prompts are, by their hash, and those of the evaluation"
ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # as `store.db.new_id` makes them


@dataclass(frozen=True)
class Round:
    """A round's frozen answers, and the tasks that they are about."""

    comparisons: Path
    tasks: Sequence[str]


def held_out_with(evaluated: Collection[Prompt]) -> HeldOut:
    """Whether a prompt is held out by the workspace, or is one of these."""
    return lambda prompt: prompt in evaluated or split_of(prompt) == "held_out"


def freeze(store: Store, project: str, done: Round, held_out: HeldOut) -> None:
    """Write all answers to the round's tasks, so that training reads the same while rating goes on."""
    name = done.comparisons.parent.name
    rows = store.in_read(lambda connection: rounds.comparisons(connection, project, done.tasks))
    usable = [row for row in rows if len(set(row["ranking"])) > 1]
    if not usable:
        raise UserError(f"{name}: no answer prefers one response to another; ask more")
    if all(held_out(prompt_from_content(row["prompt"])) for row in usable):
        raise UserError(
            f"{name}: all {len(usable)} answers that prefer a response are about held-out prompts ({WHY}), so "
            "there is nothing to learn from; ask more"
        )
    write_rows(done.comparisons, [{k: v for k, v in r.items() if v is not None} for r in rows])


def merge(
    store: Store,
    kept: Sequence[str],
    done: Sequence[Round],
    held_out: HeldOut,
    *,
    train: Path,
    evaluation: Path,
) -> None:
    """Write the rows of `kept` and then of the rounds to `train`, those about held-out prompts to `evaluation`.

    What its rater has withdrawn since counts nowhere. Where several sources hold a judgment, the round's counts, or
    else the first. A judgment and its corrections are one; so are a plain file's row and the judgment that it was
    imported as. What one source says twice was said twice. `evaluation` is not written where nothing in it prefers one
    response to another.
    """
    items = _each_once(store, [_items(materialise(s, "rankings", split="all")) for s in kept], done)
    parts: dict[bool, list[_Item]] = {True: [], False: []}
    for item in items:
        parts[held_out(item.comparison.prompt)].append(item)
    if any(len(set(item.comparison.ranking)) > 1 for item in parts[True]):
        write_rows(evaluation, (item.row for item in parts[True]))
    write_rows(train, (item.row for item in parts[False]))


def train_prompts(
    source: str | Sequence[tuple[Prompt, Facts]], target: Path, held_out: HeldOut
) -> str:
    """Write the prompts of a file, or an environment's tasks, that a policy may practise on, once; returns the path."""
    if not target.exists():
        tasks = () if isinstance(source, str) else source
        rows = (
            read_table(source)
            if isinstance(source, str)
            else (("", {**prompt_columns(prompt), **facts}) for prompt, facts in tasks)
        )
        write_rows(target, (row for where, row in rows if not held_out(prompt_of(where, row))))
    return str(target)


@dataclass(frozen=True)
class _Item:
    row: dict[str, Any]
    comparison: Comparison
    judgment: str | None  # its id in a database; none: a plain file's

    @property
    def content(self) -> Hashable:
        """Who preferred what, however the ranks were numbered."""
        c = self.comparison
        ranked = frozenset(zip(c.responses, without_gaps(c.ranking), strict=True))
        return c.rater or imported.ANONYMOUS, c.prompt, ranked


def _items(source: str | Path) -> list[_Item]:
    items = []
    for where, row in read_table(source):
        key = row.get("judgment")
        stored = isinstance(key, str) and ID.fullmatch(key)
        items.append(_Item(row, comparison_of(where, row), key if stored else None))
    return items


def _each_once(store: Store, earlier: list[list[_Item]], done: Sequence[Round]) -> list[_Item]:
    ours = [_items(r.comparisons) for r in done]
    said = [i.judgment for items in (*earlier, *ours) for i in items if i.judgment]
    gone = store.in_read(lambda connection: consent.taken_back(connection, said))
    ours, earlier = (
        [[i for i in items if i.judgment not in gone] for items in lists]
        for lists in (ours, earlier)
    )
    stored = [i for items in (*earlier, *ours) for i in items if i.judgment]
    # Rounds that were frozen before rows named their judgments stand for all answers to their tasks.
    nameless = [
        task
        for r, items in zip(done, ours, strict=True)
        if not all(i.judgment for i in items)
        for task in r.tasks
    ]

    def known_to_the_database(connection: Connection) -> tuple[dict[str, str], set[str]]:
        given = rounds.assignments(connection, judgments=[i.judgment or "" for i in stored])
        return given, set(rounds.assignments(connection, tasks=nameless).values())

    given, taken = store.in_read(known_to_the_database)

    def identities(items: Sequence[_Item]) -> set[str]:
        return {given.get(i.judgment, i.judgment) for i in items if i.judgment}

    last = [i for items in ours for i in items]
    taken |= identities(last)
    known = {i.content for i in stored}
    chosen: list[_Item] = []
    for items in earlier:
        new = [
            i
            for i in items
            if (i.content not in known if i.judgment is None else not identities([i]) & taken)
        ]
        taken |= identities(new)
        chosen += new
    return chosen + last
