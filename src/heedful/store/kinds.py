"""The kinds of task: what is shown, what an answer looks like, and what of it is kept.

An answer speaks of responses by their place on the screen, 0, 1, 2 …; `parse` turns places into completion ids
with the order shown, so that nothing that leaves the server names a completion.

| kind | answer |
|---|---|
| pair | {"value": 1..8} (1: the first is much better, 8: the second), {"tie": true} or {"both_bad": true} |
| | or {"better": 0, "strength": 0..1 or null}: as judges and imported comparisons say it |
| rank | {"ranks": [1, 2, null, …]} by place, 1 is best, equal is a tie, null unranked; or {"both_bad": true} |
| | "strength" may say how much better the best one is |
| rate | {"scores": {axis: [value, … by place]}} |
| thumbs | {"thumbs": [1, -1, 0, …]} |
| rules | {"rules": {code: [true, false, null, …]}} did the response keep the rule? null: does not apply |
| critique | {"critiques": [{"response": 0, "start": 3, "end": 9, "text": "…"}]}; start and end may be null |
| edit | {"response": 0, "text": "…"} |
| write | {"text": "…"} |
| chat | {"turns": n}; the turns themselves are said one by one, see store.talk |

Each may add "text" (a comment; for edit and write it is the answer itself, and "comment" is the comment) and
"confidence" 0 to 1. Any task can be answered {"skip": reason} or {"flag": reason}.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heedful.errors import UserError

MOST_TEXT = 200_000  # characters of anything a rater writes
STRENGTHS = 8


@dataclass(frozen=True)
class Kind:
    """How many responses a task of this kind shows, and the names of its options."""

    responses: tuple[int, int]
    options: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {
    "pair": Kind((2, 2)),
    "rank": Kind((2, 12)),
    "rate": Kind((1, 6), ("axes",)),  # [{name, low, high, step, low_label, high_label}]
    "thumbs": Kind((1, 6)),
    "rules": Kind((1, 6), ("rules",)),  # [{code, text}]
    "critique": Kind((1, 4)),
    "edit": Kind((1, 4)),
    "write": Kind((0, 0)),
    "chat": Kind((0, 0), ("min_turns", "max_turns")),
}


@dataclass(frozen=True)
class Parsed:
    """An answer by completion id, as the tables keep it."""

    outcome: str  # answer, tie, both_bad, skip, flag
    text: str | None = None
    strength: float | None = None
    confidence: float | None = None
    ranks: tuple[tuple[str, int], ...] = ()
    scores: tuple[tuple[str, str, float], ...] = ()  # completion, axis, value
    rules: tuple[tuple[str, str, bool], ...] = ()  # completion, rule, kept
    critiques: tuple[tuple[str, int | None, int | None, str], ...] = ()
    edit: tuple[str, str] | None = None  # completion, new text
    demonstration: str | None = None
    turns: int = 0


def check_options(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a task, with defaults; what does not fit is an error."""
    unknown = set(options) - set(KINDS[kind].options)
    if unknown:
        raise UserError(f"tasks of the kind {kind} have no option '{min(unknown)}'")
    if kind == "rate":
        axes = options.get("axes") or [{"name": "quality"}]
        if not isinstance(axes, list) or not all(isinstance(a, dict) for a in axes):
            raise UserError("axes must be a list, each with a name")
        filled: list[dict[str, Any]] = [
            {"low": 1, "high": 5, "step": 1, "low_label": "", "high_label": ""} | a for a in axes
        ]
        for axis in filled:
            name = axis.get("name")
            if not isinstance(name, str) or not name.strip():
                raise UserError("each axis needs a name")
            if not all(_number(axis[k]) for k in ("low", "high", "step")):
                raise UserError(f"axis {name}: low, high and step must be numbers")
            if axis["low"] >= axis["high"] or axis["step"] <= 0:
                raise UserError(f"axis {name}: low must be below high and step above 0")
        _distinct("axis", [a["name"] for a in filled])
        return {"axes": filled}
    if kind == "rules":
        rules = options.get("rules") or []
        if (
            not rules
            or not isinstance(rules, list)
            or not all(
                isinstance(r, dict)
                and isinstance(r.get("code"), str)
                and isinstance(r.get("text"), str)
                for r in rules
            )
        ):
            raise UserError(
                "tasks of the kind rules need rules, each with a code and a text, such as "
                '{"rules": [{"code": "polite", "text": "It is polite."}]}'
            )
        _distinct("rule", [r["code"] for r in rules])
        return {"rules": rules}
    if kind == "chat":
        least, most = options.get("min_turns", 1), options.get("max_turns", 8)
        if type(least) is not int or type(most) is not int or not 1 <= least <= most:
            raise UserError(
                "min_turns and max_turns must be whole numbers, 1 ≤ min_turns ≤ max_turns"
            )
        return {"min_turns": least, "max_turns": most}
    return {}


