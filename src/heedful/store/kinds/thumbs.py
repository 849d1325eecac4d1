"""Is each response good or bad?"""

from __future__ import annotations

from typing import Any

from heedful.errors import UserError
from heedful.store.kinds.checks import by_place, only
from heedful.store.kinds.kind import Kind, Measure, Parsed, Question


def parse(question: Question, answer: dict[str, Any]) -> Parsed:
    only(answer, "thumbs")
    thumbs = by_place(question.shown, answer.get("thumbs"), "thumbs")
    if any(type(t) is not int or t not in (-1, 0, 1) for t in thumbs):
        raise UserError("each of thumbs must be 1 (up), -1 (down) or 0")
    scores = tuple((c, "thumb", float(t)) for c, t in zip(question.shown, thumbs, strict=True))
    return Parsed("answer", scores=scores)


KIND = Kind(
    name="thumbs",
    label="thumbs",
    does="up or down",
    keeps="scores",
    form='`{"thumbs": [1, -1, 0, …]}` by place',
    responses=(1, 6),
    parse=parse,
    example={"thumbs": [1]},
    exports=("unpaired", "scores"),
    axes=("thumb",),
    measure=Measure("scores", "ordinal", 2.0),
)
