"""Does each response keep these rules?"""

from __future__ import annotations

from typing import Any

from heedful.errors import UserError
from heedful.store.kinds.checks import by_place, distinct, only, short
from heedful.store.kinds.kind import Kind, Measure, Parsed, Question

MAX_RULE = 5000  # characters of what raters read


def check(options: dict[str, Any], kind: str = "rules") -> dict[str, Any]:
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
            f"tasks of the kind {kind} need rules, each with a code and a text, such as "
            '{"rules": [{"code": "polite", "text": "It is polite."}]}'
        )
    distinct("rule", [r["code"] for r in rules])
    for rule in rules:
        short(f"the text of the rule {rule['code']}", rule["text"], MAX_RULE)
    return {"rules": rules}


def parse(question: Question, answer: dict[str, Any]) -> Parsed:
    only(answer, "rules")
    codes, values = [r["code"] for r in question.options["rules"]], answer.get("rules")
    if not isinstance(values, dict) or set(values) != set(codes):
        raise UserError(f"rules must answer {', '.join(codes)}")
    verdicts = []
    for code in codes:
        for c, verdict in zip(
            question.shown, by_place(question.shown, values[code], code), strict=True
        ):
            if verdict is not None and type(verdict) is not bool:
                raise UserError(f"{code} must be true, false or null")
            if verdict is not None:
                verdicts.append((c, code, verdict))
    return Parsed("answer", rules=tuple(verdicts))


KIND = Kind(
    name="rules",
    label="rules",
    does="does it keep this rule? yes, no, does not apply",
    keeps="labels by rule",
    form='`{"rules": {code: [true, false, null, …]}}` by place; null: the rule does not apply',
    responses=(1, 6),
    parse=parse,
    example={"rules": {"polite": [True]}},
    exports=("unpaired", "scores"),
    options=("rules",),
    example_options={"rules": [{"code": "polite", "text": "It is polite."}]},
    check=check,
    measure=Measure("rules", "nominal", 1.0),
)