def parse(
    kind: str,
    options: dict[str, Any],
    shown: Sequence[str],
    answer: dict[str, Any],
    lengths: Sequence[int] = (),
) -> Parsed:
    """An answer to a task of this kind whose places show the completions `shown`; `UserError` if it does not fit.

    `lengths` are the lengths of the texts shown, in characters, for the spans of critiques.
    """
    for outcome in ("skip", "flag"):
        if outcome in answer:
            _only(answer, outcome)
            return Parsed(outcome, text=_text(answer, outcome, required=outcome == "flag"))
    confidence = answer.get("confidence")
    if confidence is not None and not (_number(confidence) and 0 <= confidence <= 1):
        raise UserError("confidence must be a number from 0 to 1")
    comment = "comment" if kind in ("edit", "write") else "text"
    common: dict[str, Any] = {"confidence": confidence, "text": _text(answer, comment) or None}
    also = (comment, "confidence")
    if kind == "pair":
        return _pair(shown, answer, also, common)
    if kind == "rank":
        return _rank(shown, answer, also, common)
    if kind == "rate":
        _only(answer, "scores", *also)
        return Parsed(
            "answer", scores=_scores(options["axes"], shown, answer.get("scores")), **common
        )
    if kind == "thumbs":
        _only(answer, "thumbs", *also)
        thumbs = _by_place(shown, answer.get("thumbs"), "thumbs")
        if any(type(t) is not int or t not in (-1, 0, 1) for t in thumbs):
            raise UserError("each of thumbs must be 1 (up), -1 (down) or 0")
        scores = tuple((c, "thumb", float(t)) for c, t in zip(shown, thumbs, strict=True))
        return Parsed("answer", scores=scores, **common)
    if kind == "rules":
        _only(answer, "rules", *also)
        return Parsed(
            "answer", rules=_rules(options["rules"], shown, answer.get("rules")), **common
        )
    if kind == "critique":
        _only(answer, "critiques", *also)
        critiques = _critiques(shown, lengths, answer.get("critiques"))
        if not critiques and not common["text"]:
            raise UserError("a critique needs at least one remark or a comment")
        return Parsed("answer", critiques=critiques, **common)
    if kind == "edit":
        _only(answer, "response", "text", *also)
        place = _place(shown, answer.get("response", 0))
        text = _text(answer, "text", required=True)
        return Parsed("answer", edit=(shown[place], text), **common)
    if kind == "write":
        _only(answer, "text", *also)
        return Parsed("answer", demonstration=_text(answer, "text", required=True), **common)
    if kind == "chat":
        _only(answer, "turns", *also)
        turns = answer.get("turns")
        if type(turns) is not int or not options["min_turns"] <= turns <= options["max_turns"]:
            raise UserError(
                f"a conversation takes {options['min_turns']} to {options['max_turns']} turns"
            )
        return Parsed("answer", turns=turns, **common)
    raise UserError(f"unknown kind of task '{kind}'")


def _pair(shown: Sequence[str], answer: dict, also: tuple[str, ...], common: dict) -> Parsed:
    for outcome in ("tie", "both_bad"):
        if answer.get(outcome) is True:
            _only(answer, outcome, *also)
            return Parsed(outcome, ranks=tuple((c, 1) for c in shown), strength=0.0, **common)
    if "better" in answer:
        _only(answer, "better", "strength", *also)
        best = _place(shown, answer["better"], "better")
        ranks = tuple((c, 1 if place == best else 2) for place, c in enumerate(shown))
        return Parsed("answer", ranks=ranks, strength=_strength(answer), **common)
    _only(answer, "value", *also)
    value = answer.get("value")
    if type(value) is not int or not 1 <= value <= STRENGTHS:
        raise UserError(
            f"value must be a whole number from 1 to {STRENGTHS}, or say tie or both_bad"
        )
    first_is_better = value <= STRENGTHS // 2
    strength = abs(2 * value - STRENGTHS - 1) / (STRENGTHS - 1)
    ranks = ((shown[0], 1 if first_is_better else 2), (shown[1], 2 if first_is_better else 1))
    return Parsed("answer", ranks=ranks, strength=strength, **common)


