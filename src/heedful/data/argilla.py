"""Records of Argilla → comparisons.

Argilla 2 nests a record's `fields` and `responses` (`to_json`) or flattens them to columns such as
`preference.responses` and `preference.responses.users` (`to_datasets`); Argilla 1 has a column `preference` of
{user_id, value, status}. Suggestions are guesses of models and are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from heedful.data.fields import (
    Unanswered,
    candidates_of,
    compared,
    field_of,
    name_of,
    plainly,
    prompt_among,
)
from heedful.data.forms import TIES
from heedful.errors import UserError
from heedful.types import Comparison


def read_argilla(where: str, row: dict[str, Any]) -> Iterator[Comparison | Unanswered]:
    nested = isinstance(row.get("fields"), dict)
    fields = {k: v for k, v in (row["fields"] if nested else row).items() if v is not None}
    answers = answers_of(row, nested)
    prompt, asked = prompt_among(where, fields)
    texts = {k: v for k, v in fields.items() if isinstance(v, str) and k != asked}
    by_person: dict[str | None, dict[str, Any]] = defaultdict(dict)
    for question, given in answers.items():
        for person, value in told_apart(given):
            by_person[person][question] = value
    if not by_person:
        shown = tuple(texts[name] for name in candidates_of(texts))
        yield from [Unanswered(prompt, shown)] if len(set(shown)) > 1 else []
    for person, answers_given in by_person.items():
        ranks, problem = None, ""
        for question in sorted(
            answers_given, key=lambda q: (q not in ("preference", "ranking"), q)
        ):
            try:
                ranks = ranks_of(where, question, answers_given[question], texts)
            except UserError as error:
                problem = problem or str(error)
            if ranks:
                break
        ranks = ranks or _ratings(answers_given, texts)
        if ranks:
            yield compared(where, prompt, texts, ranks, rater=person)
        elif problem:
            raise UserError(problem)


def told_apart(given: list[tuple[str | None, Any]]) -> Iterator[tuple[str | None, Any]]:
    """Several people of a record whose accounts were deleted are not one person."""
    nameless = sum(person is None for person, _ in given)
    number = 0
    for person, value in given:
        if person is None and nameless > 1:
            number += 1
            person = f"unknown {number}"
        yield person, value


def answers_of(row: dict[str, Any], nested: bool) -> dict[str, list[tuple[str | None, Any]]]:
    """Who answered what, by question; drafts and discarded answers are none."""
    answers: dict[str, list[tuple[str | None, Any]]] = {}
    if nested:
        for question, given in (row.get("responses") or {}).items():
            answers[question] = [
                (name_of(r.get("user_id")), r.get("value"))
                for r in given or []
                if r.get("status") in (None, "submitted")
            ]
        return answers
    for name, value in row.items():
        if name.endswith(".responses") and isinstance(value, list):
            users = row.get(f"{name}.users") or [None] * len(value)
            states = row.get(f"{name}.status") or ["submitted"] * len(value)
            answers[name.removesuffix(".responses")] = [
                (name_of(user), answer)
                for answer, user, state in zip(value, users, states, strict=False)
                if state in (None, "submitted")
            ]
        elif (given := submissions(value)) is not None:
            answers[name] = given
    return answers


def submissions(value: Any) -> list[tuple[str | None, Any]] | None:
    """Argilla 1: a list of {user_id, value, status}, or one such with lists in it; None if it is neither."""
    parts = ("user_id", "value", "status")
    if isinstance(value, dict) and all(isinstance(value.get(p), list) for p in parts):
        columns = zip(*(value[p] for p in parts), strict=False)
        value = [dict(zip(parts, cells, strict=True)) for cells in columns]
    if not isinstance(value, list) or not value:
        return None
    if not all(isinstance(v, dict) and set(parts) <= set(v) for v in value):
        return None
    return [
        (name_of(v["user_id"]), v["value"])
        for v in value
        if v["status"] == "submitted" and v["value"] is not None
    ]


def ranks_of(
    where: str, question: str, answer: Any, texts: dict[str, str]
) -> dict[str, int] | None:
    """Ranks by field, from a ranking or the name of the better field; None if it is about something else."""
    asked = question in ("preference", "ranking")
    if isinstance(answer, dict) and isinstance(answer.get("rank"), list):
        answer = [
            {"rank": r, "value": v} for r, v in zip(answer["rank"], answer["value"], strict=False)
        ]
    if isinstance(answer, list):
        if len(answer) < 2:
            return None
        ranks = {}
        for place, item in enumerate(answer, start=1):
            name = item.get("value") if isinstance(item, dict) else item
            rank = item.get("rank") if isinstance(item, dict) else None
            field = field_of(name, texts)
            if field is None:
                return _unknown(where, question, name, texts) if ranks or asked else None
            ranks[field] = place if rank is None else rank
        return ranks
    if isinstance(answer, str):
        candidates = candidates_of(texts)
        if plainly(answer) in TIES and len(candidates) == 2:
            return dict.fromkeys(candidates, 1)
        field = field_of(answer, texts)
        if field is None:
            return _unknown(where, question, answer, texts) if asked else None
        if len(candidates) != 2 or field not in candidates:
            raise UserError(
                f"{where}: `{question}` chooses `{field}`, but which field is the other response?"
            )
        return {name: 1 if name == field else 2 for name in candidates}
    return None


def _ratings(answers: dict[str, Any], texts: dict[str, str]) -> dict[str, int] | None:
    """Ranks from questions such as `generations-0-rating`, one for each field."""
    rated = {
        field: answers[f"{field}-rating"]
        for field in texts
        if type(answers.get(f"{field}-rating")) in (int, float)
    }
    best = sorted(set(rated.values()), reverse=True)
    return {f: best.index(v) + 1 for f, v in rated.items()} if len(rated) > 1 else None


def _unknown(where: str, question: str, name: Any, texts: dict[str, str]) -> None:
    raise UserError(
        f"{where}: `{question}` names {name!r}, which is none of the fields {', '.join(texts)}"
    )
