"""A clip moves, and keys are pressed while it does: good, bad."""

from __future__ import annotations

from typing import Any

from heedful.errors import UserError
from heedful.store.kinds.checks import is_number, only
from heedful.store.kinds.kind import Kind, Parsed, Question

MAX_PRESSES = 5000
LATEST = 60  # seconds after a frame came up
SAID = {1: "good", -1: "bad"}


def parse(question: Question, answer: dict[str, Any]) -> Parsed:
    only(answer, "presses")
    presses, (length,) = answer.get("presses"), question.lengths()
    if not isinstance(presses, list) or len(presses) > MAX_PRESSES:
        raise UserError(f"presses must be a list of at most {MAX_PRESSES}")
    remarks = []
    for press in presses:
        if not isinstance(press, dict):
            raise UserError("each press must have start, end, after and value")
        only(press, "start", "end", "after", "value")
        start, end, after = press.get("start"), press.get("end"), press.get("after")
        if not (type(start) is int and type(end) is int and 0 <= start < end <= length):
            raise UserError("a press needs whole numbers 0 ≤ start < end ≤ the clip's length")
        if after is None or not (is_number(after) and 0 <= after <= LATEST):
            raise UserError(f"after must be seconds from 0 to {LATEST}")
        if type(press.get("value")) is not int or press["value"] not in SAID:
            raise UserError("value must be 1 (good) or -1 (bad)")
        words = f"{SAID[press['value']]} after {after:.3f} s"
        remarks.append((question.shown[0], start, end, words))
    return Parsed("answer", critiques=tuple(remarks))


KIND = Kind(
    name="presses",
    label="key presses",
    does="watch a clip move, and press good or bad while it does",
    keeps="presses: the frame that was seen, and seconds since it came up",
    form='`{"presses": [{"start": 70, "end": 99, "after": 0.42, "value": 1}]}`: the frame\'s line in the clip\'s text, '
    "seconds since it came up, 1 good or -1 bad",
    responses=(1, 1),
    parse=parse,
    example={"presses": [{"start": 0, "end": 3, "after": 0.42, "value": 1}]},
    exports=("critiques",),
)
