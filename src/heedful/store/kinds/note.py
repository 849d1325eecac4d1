"""A text about the responses: a reason, a justification. It is kept where a comment is."""

from __future__ import annotations

from typing import Any

from heedful.errors import UserError
from heedful.store.kinds.checks import only
from heedful.store.kinds.kind import Kind, Parsed, Question


def parse(question: Question, answer: dict[str, Any]) -> Parsed:
    only(answer, "text")
    if not question.comment or not question.comment.strip():
        raise UserError("text must not be empty")
    return Parsed("answer")


KIND = Kind(
    name="note",
    label="note",
    does="write a reason, or whatever is asked for",
    keeps="the text",
    form='`{"text": "…"}`',
    responses=(0, 12),
    parse=parse,
    example={"text": "The first is right."},
    exports=(),
)
