"""A conversation with two models at once; the turns themselves are said one by one, see store.talk."""

from __future__ import annotations

from typing import Any

from heedful.errors import UserError
from heedful.store.kinds.checks import only
from heedful.store.kinds.kind import Kind, Parsed, Question


def check(options: dict[str, Any]) -> dict[str, Any]:
    least, most = options.get("min_turns", 1), options.get("max_turns", 8)
    if type(least) is not int or type(most) is not int or not 1 <= least <= most:
        raise UserError("min_turns and max_turns must be whole numbers, 1 ≤ min_turns ≤ max_turns")
    return {"min_turns": least, "max_turns": most}


def parse(question: Question, answer: dict[str, Any]) -> Parsed:
    only(answer, "turns")
    least, most = question.options["min_turns"], question.options["max_turns"]
    turns = answer.get("turns")
    if type(turns) is not int or not least <= turns <= most:
        raise UserError(f"a conversation takes {least} to {most} turns")
    return Parsed("answer", turns=turns)


KIND = Kind(
    name="chat",
    label="conversation",
    does="talk to two models at once; the better reply goes on",
    keeps="a preference a turn",
    form='`{"turns": n}`, when they have been said',
    responses=(0, 0),
    parse=parse,
    example={"turns": 1},
    exports=("turns",),
    options=("min_turns", "max_turns"),
    example_options={"min_turns": 1, "max_turns": 8},
    check=check,
    talks=True,
)
