"""Comparisons out of other tools' files: exports of Argilla and Label Studio, and TRL's forms told from each other.

Argilla 2 nests a record's `fields` and `responses` (`to_json`) or flattens them to columns such as
`preference.responses` and `preference.responses.users` (`to_datasets`); Argilla 1 has a column `preference` of
{user_id, value, status}. Suggestions are guesses of models and are left out. Label Studio has `data` and
`annotations`, each with results of the types pairwise and ranker.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from heedful.data.columns import column, prompt_from, response
from heedful.data.comparisons import comparison_of
from heedful.data.files import Row
from heedful.errors import UserError
from heedful.types import Comparison, Message, Prompt

FORMS = ("auto", "plain", "argilla", "label-studio")  # plain: heedful's, TRL's, HH-RLHF's columns
PROMPTS = ("prompt", "instruction", "question", "query", "input", "text")
TIES = {"tie", "equal", "same", "both", "draw", "neither", "none", "bothgood", "bothbad"}
log = logging.getLogger("heedful")
STEPWISE = "stepwise supervision (`completions` with `labels`) tells steps apart, not responses"


def comparisons(
    rows: Iterable[Row], form: str = "auto", *, skip_bad: bool = False
) -> list[Comparison]:
    """Comparisons in the rows of a file, whichever tool wrote it; `UserError` with place and field if one does not fit.

    Tasks that nobody has answered, and answers that were thrown away, are left out; with `skip_bad` so are
    rows that do not fit, with a warning.
    """
    if form not in FORMS:
        raise UserError(f"unknown form '{form}', expected {', '.join(FORMS)}")
    results: list[Comparison] = []
    count, bad, first, reason = 0, 0, "", ""
    for where, row in _records(rows):
        count, first = count + 1, first or where
        kind = form_of(row) if form == "auto" else form
        try:
            results += READERS[kind](where, row)
        except UserError as error:
            if not skip_bad:
                raise
            bad, reason = bad + 1, reason or str(error)
    if bad:
        log.warning("skipped %d invalid rows, the first: %s", bad, reason)
    if not results:
        raise UserError(f"{first}: none of {count} rows holds an answer {reason}".rstrip())
    return results


def is_vote(row: Mapping[str, Any]) -> bool:
    """Whether a row is of TRL's unpaired form."""
    return "completion" in row and "label" in row


def votes(rows: Iterable[Row]) -> list[tuple[Prompt, str, bool, str | None]]:
    """TRL's unpaired form: prompt, completion, and a label that says whether it is good; then the rater, if any."""
    labelled = []
    for where, row in rows:
        if "completions" in row and "labels" in row:
            raise UserError(f"{where}: {STEPWISE}")
        label = column(where, row, "label")
        if isinstance(label, str) and label.lower() in ("true", "false"):  # as CSV has it
            label = label.lower() == "true"
        if type(label) is not bool:
            raise UserError(f"{where}: `label` must be true or false, not {label!r}")
        prompt = prompt_from(where, "prompt", column(where, row, "prompt"))
        completion = response(where, "completion", column(where, row, "completion"))
        labelled.append((prompt, completion, label, _name(row.get("rater"))))
    return labelled


def form_of(row: Mapping[str, Any]) -> str:
    """Which tool has written a row."""
    if isinstance(row.get("annotations"), list) and isinstance(row.get("data"), dict):
        return "label-studio"
    nested = isinstance(row.get("fields"), dict) and isinstance(row.get("responses"), dict)
    if nested or any(name.endswith(".responses") for name in row):
        return "argilla"
    if any(_submissions(value) is not None for value in row.values()):
        return "argilla"
    return "plain"


def _plain(where: str, row: dict[str, Any]) -> Iterator[Comparison]:
    if "completions" in row and "labels" in row:
        raise UserError(f"{where}: {STEPWISE}")
    if is_vote(row) and "chosen" not in row:
        raise UserError(
            f"{where}: `label` is about one response; import such rows as votes, not as comparisons"
        )
    yield comparison_of(where, row)


