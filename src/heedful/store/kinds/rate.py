"""Scores of each response on named axes."""

from __future__ import annotations

from typing import Any

from heedful.errors import UserError
from heedful.store.kinds.checks import MAX_NUMBER, by_place, distinct, is_number, only, short
from heedful.store.kinds.kind import Kind, Measure, Parsed, Question

AXIS = {"low": 1, "high": 5, "step": 1, "low_label": "", "high_label": ""}


def check(options: dict[str, Any]) -> dict[str, Any]:
    axes = options.get("axes") or [{"name": "quality"}]
    if not isinstance(axes, list) or not all(isinstance(a, dict) for a in axes):
        raise UserError("axes must be a list, each with a name")
    filled: list[dict[str, Any]] = [AXIS | a for a in axes]
    for axis in filled:
        name = axis.get("name")
        if not isinstance(name, str) or not name.strip():
            raise UserError("each axis needs a name")
        if not all(isinstance(axis[k], str) for k in ("low_label", "high_label")):
            raise UserError(f"axis {name}: low_label and high_label must be text")
        for label in ("low_label", "high_label"):
            short(f"what an end of the axis {name[:40]} means", axis[label])
        limits = [axis[k] for k in ("low", "high", "step")]
        if not all(is_number(v) and abs(v) <= MAX_NUMBER for v in limits):
            raise UserError(
                f"axis {name}: low, high and step must be numbers of at most {MAX_NUMBER:g}"
            )
        if axis["low"] >= axis["high"] or axis["step"] <= 0:
            raise UserError(f"axis {name}: low must be below high and step above 0")
    distinct("axis", [a["name"] for a in filled])
    return {"axes": filled}


def parse(question: Question, answer: dict[str, Any]) -> Parsed:
    only(answer, "scores")
    axes, values = question.options["axes"], answer.get("scores")
    if not isinstance(values, dict) or set(values) != {a["name"] for a in axes}:
        raise UserError(f"scores must have the axes {', '.join(a['name'] for a in axes)}")
    scores = []
    for axis in axes:
        name, low, high = axis["name"], axis["low"], axis["high"]
        for c, value in zip(
            question.shown, by_place(question.shown, values[name], name), strict=True
        ):
            if not is_number(value) or not low <= value <= high:
                raise UserError(f"{name} must be a number from {low} to {high}")
            scores.append((c, name, float(value)))
    return Parsed("answer", scores=tuple(scores))


KIND = Kind(
    name="rate",
    label="ratings",
    does="a scale for each named axis",
    keeps="scores",
    form='`{"scores": {axis: [value, …]}}` by place',
    responses=(1, 6),
    parse=parse,
    example={"scores": {"helpful": [5]}},
    exports=("scores",),
    options=("axes",),
    example_options={"axes": [{"name": "helpful", "low": 1, "high": 7}]},
    check=check,
    measure=Measure("scores", "interval", None),
)