def _rank(shown: Sequence[str], answer: dict, also: tuple[str, ...], common: dict) -> Parsed:
    if answer.get("both_bad") is True:
        _only(answer, "both_bad", *also)
        return Parsed("both_bad", ranks=tuple((c, 1) for c in shown), **common)
    _only(answer, "ranks", "strength", *also)
    ranks = _by_place(shown, answer.get("ranks"), "ranks")
    if any(r is not None and (type(r) is not int or not 1 <= r <= len(shown)) for r in ranks):
        raise UserError(f"each of ranks must be a whole number from 1 to {len(shown)}, or null")
    given = [(c, r) for c, r in zip(shown, ranks, strict=True) if r is not None]
    if len(given) < 2:
        raise UserError("a ranking needs at least two ranked responses")
    places = sorted({r for _, r in given})  # 1, 3, 3 says the same as 1, 2, 2
    dense = tuple((c, places.index(r) + 1) for c, r in given)
    outcome = "tie" if len(places) == 1 else "answer"
    return Parsed(outcome, ranks=dense, strength=_strength(answer), **common)


def _scores(
    axes: list[dict], shown: Sequence[str], given: Any
) -> tuple[tuple[str, str, float], ...]:
    if not isinstance(given, dict) or set(given) != {a["name"] for a in axes}:
        raise UserError(f"scores must have the axes {', '.join(a['name'] for a in axes)}")
    found = []
    for axis in axes:
        for c, value in zip(
            shown, _by_place(shown, given[axis["name"]], axis["name"]), strict=True
        ):
            if not _number(value) or not axis["low"] <= value <= axis["high"]:
                raise UserError(
                    f"{axis['name']} must be a number from {axis['low']} to {axis['high']}"
                )
            found.append((c, axis["name"], float(value)))
    return tuple(found)


def _rules(
    rules: list[dict], shown: Sequence[str], given: Any
) -> tuple[tuple[str, str, bool], ...]:
    codes = [r["code"] for r in rules]
    if not isinstance(given, dict) or set(given) != set(codes):
        raise UserError(f"rules must answer {', '.join(codes)}")
    found = []
    for code in codes:
        for c, verdict in zip(shown, _by_place(shown, given[code], code), strict=True):
            if verdict is not None and type(verdict) is not bool:
                raise UserError(f"{code} must be true, false or null")
            if verdict is not None:
                found.append((c, code, verdict))
    return tuple(found)


def _critiques(
    shown: Sequence[str], lengths: Sequence[int], given: Any
) -> tuple[tuple[str, int | None, int | None, str], ...]:
    if not isinstance(given, list) or len(given) > 100:
        raise UserError("critiques must be a list of at most 100 remarks")
    found = []
    for remark in given:
        if not isinstance(remark, dict):
            raise UserError("each critique must have response, start, end and text")
        _only(remark, "response", "start", "end", "text")
        place = _place(shown, remark.get("response", 0))
        start, end = remark.get("start"), remark.get("end")
        if start is not None or end is not None:
            most = lengths[place] if lengths else math.inf
            if type(start) is not int or type(end) is not int or not 0 <= start < end <= most:
                raise UserError(
                    "a span needs whole numbers 0 ≤ start < end ≤ the response's length"
                )
        found.append((shown[place], start, end, _text(remark, "text", required=True)))
    return tuple(found)


def _only(answer: dict[str, Any], *names: str) -> None:
    unknown = [k for k in answer if k not in names]
    if unknown:
        raise UserError(f"unexpected field '{unknown[0]}' beside {', '.join(names)}")


def _by_place(shown: Sequence[str], given: Any, name: str) -> list[Any]:
    if not isinstance(given, list) or len(given) != len(shown):
        raise UserError(f"{name} must be a list with one entry for each of {len(shown)} responses")
    return given


def _place(shown: Sequence[str], value: Any, name: str = "response") -> int:
    if type(value) is not int or not 0 <= value < len(shown):
        raise UserError(f"{name} must be a whole number from 0 to {len(shown) - 1}")
    return value


def _strength(answer: dict[str, Any]) -> float | None:
    value = answer.get("strength")
    if value is not None and not (_number(value) and 0 <= value <= 1):
        raise UserError("strength must be a number from 0 to 1")
    return None if value is None else float(value)


def _text(answer: dict[str, Any], name: str, *, required: bool = False) -> str:
    value = answer.get(name)
    value = "" if value is None else value
    if not isinstance(value, str):
        raise UserError(f"{name} must be text")
    if len(value) > MOST_TEXT:
        raise UserError(f"{name} is longer than {MOST_TEXT} characters")
    if required and not value.strip():
        raise UserError(f"{name} must not be empty")
    return value


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _distinct(what: str, names: list[str]) -> None:
    if len(set(names)) != len(names):
        raise UserError(f"each {what} needs a name of its own")
