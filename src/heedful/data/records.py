"""Records of Argilla and tasks of Label Studio with all that was asked about each: several questions, several people.

`data.foreign` reads such files as comparisons, one question of each. Here every answer is kept in one of a few neutral
forms, from which `transfer.records` makes a project's questions.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from heedful.data.argilla import answers_of, ranks_of, told_apart
from heedful.data.fields import candidates_of, plainly, prompt_among
from heedful.data.files import Row
from heedful.data.foreign import form_of, split_records
from heedful.data.label_studio import about_of, comparison_in
from heedful.errors import UserError
from heedful.types import Comparison, Prompt

Form = Literal["ranks", "number", "labels", "text", "spans", "unknown"]
RESPONSE = re.compile(r"response|completion|answer|output|reply|generation|summary", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """What one person said to one question.

    `value`: of ranks {response: rank}, of a number itself, of labels a list, of text itself, of spans a list of (start,
    end, words); `about` is the one response that it is about, None where that is all of them or not known.
    """

    question: str
    form: Form
    value: Any
    about: str | None = None


@dataclass
class Person:
    """All that one person said of a record."""

    rater: str | None
    answers: list[Answer] = field(default_factory=list)
    seconds: float | None = None
    created_at: str | None = None


@dataclass(frozen=True)
class Record:
    """A prompt, the responses that were shown, and what people said of them."""

    where: str
    prompt: Prompt
    responses: tuple[str, ...]
    people: tuple[Person, ...]


def records(rows: Iterator[Row]) -> Iterator[Record]:
    """Of each record in an export; `UserError` where a file is none, or a record holds no response."""
    for where, row in split_records(rows):
        form = form_of(row)
        if form == "argilla":
            yield _argilla(where, row)
        elif form == "label-studio":
            yield _label_studio(where, row)
        else:
            raise UserError(
                f"{where}: this is no record of Argilla and no task of Label Studio (their JSON exports, which have "
                f"`fields` and `responses`, or `data` and `annotations`), found {', '.join(row) or 'nothing'}; import "
                "other files as comparisons, samples or prompts"
            )


def _argilla(where: str, row: dict[str, Any]) -> Record:
    nested = isinstance(row.get("fields"), dict)
    fields = {k: v for k, v in (row["fields"] if nested else row).items() if v is not None}
    prompt, texts = _texts(where, fields)
    people: dict[str | None, Person] = {}
    for question, given in answers_of(row, nested).items():
        for rater, value in told_apart(given):
            if value is not None:
                person = people.setdefault(rater, Person(rater))
                person.answers.append(_said(where, question, value, texts))
    return Record(where, prompt, tuple(texts.values()), tuple(people.values()))


def _said(where: str, question: str, value: Any, texts: dict[str, str]) -> Answer:
    """An answer of Argilla: its export does not say what kind of question was asked, the value does."""
    field_name, rest = _named_in(question, texts)
    about = texts[field_name] if field_name else None
    if type(value) in (int, float):
        return Answer(rest if field_name else question, "number", value, about)
    ranks = None
    if isinstance(value, str | list | dict):
        try:
            ranks = ranks_of(where, question, value, texts)
        except (
            UserError
        ):  # of a question that only looks like one that ranks: what it says is kept as words
            ranks = None
    if ranks:
        return Answer(question, "ranks", {texts[name]: rank for name, rank in ranks.items()})
    if isinstance(value, str):
        return Answer(question, "text", value, about)
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        return Answer(rest if field_name else question, "labels", value, about)
    return Answer(question, "unknown", value)


def _label_studio(where: str, row: dict[str, Any]) -> Record:
    data = row["data"]
    lists = [v for v in data.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
    listed = [str(x.get("body") or x.get("title") or "") for x in lists[0]] if lists else []
    items = {f"item {i}": text for i, text in enumerate(listed)}
    prompt, texts = _texts(where, {k: v for k, v in data.items() if isinstance(v, str)} | items)
    people: list[Person] = []
    for number, given in enumerate(row["annotations"], start=1):
        place = f"{where} annotation {number}"
        if not isinstance(given, dict) or not isinstance(given.get("result"), list):
            raise UserError(f"{place}: `result` must be a list")
        if given.get("was_cancelled"):
            continue
        about = about_of(given)
        person = Person(about["rater"], [], about["seconds"], about["created_at"])
        for result in given["result"]:
            person.answers.append(_result(place, data, result, texts))
        if person.answers:
            people.append(person)
    return Record(where, prompt, tuple(texts.values()), tuple(people))


def _result(where: str, data: dict[str, Any], result: Any, texts: dict[str, str]) -> Answer:
    found = comparison_in(where, data, result, {})
    question = str(result.get("from_name") or result.get("type") or "question")
    if isinstance(found, Comparison):
        ranks = dict(zip(found.responses, found.ranking, strict=True))
        return Answer(question, "ranks", ranks)
    value, (in_name, rest) = result["value"], _named_in(question, texts)
    field_name = _tagged(str(result.get("to_name") or ""), texts) or in_name
    about = texts[field_name] if field_name else None
    name = rest if in_name else question
    for key in ("rating", "number"):
        if type(value.get(key)) in (int, float):
            return Answer(name, "number", value[key], about)
    if isinstance(value.get("choices"), list):
        return Answer(name, "labels", [str(c) for c in value["choices"]], about)
    if {"start", "end", "labels"} <= value.keys() and isinstance(value["start"], int):
        words = ", ".join(map(str, value["labels"]))
        return Answer(name, "spans", [(value["start"], value["end"], words)], about)
    if isinstance(value.get("text"), str | list):
        lines = [value["text"]] if isinstance(value["text"], str) else value["text"]
        return Answer(question, "text", "\n".join(map(str, lines)), about)
    return Answer(question, "unknown", value)


def _texts(where: str, fields: Mapping[str, Any]) -> tuple[Prompt, dict[str, str]]:
    """The prompt, and the responses by their fields."""
    prompt, asked = prompt_among(where, fields)
    texts = {k: v for k, v in fields.items() if isinstance(v, str) and v.strip() and k != asked}
    listed = {k: v for k, v in texts.items() if k.startswith("item ")}
    named = candidates_of(texts)
    if len(named) < 2:
        named = [k for k in texts if RESPONSE.search(k)] or list(texts)[: len(texts) == 1]
    found = listed or {name: texts[name] for name in named}
    if not found:
        raise UserError(
            f"{where}: none of the fields {', '.join(fields)} is a response: its name has `response`, `answer`, "
            "`completion` or the like in it, or ends in a number or a letter"
        )
    if len(set(found.values())) < len(found):
        raise UserError(f"{where}: two of the responses {', '.join(found)} are the same text")
    return prompt, found


def _named_in(question: str, texts: Mapping[str, str]) -> tuple[str | None, str]:
    """The response that a question is named after, and the rest of the name: `response_a-rating`, `rating_answer1`."""
    for name in sorted(texts, key=len, reverse=True):
        pattern = rf"(?:^|[\W_]){re.escape(name)}(?:[\W_]|$)"
        if re.search(pattern, question, re.IGNORECASE) and plainly(question) != plainly(name):
            rest = re.sub(pattern, " ", question, flags=re.IGNORECASE)
            return name, re.sub(r"[\W_]+", "_", rest).strip("_") or "rating"
    return (next(iter(texts)), question) if len(texts) == 1 else (None, question)


def _tagged(tag: str, texts: Mapping[str, str]) -> str | None:
    """The response that a tag shows, where it has the column's name."""
    return next((name for name in texts if plainly(name) == plainly(tag)), None)


def by_question(found: list[Record]) -> dict[str, list[Answer]]:
    """All answers to each question of a file, in the order in which the questions turn up."""
    answers: dict[str, list[Answer]] = defaultdict(list)
    for record in found:
        for person in record.people:
            for answer in person.answers:
                answers[answer.question].append(answer)
    return answers
