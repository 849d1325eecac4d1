"""Several questions on one screen, about the same responses.

A task asks a list of questions. One whose kind is `SCREEN` has the list in its options; any other asks a single
question, of its own kind. An answer to a screen maps names of questions to answers, each in the form of its kind; a
question that was not answered is absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from heedful.errors import UserError, did_you_mean
from heedful.store import kinds
from heedful.store.kinds import KINDS, SCREEN, Parsed, Question

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
MOST = 20  # questions on a screen
LONGEST = {"title": 500, "help": 5000}  # characters
# Columns of an export are NAME.axis, NAME.rule and these.
FIELDS = ("outcome", "ranking", "strength", "critiques", "edits", "demonstration", "text", "confidence")  # fmt: skip


@dataclass(frozen=True)
class ScreenQuestion:
    """One of the questions that a screen asks."""

    name: str  # of the answer in what programs send, and of columns
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    required: bool = True
    title: str = ""  # what raters read above it; empty: the kind's own words
    help: str = ""

    @property
    def ranks(self) -> bool:
        """Whether its answers say which response is better."""
        measure = kinds.measure_of(self.kind)
        return measure is not None and measure.of == "ranks"


def questions_of(kind: str, options: Mapping[str, Any]) -> tuple[ScreenQuestion, ...]:
    """What a task asks, in order; a task that is no screen asks one question, which has its kind's name."""
    if kind != SCREEN:
        return (ScreenQuestion(kind, kind, options),)
    return tuple(ScreenQuestion(**one) for one in options["questions"])


def first_ranking(kind: str, options: Mapping[str, Any]) -> ScreenQuestion | None:
    """The question that is the comparison, where none is named."""
    return next((q for q in questions_of(kind, options) if q.ranks), None)


def compared_by(kind: str, options: Mapping[str, Any]) -> str | None:
    """The name under which the comparison of a task's responses is kept: empty where the task asks one question alone,
    None where no question of a screen ranks."""
    if kind != SCREEN:
        return ""
    first = first_ranking(kind, options)
    return first.name if first else None


def checked_list(values: Any) -> list[dict[str, Any]]:
    """A list of questions with all defaults; `UserError` for what cannot be asked together."""
    if not isinstance(values, list | tuple) or not 1 <= len(values) <= MOST:
        raise UserError(f"questions must be a list of 1 to {MOST}")
    questions = [_checked(value) for value in values]
    names = [q.name for q in questions]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two questions have the name '{name}'")
    least, most = _together(questions)
    if least > most:
        raise UserError(
            "these questions cannot share a screen: "
            + ", ".join(f"{q.name} ({q.kind}) shows {_span(q)}" for q in questions)
        )
    return [asdict(q) for q in questions]


def limits(kind: str, options: Mapping[str, Any]) -> tuple[int, int]:
    """The least and the most responses that a task shows."""
    if kind != SCREEN:
        return kinds.kind_of(kind).responses
    return _together(questions_of(kind, {"questions": checked_list(options.get("questions"))}))


