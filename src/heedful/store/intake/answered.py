"""Answers that were given elsewhere, as judgments of judges: many at once, each once."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, func, select

from heedful.store.database.bulk import MOST_KEYS, Overtaken, batches, insert_all
from heedful.store.database.db import new_ids, now
from heedful.store.project import content
from heedful.store.project.projects import settings_of
from heedful.store.rating import judging, work
from heedful.store.tables.schema import assignment, judgment, ranking_item, score, task, task_slot

# The place in the order of asking of a slot that comes with its answer: it is never asked. They have the same, and not
# 0, which stands for an answer that nobody wanted, so that the index grows at its end.
ANSWERED = 1.0


class Given(NamedTuple):
    """What a judge said of a question: a number for each completion, its rank or its thumb; None where it has none."""

    ask: content.Ask
    repetition: int  # the n-th such answer of a file belongs to round n or a later one
    judge: str
    values: dict[str, int | None]
    body: Callable[
        [Sequence[int | None]], dict[str, Any]
    ]  # as a page would send it, by values as shown
    order: Sequence[int] | None = None  # the places of `values` in the order shown; None: by chance
    active_ms: int | None = None
    client_at: float | None = None

    @property
    def said(self) -> dict[str, int]:
        """As the tables keep it."""
        return {c: value for c, value in self.values.items() if value is not None}


@dataclass
class _Task:
    """A question that is there, or is to be; `judged` has what each judge with an assignment has said."""

    ask: content.Ask
    id: str = ""
    completions: Sequence[str] = ()
    judged: dict[str, list[dict[str, int]]] = field(default_factory=dict)


def add(
    connection: Connection,
    project: str,
    given: Sequence[Given],
    *,
    new_prompts: Collection[str] = (),
) -> None:
    """Keep all that these judges have not said of the same question already, even if it was corrected since.

    `new_prompts` are those that this transaction has made, about which nobody can have been asked.
    """
    work.expire(connection, project, now(connection))
    tasks = _Tasks(connection, project, {one.judge for one in given}, new_prompts)
    tasks.read([_in_round(one.ask, one.repetition) for one in given])
    chosen = [(home, one) for one in given if (home := tasks.home_of(one))]
    new = list({id(home): home for home, _ in chosen if not home.id}.values())
    asks = [home.ask for home in new]
    absent = {ask.sha256 for ask in asks}
    told = content.add_tasks(connection, project, asks, slots=False, absent=absent)
    for home, (key, is_new) in zip(new, told, strict=True):
        if not is_new:
            raise Overtaken
        home.id = key
    slots = _taken_slots(connection, [home for home, _ in chosen], {id(home) for home in new})
    judgments = _judged(connection, project, chosen, slots)
    _filled(connection, project, chosen, slots, judgments, new)


def _in_round(ask: content.Ask, number: int) -> content.Ask:
    return ask if ask.round == number else replace(ask, round=number)


class _Tasks:
    """The questions of a batch by what they ask, with those that are only planned yet."""

    def __init__(
        self,
        connection: Connection,
        project: str,
        judges: Iterable[str],
        new_prompts: Collection[str],
    ):
        self._connection, self._project, self._judges = connection, project, list(judges)
        self._new_prompts = new_prompts
        self._known: dict[str, _Task] = {}

    def home_of(self, one: Given) -> _Task | None:
        """The question in the first round in which the judge has not had it; None if they said the same before."""
        for number in count(one.repetition):
            ask = _in_round(one.ask, number)
            if ask.sha256 not in self._known:
                self.read([ask])
            home = self._known[ask.sha256]
            earlier = home.judged.get(one.judge)
            if earlier is None:
                home.judged[one.judge] = [one.said]
                return home
            if one.said in earlier:
                return None

    def read(self, asks: Sequence[content.Ask]) -> None:
        """Look up which of the questions are there, and what the judges have said of them."""
        unknown = {ask.sha256: ask for ask in asks if ask.sha256 not in self._known}
        self._known |= {
            key: _Task(ask, completions=ask.completions) for key, ask in unknown.items()
        }
        by_id: dict[str, _Task] = {}
        may_be = [key for key, ask in unknown.items() if ask.prompt not in self._new_prompts]
        for part in batches(may_be, MOST_KEYS):
            columns = (task.c.id, task.c.sha256, task.c.completions)
            where = (task.c.project == self._project, task.c.sha256.in_(part))
            for row in self._connection.execute(select(*columns).where(*where)):
                home = by_id[row.id] = self._known[row.sha256]
                home.id, home.completions = row.id, row.completions
        for part in batches(list(by_id), MOST_KEYS):
            self._read_judged(part, by_id)

    def _read_judged(self, ids: Sequence[str], by_id: dict[str, _Task]) -> None:
        a, j = assignment.c, judgment.c
        theirs = (a.task.in_(ids), a.rater.in_(self._judges))
        for row in self._connection.execute(select(a.task, a.rater).where(*theirs)):
            by_id[row.task].judged[row.rater] = []
        for table, value in ((ranking_item, ranking_item.c.rank), (score, score.c.value)):
            query = (
                select(j.task, j.rater, j.id, table.c.completion, value.label("value"))
                .join(table, table.c.judgment == j.id)
                .where(j.task.in_(ids), j.rater.in_(self._judges))
            )
            said: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
            for row in self._connection.execute(query):
                said[row.task, row.rater, row.id][row.completion] = row.value
            for (task_id, rater, _), values in said.items():
                by_id[task_id].judged[rater].append(values)


def _taken_slots(
    connection: Connection, homes: Sequence[_Task], new: set[int]
) -> list[tuple[int, bool]]:
    """A slot for each answer, and whether it is there already: one that is open, or a new one beyond the overlap."""
    there = list({home.id: None for home in homes if id(home) not in new})
    free: dict[str, list[int]] = defaultdict(list)
    after: dict[str, int] = defaultdict(int)
    for part in batches(there, MOST_KEYS):
        s = task_slot.c
        is_open = (s.task.in_(part), s.state.in_(("open", "parked")))
        query = select(s.task, s.slot).where(*is_open).order_by(s.task, s.slot.desc())
        for row in connection.execute(query.with_for_update(skip_locked=True)):
            free[row.task].append(row.slot)
        # Who adds a slot to a task waits for who does likewise.
        connection.execute(select(task.c.id).where(task.c.id.in_(part)).with_for_update()).all()
        last = select(s.task, func.max(s.slot)).where(s.task.in_(part)).group_by(s.task)
        after.update({key: slot + 1 for key, slot in connection.execute(last)})
    slots = []
    for home in homes:
        if free.get(home.id):
            slots.append((free[home.id].pop(), True))
        else:
            slots.append((after[home.id], False))
            after[home.id] += 1
    return slots


def _judged(
    connection: Connection,
    project: str,
    chosen: Sequence[tuple[_Task, Given]],
    slots: Sequence[tuple[int, bool]],
) -> list[str]:
    """Write assignments and judgments; returns the judgments' ids."""
    timestamp, settings = now(connection), settings_of(connection, project)
    leases, answers, chance = [], [], random.Random()  # begun by the system's chance
    ids = new_ids(len(chosen))
    for key, (home, one), (slot, _) in zip(ids, chosen, slots, strict=True):
        places = list(range(len(home.completions)))
        if one.order is None:
            chance.shuffle(places)
        else:
            by_place = list(one.values)
            places = [home.completions.index(by_place[i]) for i in one.order]
        lease = {
            "id": key,
            "task": home.id,
            "slot": slot,
            "rater": one.judge,
            "order_shown": places,
        }
        leases.append(lease)
        shown = [home.completions[i] for i in places]
        answers.append(
            judging.First(
                key,
                home.id,
                one.judge,
                one.ask.kind,
                shown,
                one.body([one.values[c] for c in shown]),
                f"import {home.id}",  # of each judge once; in the order of time, as indices like it
                one.active_ms,
                one.client_at,
            )
        )
    until = timestamp + 60.0 * settings.lease_minutes
    how = {"project": project, "state": "done", "leased_at": timestamp, "leased_until": until}
    insert_all(connection, assignment, leases, **how)
    return judging.keep_all(connection, project, answers, ui_version="import")


def _filled(
    connection: Connection,
    project: str,
    chosen: Sequence[tuple[_Task, Given]],
    slots: Sequence[tuple[int, bool]],
    judgments: Sequence[str],
    new: Sequence[_Task],
) -> None:
    """Write the slots that the judgments fill, and those of new questions that wait for others."""
    done, updates, filled = [], [], defaultdict[str, int](int)
    mine = {home.id for home in new}
    for (home, _), (slot, there), key in zip(chosen, slots, judgments, strict=True):
        if there:
            updates.append({"of": home.id, "at": slot, "by": key})
            continue
        position = ANSWERED if home.id in mine else 0.0  # as store.work does
        done.append({"task": home.id, "slot": slot, "position": position, "judgment": key})
        filled[home.id] += 1
    insert_all(connection, task_slot, done, project=project, state="done")
    left = (content.open_slots(project, home.id, home.ask, first=filled[home.id]) for home in new)
    insert_all(connection, task_slot, list(chain.from_iterable(left)))
    if updates:
        s = task_slot.c
        this = (s.task == bindparam("of"), s.slot == bindparam("at"))
        connection.execute(
            task_slot.update().where(*this).values(state="done", judgment=bindparam("by")), updates
        )
