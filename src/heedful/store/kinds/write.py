"""A response, written."""

from __future__ import annotations

from typing import Any

from heedful.store.kinds.checks import only, text
from heedful.store.kinds.kind import Kind, Parsed, Question


def parse(_question: Question, answer: dict[str, Any]) -> Parsed:
    only(answer, "text")
    return Parsed("answer", demonstration=text(answer, "text", required=True))


KIND = Kind(
    name="write",
    label="demonstration",
    does="write the answer",
    keeps="a demonstration",
    form='`{"text": "…"}`',
    responses=(0, 0),
    parse=parse,
    example={"text": "Mine."},
    exports=("demonstrations",),
    comment="comment",
)