def check_options(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a task, with defaults; what does not fit is an error."""
    if kind != SCREEN:
        return kinds.check_options(kind, options)
    if unknown := set(options) - {"questions"}:
        raise UserError(f"a screen has no option '{min(unknown)}'")
    return {"questions": checked_list(options.get("questions"))}


def parse(
    kind: str,
    options: Mapping[str, Any],
    question: Question,
    answer: dict[str, Any],
    *,
    partly: bool,
) -> Parsed:
    """An answer to a task; `UserError` if it does not fit. `partly`: required questions may be left out, by judges
    that are no people."""
    if kind != SCREEN:
        return kinds.parse(kind, question, answer)
    if declined := kinds.declined(answer):
        return declined
    questions = questions_of(kind, options)
    names = [q.name for q in questions]
    for name in answer:
        if name not in names:
            raise UserError(f"there is no question '{name}' here{did_you_mean(name, names)}")
    given: list[tuple[str, str, Parsed]] = []
    for q in questions:
        if q.name not in answer:
            if q.required and not partly:
                raise UserError(f"the question '{q.name}' needs an answer")
            continue
        given.append((q.name, q.kind, _parsed(q, question, answer[q.name])))
    if not given:
        raise UserError("no question is answered; skip the task instead")
    return Parsed("answer", answers=tuple(given))


def ranked(kind: str, options: Mapping[str, Any], ranks: Sequence[int | None]) -> dict[str, Any]:
    """What a judge says of the question that ranks, as a page would send it, from ranks by place on the screen."""
    asked = first_ranking(kind, options)
    if asked is None:
        raise UserError("none of this task's questions ranks responses")
    answer = KINDS[asked.kind].ranked(ranks)
    return {asked.name: answer} if kind == SCREEN else answer


def comparing(questions: Sequence[Mapping[str, Any]], responses: int) -> tuple[str, dict[str, Any]]:
    """The kind and options of a task that compares so many responses: the project's own questions, where they can, or
    else a pair or a ranking alone."""
    options = {"questions": [*questions]}
    if questions and first_ranking(SCREEN, options):
        least, most = limits(SCREEN, options)
        if least <= responses <= most:
            return SCREEN, options
    return "pair" if responses == 2 else "rank", {}


def swaps(kind: str, options: Mapping[str, Any]) -> bool:
    """Whether it is asked again the other way round."""
    return any(q.kind in KINDS and KINDS[q.kind].swaps for q in questions_of(kind, options))


def anchored(kind: str, options: Mapping[str, Any]) -> bool:
    """Whether the first of its responses is always shown first."""
    return any(q.kind in KINDS and KINDS[q.kind].anchored for q in questions_of(kind, options))


def columns(questions: Sequence[ScreenQuestion]) -> dict[str, str]:
    """The columns `NAME.field` of an export of judgments, and their types; lists are in the order of `completions`."""
    found: dict[str, str] = {}
    for q in questions:
        if q.ranks:
            found |= {f"{q.name}.outcome": "text", f"{q.name}.ranking": "json"}
            found[f"{q.name}.strength"] = "number"
        found |= {f"{q.name}.{mark}": "json" for mark in marks(q)}
        for form, name in (("critiques", "critiques"), ("demonstrations", "demonstration")):
            if form in kinds.exports_of(q.kind):
                found[f"{q.name}.{name}"] = "json" if name == "critiques" else "text"
        found |= {f"{q.name}.text": "text", f"{q.name}.confidence": "number"}
    return found


def marks(question: ScreenQuestion) -> list[str]:
    """The axes or rules on which it marks responses."""
    measure = kinds.measure_of(question.kind)
    if measure is None or measure.of == "ranks":
        return []
    axes, rules = question.options.get("axes"), question.options.get("rules")
    if axes:
        return [axis["name"] for axis in axes]
    return [rule["code"] for rule in rules] if rules else [*kinds.kind_of(question.kind).axes]


def _checked(value: Any) -> ScreenQuestion:
    if not isinstance(value, Mapping):
        raise UserError("each question must be an object with a name and a kind")
    known = [f.name for f in fields(ScreenQuestion)]
    for name in value:
        if name not in known:
            raise UserError(f"a question has no '{name}'{did_you_mean(str(name), known)}")
    name, kind = value.get("name"), value.get("kind")
    if not isinstance(name, str) or not NAME.fullmatch(name) or name in kinds.UNANSWERED:
        raise UserError(
            f"a question is named by 1 to 40 letters, digits, _ and -, the first a letter, not {name!r}; "
            "skip and flag are no names"
        )
    if not isinstance(kind, str) or kind == SCREEN:
        raise UserError(f"{name}: the kind must be one of {', '.join(KINDS)}")
    if kinds.kind_of(kind).talks:
        raise UserError(f"{name}: a conversation stands on a screen of its own")
    options, required = value.get("options", {}), value.get("required", True)
    if not isinstance(options, Mapping):
        raise UserError(f"{name}: options must be an object")
    if type(required) is not bool:
        raise UserError(f"{name}: required must be true or false")
    words = {key: value.get(key, "") for key in LONGEST}
    for key, text in words.items():
        if not isinstance(text, str) or len(text) > LONGEST[key]:
            raise UserError(f"{name}: {key} must be text of at most {LONGEST[key]} characters")
    try:
        made = ScreenQuestion(
            name, kind, kinds.check_options(kind, dict(options)), required, **words
        )
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    for mark in marks(made):
        if mark in FIELDS:
            raise UserError(
                f"{name}: no axis or rule can have the name '{mark}', which a column has"
            )
    return made


def _parsed(asked: ScreenQuestion, question: Question, said: Any) -> Parsed:
    if not isinstance(said, dict):
        raise UserError(
            f"{asked.name}: an answer must be an object, and is left out where there is none"
        )
    if any(outcome in said for outcome in kinds.UNANSWERED):
        raise UserError(f"{asked.name}: a question alone is not skipped or flagged; leave it out")
    try:
        one = Question(dict(asked.options), question.shown, question.lengths)
        return kinds.parse(asked.kind, one, said)
    except UserError as error:
        raise UserError(f"{asked.name}: {error}") from None


def _together(questions: Sequence[ScreenQuestion]) -> tuple[int, int]:
    spans = [kinds.kind_of(q.kind).responses for q in questions]
    return max(low for low, _ in spans), min(high for _, high in spans)


def _span(question: ScreenQuestion) -> str:
    low, high = kinds.kind_of(question.kind).responses
    return f"{low} responses" if low == high else f"{low} to {high}"
