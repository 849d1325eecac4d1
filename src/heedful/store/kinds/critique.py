"""What is wrong with a response, and where."""

from __future__ import annotations

from typing import Any

from heedful.errors import UserError
from heedful.store.kinds.checks import only, place, text
from heedful.store.kinds.kind import Kind, Parsed, Question

MAX_REMARKS = 100


def parse(question: Question, answer: dict[str, Any]) -> Parsed:
    only(answer, "critiques")
    critiques = answer.get("critiques")
    if not isinstance(critiques, list) or len(critiques) > MAX_REMARKS:
        raise UserError(f"critiques must be a list of at most {MAX_REMARKS} remarks")
    lengths = question.lengths()
    remarks = []
    for remark in critiques:
        if not isinstance(remark, dict):
            raise UserError("each critique must have response, start, end and text")
        only(remark, "response", "start", "end", "text")
        index = place(question.shown, remark.get("response", 0))
        start, end = remark.get("start"), remark.get("end")
        if (start is not None or end is not None) and not (
            type(start) is int and type(end) is int and 0 <= start < end <= lengths[index]
        ):
            raise UserError("a span needs whole numbers 0 ≤ start < end ≤ the response's length")
        remarks.append((question.shown[index], start, end, text(remark, "text", required=True)))
    if not remarks and not question.comment:
        raise UserError("a critique needs at least one remark or a comment")
    return Parsed("answer", critiques=tuple(remarks))


KIND = Kind(
    name="critique",
    label="critique",
    does="mark a passage, say what is wrong with it",
    keeps="spans and remarks",
    form='`{"critiques": [{"response": 0, "start": 3, "end": 9, "text": "…"}]}`; start and end may be null',
    responses=(1, 4),
    parse=parse,
    example={"critiques": [{"response": 0, "start": 0, "end": 2, "text": "vague"}]},
    exports=("critiques",),
)
