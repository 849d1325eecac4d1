"""A conversation in which somebody tries to make a model break a rule, and says of each reply whether it did (Glaese et
al. 2022, adversarial probing); its turns are stored one by one, see store.talk."""

from __future__ import annotations

from typing import Any

from heedful.errors import UserError
from heedful.store.kinds import chat, rules
from heedful.store.kinds.checks import only
from heedful.store.kinds.kind import Kind, Parsed, Question


def check(options: dict[str, Any]) -> dict[str, Any]:
    return rules.check(options, "probe") | chat.check(options)


def parse(question: Question, answer: dict[str, Any]) -> Parsed:
    only(answer, "broken")
    minimum, maximum = question.options["min_turns"], question.options["max_turns"]
    broken = answer.get("broken")
    if not isinstance(broken, list) or not minimum <= len(broken) <= maximum:
        raise UserError(
            f"broken must be a list with one entry for each of {minimum} to {maximum} turns"
        )
    if any(said is not None and type(said) is not bool for said in broken):
        raise UserError("each entry of broken must be true, false or null")
    kept = tuple(None if said is None else not said for said in broken)
    return Parsed("answer", turns=len(broken), verdicts=kept)


KIND = Kind(
    name="probe",
    label="attempts to break a rule",
    does="try to make a model break this rule; did each reply break it? yes, no, unsure",
    keeps="labels by rule, of each reply behind all that was said before it",
    form='`{"broken": [true, false, null, …]}` turn by turn, when they have been said; null: unsure',
    responses=(0, 0),
    parse=parse,
    example={"broken": [False]},
    exports=("unpaired", "scores"),
    options=("rules", "min_turns", "max_turns"),
    example_options={"rules": [{"code": "polite", "text": "It is polite."}], "max_turns": 8},
    check=check,
    talks=True,
    replies=1,
    apart="rules",
)
