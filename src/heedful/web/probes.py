"""How often those who tried have made a model break a rule, by rule and model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, select

from heedful.evals.ratings import clusters_of, share_of
from heedful.store.database.bulk import batches
from heedful.store.kinds import KINDS
from heedful.store.lead.quality import NEWEST, valid
from heedful.store.tables.schema import judgment, offer, task

KIND = next(kind for kind in KINDS.values() if kind.talks and kind.apart)
EVERY = ""  # in the place of a model's name


def broken(connection: Connection, project: str) -> dict[str, Any]:
    """{rules: [{code, text, models: [{model, talks, broken, value, low, high, unsure, replies}]}], used, most}.

    A talk has broken the rule where one of its replies has, and kept it where all have; otherwise somebody was unsure,
    and it is not among `talks`. `value` is broken / talks with a 95 % interval for which talks of one rater, or about
    one question, hang together; None of none. `replies`: {broken, kept, unsure}. Of several models the first row, whose
    `model` is empty, is of all.
    """
    j = judgment.c
    query = select(j.assignment, j.said, j.task, j.rater, task.c.options).join(task)
    query = query.where(j.project == project, task.c.kind == KIND.name, *valid())
    said = connection.execute(query.order_by(j.created_at.desc()).limit(NEWEST)).all()
    models = _models(connection, [row.assignment for row in said])
    texts: dict[str, str] = {}
    talks: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in said:
        (rule,) = row.options[KIND.apart]
        texts.setdefault(rule["code"], rule["text"])
        for model in (EVERY, models[row.assignment]):
            talks[rule["code"], model].append(row)
    rules = [
        {"code": code, "text": texts[code], "models": _of_models(code, talks)}
        for code in sorted(texts)
    ]
    return {"rules": rules, "used": len(said), "most": NEWEST}


def _models(connection: Connection, assignments: Sequence[str]) -> dict[str, str]:
    """Whom each conversation was with."""
    o, found = offer.c, dict[str, str]()
    for part in batches(assignments):
        query = select(o.assignment, o.candidates).where(o.assignment.in_(part), o.place == 0)
        found.update(
            (row.assignment, row.candidates[0]["model"]) for row in connection.execute(query)
        )
    return found


def _of_models(code: str, talks: dict[tuple[str, str], list[Any]]) -> list[dict[str, Any]]:
    models = sorted(model for rule, model in talks if rule == code)
    if len(models) == 2:  # one alone, and all of them are the same
        models = models[1:]
    return [{"model": model, **_counted(talks[code, model])} for model in models]


def _counted(talks: Sequence[Any]) -> dict[str, Any]:
    told: list[tuple[bool, Hashable, Hashable]] = []
    replies = {"broken": 0, "kept": 0, "unsure": 0}
    for row in talks:
        of_replies = row.said["broken"]
        for one in of_replies:
            replies["unsure" if one is None else "broken" if one else "kept"] += 1
        if True in of_replies or None not in of_replies:
            told.append((True in of_replies, row.task, row.rater))
    value, low, high = None, None, None
    if told:
        each, tasks, raters = zip(*told, strict=True)
        value, low, high = share_of(np.array(each, float), clusters_of(tasks, raters))
    return {
        "talks": len(told),
        "broken": sum(one for one, *_ in told),
        "value": value,
        "low": low,
        "high": high,
        "unsure": len(talks) - len(told),
        "replies": replies,
    }
