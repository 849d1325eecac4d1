"""Which of two responses is more like a third: what people find alike (Ding et al. 2024, QDHF)."""

from __future__ import annotations

from typing import Any

from heedful.errors import UserError
from heedful.store.kinds.checks import only, place
from heedful.store.kinds.kind import Kind, Measure, Parsed, Question

CLOSER = "closer"  # the axis: 1 of the closer response, 0 of the other, 1/2 of both where nobody can tell


def parse(question: Question, answer: dict[str, Any]) -> Parsed:
    others = question.shown[1:]
    if answer.get("tie") is True:
        only(answer, "tie")
        return Parsed("tie", scores=tuple((c, CLOSER, 0.5) for c in others))
    only(answer, "closer")
    closer = place(question.shown, answer.get("closer"), "closer")
    if closer == 0:
        raise UserError(
            "closer must be 1 or 2, the place of a response that is compared with the first"
        )
    scores = tuple((c, CLOSER, float(i == closer)) for i, c in enumerate(others, start=1))
    return Parsed("answer", scores=scores)


KIND = Kind(
    name="triplet",
    label="triplet",
    does="is A closer to B or to C? B, C, or nobody can tell",
    keeps="which is closer: what people find alike",
    form='`{"closer": 1}` (the second is closer to the first) or `2` (the third is), or `{"tie": true}`',
    responses=(3, 3),
    parse=parse,
    example={"closer": 1},
    exports=("triplets",),
    axes=(CLOSER,),
    measure=Measure("scores", "nominal", 1.0),
    anchored=True,
)
