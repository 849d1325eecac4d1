"""A response, mended."""

from __future__ import annotations

from typing import Any

from heedful.store.kinds.checks import only, place, text
from heedful.store.kinds.kind import Kind, Parsed, Question


def parse(question: Question, answer: dict[str, Any]) -> Parsed:
    only(answer, "response", "text")
    original = question.shown[place(question.shown, answer.get("response", 0))]
    return Parsed("answer", edit=(original, text(answer, "text", required=True)))


KIND = Kind(
    name="edit",
    label="edit",
    does="edit the answer",
    keeps="a demonstration that beats its original",
    form='`{"response": 0, "text": "…"}`',
    responses=(1, 4),
    parse=parse,
    example={"response": 0, "text": "Better."},
    exports=("comparisons", "rankings", "demonstrations"),
    comment="comment",
)
