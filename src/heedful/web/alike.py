"""Ratings beside comparisons of the same responses, of a project's newest answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from heedful.raters.rated_alike import rated_alike
from heedful.store.kinds import exports_of
from heedful.store.lead import quality
from heedful.types import Comparison, Rated
from heedful.web.insight import pairs


def alike(connection: Connection, project: str) -> dict[str, Any]:
    """{axes: [{axis, wins, equal, compared, rated: {n, value, ci}}], used, most}: see `raters.rated_alike`."""
    ids = quality.newest(connection, project)
    answers = [a for a in quality.load(connection, ids) if not (a.gold or a.swap_of)]
    compared = [
        Comparison(a.prompt, (one, other), (2 - (sign > 0), 2 - (sign < 0)), rater=a.rater)
        for a in answers
        if a.prefers and a.compares
        for one, other, sign in pairs(a)
        if sign
    ]
    rated = [
        Rated(a.prompt, response, {axis: value}, a.rater)
        for a in answers
        if "triplets" not in exports_of(a.kind)
        for (response, axis), value in a.scores.items()
    ]
    axes = [asdict(axis) for axis in rated_alike(compared, rated)]
    return {"axes": axes, "used": len(ids), "most": quality.NEWEST}
