"""A question kind of another package: which of three responses differs from the others?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heedful.store.kinds.checks import only, place
from heedful.store.kinds.kind import Kind, Measure, Parsed, Question


def parse(question: Question, answer: dict[str, Any]) -> Parsed:
    only(answer, "odd")
    odd = place(question.shown, answer.get("odd"), "odd")
    scores = tuple((c, "odd", float(i == odd)) for i, c in enumerate(question.shown))
    return Parsed("answer", scores=scores)


KIND = Kind(
    name="odd_one",
    label="odd one out",
    does="which of three differs?",
    keeps="scores: 1 for the odd one",
    form='`{"odd": 0}`',
    responses=(3, 3),
    parse=parse,
    example={"odd": 2},
    exports=("scores",),
    measure=Measure("scores", "nominal", 1.0),
    page=Path(__file__).with_suffix(".js"),
)
