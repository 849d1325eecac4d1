"""A conversation with two models at once; its turns are stored one by one, see store.talk."""

from __future__ import annotations

from typing import Any

from heedful.errors import UserError
from heedful.store.kinds.checks import MAX_NUMBER, only
from heedful.store.kinds.kind import Kind, Parsed, Question


def check(options: dict[str, Any]) -> dict[str, Any]:
    minimum, maximum = options.get("min_turns", 1), options.get("max_turns", 8)
    whole = type(minimum) is int and type(maximum) is int
    if not whole or not 1 <= minimum <= maximum <= MAX_NUMBER:
        raise UserError(
            f"min_turns and max_turns must be whole numbers, 1 ≤ min_turns ≤ max_turns ≤ {MAX_NUMBER:g}"
        )
    return {"min_turns": minimum, "max_turns": maximum}


def parse(question: Question, answer: dict[str, Any]) -> Parsed:
    only(answer, "turns")
    minimum, maximum = question.options["min_turns"], question.options["max_turns"]
    turns = answer.get("turns")
    if type(turns) is not int or not minimum <= turns <= maximum:
        raise UserError(f"a conversation takes {minimum} to {maximum} turns")
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
