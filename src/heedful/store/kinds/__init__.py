"""The kinds of question: what is shown, what an answer looks like, and what of it is kept.

A kind is one Python file, which makes a `Kind`, and one JavaScript module, which draws it: here and in
web/static/rate/kinds/, or in an installed package whose entry points of the group `heedful.question_kinds` lead to a
`Kind`. Nothing else names them.

An answer speaks of responses by their place on the screen, 0, 1, 2 …; `Kind.form` says how. Each may add "text" (a
comment; where the answer itself is a text, "comment" is) and "confidence" from 0 to 1. Any question can be answered
{"skip": reason} or {"flag": reason}.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Any

from heedful import exact
from heedful.errors import UserError
from heedful.store.kinds.checks import is_number, only, text
from heedful.store.kinds.kind import Kind, Measure, Parsed, Question

GROUP = "heedful.question_kinds"
KINDS: dict[str, Kind] = {}
UNANSWERED = ("skip", "flag")  # outcomes of any kind of question that answer nothing
SCREEN = "screen"  # stands for a kind where a task asks several questions: store.screens


def register(kind: Kind) -> None:
    """From now on it can be asked. Two of one name are an error."""
    if kind.name == SCREEN or KINDS.setdefault(kind.name, kind) != kind:
        raise UserError(f"there are two kinds of question with the name '{kind.name}'")


def installed() -> Iterator[Kind]:
    """The kinds that other installed packages add."""
    return (entry_point.load() for entry_point in entry_points(group=GROUP))


def kind_of(name: str) -> Kind:
    """The kind of this name."""
    if name not in KINDS:
        raise UserError(f"unknown kind of task '{name}', expected {', '.join(KINDS)}")
    return KINDS[name]


def exports_of(name: str) -> tuple[str, ...]:
    """The forms in which its answers have rows; none, where the package that had it has been removed."""
    return KINDS[name].exports if name in KINDS else ()


def measure_of(name: str) -> Measure | None:
    """How its answers are compared; likewise."""
    return KINDS[name].measure if name in KINDS else None


def check_options(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a task, with defaults; what does not fit is an error."""
    unknown = set(options) - set(KINDS[kind].options)
    if unknown:
        raise UserError(f"tasks of the kind {kind} have no option '{min(unknown)}'")
    if options:
        exact.refuse("the options", exact.jsonable(options), options)
    return KINDS[kind].check(options)


def declined(answer: dict[str, Any]) -> Parsed | None:
    """A skip or a flag; None where something is answered."""
    for outcome in UNANSWERED:
        if outcome in answer:
            only(answer, outcome)
            return Parsed(outcome, text=text(answer, outcome, required=outcome == "flag"))
    return None


def parse(kind: str, question: Question, answer: dict[str, Any]) -> Parsed:
    """An answer to a question of this kind; `UserError` if it does not fit."""
    if unanswered := declined(answer):
        return unanswered
    question_kind = kind_of(kind)
    confidence = answer.get("confidence")
    if confidence is not None and not (is_number(confidence) and 0 <= confidence <= 1):
        raise UserError("confidence must be a number from 0 to 1")
    comment = text(answer, question_kind.comment) or None
    fields = {k: v for k, v in answer.items() if k not in (question_kind.comment, "confidence")}
    if comment != question.comment:
        question = replace(question, comment=comment)
    parsed = question_kind.parse(question, fields)
    if (comment, confidence) == (parsed.text, parsed.confidence):  # of most answers, both are None
        return parsed
    return replace(parsed, text=comment, confidence=confidence)


def _built_in() -> Iterator[Kind]:
    modules = [import_module(f"{__name__}.{entry.name}") for entry in iter_modules(__path__)]
    return (module.KIND for module in modules if hasattr(module, "KIND"))


# Those that compare the most responses come first in lists.
for _kind in sorted([*_built_in(), *installed()], key=lambda kind: (-kind.responses[0], kind.name)):
    register(_kind)