def _records(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows; the one object of Argilla's `to_dict` is columns of rows, or rows by their ids."""
    for where, row in rows:
        lists = [v for v in row.values() if isinstance(v, list)]
        if lists and len(lists) == len(row) and len({len(v) for v in lists}) == 1:
            answers = "responses" in row and "fields" in row
            if answers or any(name.endswith(".responses") for name in row):
                for i in range(len(lists[0])):
                    yield f"{where} record {i + 1}", {name: v[i] for name, v in row.items()}
                continue
        if row and all(isinstance(v, dict) and "fields" in v for v in row.values()):
            yield from ((f"{where} record {key}", value) for key, value in row.items())
            continue
        yield where, row


# ── Argilla ──────────────────────────────────────────────────────────────────────────────────────


def _argilla(where: str, row: dict[str, Any]) -> Iterator[Comparison]:
    nested = isinstance(row.get("fields"), dict)
    fields = {k: v for k, v in (row["fields"] if nested else row).items() if v is not None}
    answers = _answers(row, nested)
    prompt, asked = _prompt_among(where, fields)
    texts = {k: v for k, v in fields.items() if isinstance(v, str) and k != asked}
    by_person: dict[str | None, dict[str, Any]] = defaultdict(dict)
    for question, given in answers.items():
        for person, value in given:
            by_person[person][question] = value
    for person, answers_given in by_person.items():
        ranks, problem = None, ""
        for question in sorted(
            answers_given, key=lambda q: (q not in ("preference", "ranking"), q)
        ):
            try:
                ranks = _ranks(where, question, answers_given[question], texts)
            except UserError as error:
                problem = problem or str(error)
            if ranks:
                break
        ranks = ranks or _ratings(answers_given, texts)
        if ranks:
            yield _compared(where, prompt, texts, ranks, rater=person)
        elif problem:
            raise UserError(problem)


def _answers(row: dict[str, Any], nested: bool) -> dict[str, list[tuple[str | None, Any]]]:
    """Who answered what, by question; drafts and discarded answers are none."""
    answers: dict[str, list[tuple[str | None, Any]]] = {}
    if nested:
        for question, given in (row.get("responses") or {}).items():
            answers[question] = [
                (_name(r.get("user_id")), r.get("value"))
                for r in given or []
                if r.get("status") in (None, "submitted")
            ]
        return answers
    for name, value in row.items():
        if name.endswith(".responses") and isinstance(value, list):
            users = row.get(f"{name}.users") or [None] * len(value)
            states = row.get(f"{name}.status") or ["submitted"] * len(value)
            answers[name.removesuffix(".responses")] = [
                (_name(user), answer)
                for answer, user, state in zip(value, users, states, strict=False)
                if state in (None, "submitted")
            ]
        elif (given := _submissions(value)) is not None:
            answers[name] = given
    return answers


def _submissions(value: Any) -> list[tuple[str | None, Any]] | None:
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
        (_name(v["user_id"]), v["value"])
        for v in value
        if v["status"] == "submitted" and v["value"] is not None
    ]


def _ranks(where: str, question: str, answer: Any, texts: dict[str, str]) -> dict[str, int] | None:
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
            field = _field(name, texts)
            if field is None:
                return _unknown(where, question, name, texts) if ranks or asked else None
            ranks[field] = place if rank is None else rank
        return ranks
    if isinstance(answer, str):
        candidates = [k for k in texts if re.search(r"\d$|[_\-. ][a-bA-B]$|chosen|rejected", k)]
        if _plainly(answer) in TIES and len(candidates) == 2:
            return dict.fromkeys(candidates, 1)
        field = _field(answer, texts)
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


def _field(name: Any, texts: dict[str, str]) -> str | None:
    """The field that a label means: `Response 1` is `response-1`; a bare number or letter is an ending."""
    wanted = _plainly(str(name))
    exact = [k for k in texts if _plainly(k) == wanted]
    endings = [k for k in texts if len(wanted) == 1 and _plainly(k).endswith(wanted)]
    matches = exact or endings
    return matches[0] if len(matches) == 1 else None


def _unknown(where: str, question: str, name: Any, texts: dict[str, str]) -> None:
    raise UserError(
        f"{where}: `{question}` names {name!r}, which is none of the fields {', '.join(texts)}"
    )


# ── Label Studio ─────────────────────────────────────────────────────────────────────────────────


