"""Comparisons out of other tools' files: exports of Argilla and Label Studio, and TRL's forms told from each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from heedful.data.argilla import read_argilla, submissions
from heedful.data.columns import name_in
from heedful.data.comparisons import comparison_of, unpaired_of
from heedful.data.fields import Unanswered
from heedful.data.files import Row
from heedful.data.forms import standard
from heedful.data.label_studio import read_label_studio
from heedful.data.message_trees import TREE
from heedful.data.published import published
from heedful.data.reading import Aside, Reading, Source, read_items, reader_of
from heedful.errors import UserError
from heedful.types import Comparison, Prompt

FORMS = ("auto", "plain", "argilla", "label-studio")  # plain: heedful's, TRL's, HH-RLHF's columns
RATED = ("helpfulness", "reward", "score", "rating", "overall_score", "quality")
STEPWISE = "stepwise supervision (`completions` with `labels`) tells steps apart, not responses"


def comparisons(
    rows: Iterable[Row],
    form: str = "auto",
    *,
    skip_bad: bool | None = None,
    source: Source = "",
    need_one: bool = True,
    reading: Reading | None = None,
    check: Callable[[str, Comparison], None] = lambda where, comparison: None,
) -> Iterator[Comparison]:
    """Comparisons in the rows of a file, whichever tool wrote it; `UserError` with place and field if one does not fit,
    also by `check`.

    Tasks that nobody has answered, and answers that were thrown away, are left out and counted; with `skip_bad` so
    are rows that do not fit.
    """
    if form not in FORMS:
        raise UserError(f"unknown form '{form}', expected {', '.join(FORMS)}")
    beginning, number, item = "", 0, None
    asides: Counter[str] = Counter()

    def parse(where: str, row: dict[str, Any]) -> Iterator[Comparison | Aside]:
        nonlocal beginning, number
        beginning, number = beginning or where, number + 1
        for found in judged(where, row, form):
            if isinstance(found, Unanswered):
                found = Aside("a question has no answer")
            if isinstance(found, Aside):
                asides[found] += 1
            else:
                check(where, found)
            yield found

    for item in read_items(
        source or "the file", rows, parse, reads=_read, skip_bad=skip_bad, reading=reading
    ):
        yield item
    if item is None and need_one:
        why = "".join(f"; {what} ({n})" for what, n in asides.items())
        raise UserError(f"{beginning}: none of {number} rows holds an answer{why}")


def compared(where: str, row: dict[str, Any]) -> Iterator[Comparison]:
    """The comparisons in a row, whichever tool wrote it."""
    return (found for found in judged(where, row) if isinstance(found, Comparison))


def unanswered(rows: Iterable[Row], form: str = "auto") -> list[Unanswered]:
    """The questions in the rows of an annotation tool that nobody has answered."""
    records = ((w, r) for w, r in split_records(rows) if form != "auto" or form_of(r) != "plain")
    found = (f for where, row in records for f in judged(where, row, form, skip_bad=True))
    return [f for f in found if isinstance(f, Unanswered)]


def judged(
    where: str, row: dict[str, Any], form: str = "auto", *, skip_bad: bool = False
) -> Iterator[Comparison | Unanswered | Aside]:
    """What people said in a row, or in the records that it holds."""
    for place, record in split_records([(where, row)]):
        try:
            yield from READERS[form_of(record) if form == "auto" else form](place, record)
        except UserError:
            if not skip_bad:
                raise


def _read(row: dict[str, Any]) -> Iterable[str]:
    """The columns that are read: of other tools' files all that could be, of plain ones those of a comparison."""
    if form_of(row) != "plain" or "conversation_a" in published(row):
        return row.keys()
    return reader_of("prompt", "chosen", "rejected", "responses", "ranking", "messages")(row)


def is_vote(row: Mapping[str, Any]) -> bool:
    """Whether a row is of TRL's unpaired form."""
    return "completion" in row and "label" in row


def votes(
    rows: Iterable[Row],
    *,
    check: Callable[[str, str | None], None] = lambda where, rater: None,
    skip_bad: bool | None = None,
    source: Source = "",
) -> list[tuple[Prompt, str, bool, str | None]]:
    """TRL's unpaired form: prompt, completion, and a label that says whether it is good; then the rater, if any, once
    `check` has seen them. `skip_bad` as in `read_items`."""

    def parse(where: str, row: dict[str, Any]) -> Iterator[tuple[Prompt, str, bool, str | None]]:
        if "completions" in row and "labels" in row:
            raise UserError(f"{where}: {STEPWISE}")
        (one,) = unpaired_of(where, row)
        rater = name_in(where, row, "rater")
        check(where, rater)
        yield one.prompt, one.response, one.desirable, rater

    return list(read_items(source or "the file", rows, parse, skip_bad=skip_bad))


def form_of(row: Mapping[str, Any]) -> str:
    """Which tool has written a row."""
    if isinstance(row.get("annotations"), list) and isinstance(row.get("data"), dict):
        return "label-studio"
    nested = isinstance(row.get("fields"), dict) and isinstance(row.get("responses"), dict)
    if nested or _has_responses(tuple(row)):
        return "argilla"
    nested_values = [value for value in row.values() if isinstance(value, (list, dict))]
    if nested_values and any(submissions(value) is not None for value in nested_values):
        return "argilla"
    return "plain"


@lru_cache
def _has_responses(names: tuple[str, ...]) -> bool:
    """Whether there are columns as Argilla's `to_datasets` writes them; most rows of a file have the same."""
    return any(name.endswith(".responses") for name in names)


def _plain(where: str, row: dict[str, Any]) -> Iterator[Comparison | Aside]:
    if "completions" in row and "labels" in row:
        raise UserError(f"{where}: {STEPWISE}")
    if TREE in row and "ranking" not in row:
        yield Aside("a question without two ranked replies compares nothing")
        return
    if rated := [n for n in RATED if isinstance(row.get(n), int | float) and not _compares(row)]:
        raise UserError(
            f"{where}: one response with `{rated[0]}` compares nothing; `heedful judge --judge scores "
            f"--columns reward={rated[0]} --data …` ranks a prompt's responses by it"
        )
    if is_vote(row) and "chosen" not in row:
        raise UserError(
            f"{where}: `label` is about one response, which compares nothing; train on it with kto or bco, or import "
            "a file of such rows alone, as votes"
        )
    yield comparison_of(where, row)


def _compares(row: Mapping[str, Any]) -> bool:
    return bool(standard(row).keys() & {"chosen", "rejected", "responses", "ranking"})


def split_records(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows; the one object of Argilla's `to_dict` is columns of rows, or rows by their ids."""
    for where, row in rows:
        lists = [v for v in row.values() if isinstance(v, list)]
        if lists and len(lists) == len(row) and len({len(v) for v in lists}) == 1:
            answers = "responses" in row and "fields" in row
            if answers or _has_responses(tuple(row)):
                for i in range(len(lists[0])):
                    yield f"{where} record {i + 1}", {name: v[i] for name, v in row.items()}
                continue
        if row and all(isinstance(v, dict) and "fields" in v for v in row.values()):
            yield from ((f"{where} record {key}", value) for key, value in row.items())
            continue
        yield where, row


READERS: dict[str, Callable[[str, dict[str, Any]], Iterator[Comparison | Unanswered | Aside]]] = {
    "plain": _plain,
    "argilla": read_argilla,
    "label-studio": read_label_studio,
}
