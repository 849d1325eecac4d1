"""Which of two responses is better, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heedful.errors import UserError
from heedful.store.kinds.checks import only, place, strength
from heedful.store.kinds.kind import Kind, Measure, Parsed, Question
from heedful.types import places

STRENGTHS = 8


def parse(question: Question, answer: dict[str, Any]) -> Parsed:
    shown = question.shown
    for outcome in ("tie", "both_bad"):
        if answer.get(outcome) is True:
            only(answer, outcome)
            return Parsed(outcome, ranks=tuple((c, 1) for c in shown), strength=0.0)
    if "better" in answer:
        only(answer, "better", "strength")
        best = place(shown, answer["better"], "better")
        ranks = tuple((c, 1 if i == best else 2) for i, c in enumerate(shown))
        return Parsed("answer", ranks=ranks, strength=strength(answer))
    only(answer, "value")
    value = answer.get("value")
    if type(value) is not int or not 1 <= value <= STRENGTHS:
        raise UserError(
            f"value must be a whole number from 1 to {STRENGTHS}, or say tie or both_bad"
        )
    first_is_better = value <= STRENGTHS // 2
    degree = abs(2 * value - STRENGTHS - 1) / (STRENGTHS - 1)
    ranks = ((shown[0], 1 if first_is_better else 2), (shown[1], 2 if first_is_better else 1))
    return Parsed("answer", ranks=ranks, strength=degree)


def ranked(ranks: Sequence[int | None]) -> dict[str, Any]:
    first, second = places(ranks)
    return {"tie": True} if first == second else {"value": 2 if first < second else 7}


KIND = Kind(
    name="pair",
    label="pair",
    does="1–8: how much better which one is; tie; both are bad",
    keeps="a preference with a strength",
    form='`{"value": 1..8}` (1: the first is much better, 8: the second), `{"tie": true}` or `{"both_bad": true}`; '
    'or `{"better": 0, "strength": 0..1 or null}`, as judges and imported comparisons say it',
    responses=(2, 2),
    parse=parse,
    example={"value": 2},
    exports=("comparisons", "rankings"),
    measure=Measure("ranks", "nominal", 2.0),
    swaps=True,
    ranked=ranked,
)