def _label_studio(where: str, row: dict[str, Any]) -> Iterator[Comparison]:
    data = column(where, row, "data")
    annotations = column(where, row, "annotations")
    if not isinstance(data, dict) or not isinstance(annotations, list):
        raise UserError(f"{where}: `data` must be an object and `annotations` a list")
    for number, given in enumerate(annotations, start=1):
        place = f"{where} annotation {number}"
        if not isinstance(given, dict) or not isinstance(given.get("result"), list):
            raise UserError(f"{place}: `result` must be a list")
        if given.get("was_cancelled"):
            continue
        by = given.get("completed_by")
        by = by.get("id") if isinstance(by, dict) else by  # never the address that stands beside it
        about = {"rater": None if by is None else f"labeller {by}"}
        about |= {"seconds": given.get("lead_time"), "created_at": given.get("created_at")}
        for result in given["result"]:
            value = result.get("value") if isinstance(result, dict) else None
            if not isinstance(value, dict):
                raise UserError(f"{place}: each `result` needs a `value`")
            if result.get("type") == "pairwise" or value.get("selected") in ("left", "right"):
                yield _pairwise(place, data, result, about)
            elif "ranker" in value:
                yield _ranker(place, data, result, about)


def _pairwise(where: str, data: dict, result: dict, about: dict[str, Any]) -> Comparison:
    prompt, asked = _prompt_among(where, data)
    names = [n.strip() for n in str(result.get("to_name", "")).split(",")]
    if len(names) != 2 or not all(isinstance(data.get(n), str) for n in names):
        # Tags may have other names than the columns they show.
        names = [k for k, v in data.items() if k != asked and isinstance(v, str)]
    if len(names) != 2:
        raise UserError(
            f"{where}: `to_name` is {result.get('to_name')!r}, and `data` has not just two other texts"
        )
    selected = result["value"].get("selected")
    if selected not in ("left", "right"):
        raise UserError(f"{where}: `selected` must be left or right, not {selected!r}")
    ranks = dict(zip(names, (1, 2) if selected == "left" else (2, 1), strict=True))
    texts = {name: data[name] for name in names}
    return _compared(where, prompt, texts, ranks, order_shown=(0, 1), **about)


def _ranker(where: str, data: dict, result: dict, about: dict[str, Any]) -> Comparison:
    prompt, _ = _prompt_among(where, data)
    ranked: Any = result["value"]["ranker"]
    if isinstance(ranked, dict):
        # `_` are the items that were left where they were.
        buckets = {k: v for k, v in ranked.items() if k != "_" and v} or {"_": ranked.get("_")}
        if len(buckets) > 1:
            raise UserError(f"{where}: `ranker` has several buckets, which have no order")
        ranked = next(iter(buckets.values()))
    lists = [v for v in data.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
    if not isinstance(ranked, list) or len(lists) != 1:
        raise UserError(f"{where}: `ranker` needs a list of ids, and `data` one list of items")
    texts = {str(i.get("id")): str(i.get("body") or i.get("title") or "") for i in lists[0]}
    if unknown := [i for i in map(str, ranked) if i not in texts]:
        raise UserError(f"{where}: `ranker` names {unknown[0]!r}, which is no id of an item")
    ranks = {str(i): place for place, i in enumerate(ranked, start=1)}
    return _compared(where, prompt, texts, ranks, **about)


def _prompt_among(where: str, fields: Mapping[str, Any]) -> tuple[Prompt, str]:
    """The prompt, and the name of its field; a question or an instruction is a user's turn."""
    for name in PROMPTS:
        if name in fields:
            prompt = prompt_from(where, name, fields[name])
            if isinstance(prompt, str) and name in ("instruction", "question", "query"):
                prompt = (Message("user", prompt),)
            return prompt, name
    raise UserError(
        f"{where}: expected a field {', '.join(f'`{p}`' for p in PROMPTS)}, found "
        f"{', '.join(fields) or 'none'}"
    )


def _compared(
    where: str, prompt: Prompt, texts: Mapping[str, str], ranks: Mapping[str, int], **about: Any
) -> Comparison:
    """The ranked fields, in the order in which they stand in the record."""
    names = [name for name in texts if name in ranks]
    row = {"prompt": None, "responses": [texts[n] for n in names]}
    row |= {"ranking": [ranks[n] for n in names], **about}
    row["order_shown"] = list(about["order_shown"]) if "order_shown" in about else None
    row["prompt"] = (
        prompt
        if isinstance(prompt, str)
        else [{"role": m.role, "content": m.content} for m in prompt]
    )
    return comparison_of(where, row)


def _plainly(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).lower()


def _name(user: Any) -> str | None:
    return None if user in (None, "", "None") else str(user)


READERS: dict[str, Callable[[str, dict[str, Any]], Iterator[Comparison]]] = {
    "plain": _plain,
    "argilla": _argilla,
    "label-studio": _label_studio,
}
