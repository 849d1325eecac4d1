"""Where the most telling question is asked first, some are drawn by chance all the same, and with which probability
each came to be asked is kept: only so can agreement, or a model, be measured without bias on what was asked."""

from __future__ import annotations

import random
from dataclasses import dataclass

from sqlalchemy import Connection, Row, func, select

from heedful.store.project.projects import Settings
from heedful.store.rating.queue import OPEN, had, shows_own
from heedful.store.tables.asking import own_response
from heedful.store.tables.schema import assignment, question_drawn, task_slot


@dataclass(frozen=True)
class Drawn:
    """The slot that is asked, whether chance chose it, and with which probability its question came next."""

    slot: Row
    by_chance: bool = False
    propensity: float | None = None  # nobody asks


def drawn(
    connection: Connection,
    project: str,
    rater_id: str,
    best: Row,
    settings: Settings,
    rng: random.Random,
) -> Drawn:
    """By priority, with a chance of `order_by_chance` any slot that is left for this rater; else `best`."""
    share = settings.order_by_chance
    if settings.order != "priority" or not share:
        return Drawn(best)
    s, a, o = task_slot.c, assignment.c, own_response.c
    still_open = (s.project == project, s.state == OPEN)
    # Counts by an index each: one that asks of every open slot whether the rater has had it would search for each.
    number = select(func.count()).select_from(task_slot)
    given = number.join(assignment, a.task == s.task).where(*still_open, a.rater == rater_id)
    own = number.join(own_response, o.task == s.task).where(*still_open, o.rater == rater_id)
    left = connection.execute(number.where(*still_open)).scalar_one()
    left -= connection.execute(given).scalar_one()
    left -= connection.execute(own.where(~had(s.task, rater_id))).scalar_one()
    slot, by_chance = best, rng.random() < share
    if by_chance:
        some = select(s.task, s.slot).where(*still_open)
        some = some.where(~had(s.task, rater_id), ~shows_own(s.task, rater_id))
        some = some.order_by(s.position, s.task, s.slot).offset(rng.randrange(left)).limit(1)
        any_left = connection.execute(some.with_for_update(skip_locked=True, of=task_slot)).first()
        # What others hold at this moment is passed over, so that there may be none so far on.
        slot, by_chance = any_left or best, any_left is not None
    same = connection.execute(number.where(*still_open, s.task == slot.task)).scalar_one()
    propensity = share * same / left + (1 - share) * (slot.task == best.task)
    return Drawn(slot, by_chance, propensity)


def keep(connection: Connection, assignment_id: str, draw: Drawn) -> None:
    """How the question of this assignment came to be asked."""
    if draw.propensity is None:
        return
    row = {"assignment": assignment_id, "by_chance": draw.by_chance, "propensity": draw.propensity}
    connection.execute(question_drawn.insert().values(**row))
