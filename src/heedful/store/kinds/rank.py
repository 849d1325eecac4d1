"""The order of several responses."""

from __future__ import annotations

from typing import Any

from heedful.errors import UserError
from heedful.store.kinds.checks import by_place, only, strength
from heedful.store.kinds.kind import Kind, Measure, Parsed, Question
from heedful.types import without_gaps


def parse(question: Question, answer: dict[str, Any]) -> Parsed:
    shown = question.shown
    if answer.get("both_bad") is True:
        only(answer, "both_bad")
        return Parsed("both_bad", ranks=tuple((c, 1) for c in shown))
    only(answer, "ranks", "strength")
    ranks = by_place(shown, answer.get("ranks"), "ranks")
    if any(r is not None and (type(r) is not int or not 1 <= r <= len(shown)) for r in ranks):
        raise UserError(f"each of ranks must be a whole number from 1 to {len(shown)}, or null")
    ranked = tuple((c, r) for c, r in zip(shown, without_gaps(ranks), strict=True) if r is not None)
    if not ranked:
        raise UserError("a ranking needs at least one ranked response")
    tied = all(r == 1 for _, r in ranked) and len(ranked) == len(shown)
    return Parsed("tie" if tied else "answer", ranks=ranked, strength=strength(answer))


KIND = Kind(
    name="rank",
    label="ranking",
    does="drag, or choose with Tab and press a digit; ties are fine, and the worse may be left without an order",
    keeps="ranks",
    form='`{"ranks": [1, 2, null, …]}` by place, 1 is best, equal is a tie, null worse than these and in no order; '
    'or `{"both_bad": true}`; `strength` may say how much better the best one is',
    responses=(2, 12),
    parse=parse,
    example={"ranks": [2, 1]},
    exports=("comparisons", "rankings"),
    measure=Measure("ranks", "ordinal", 2.0),
)
