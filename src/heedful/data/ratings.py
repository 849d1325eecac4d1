"""Rows → ratings of single responses on named axes, and verdicts by rule.

    {"prompt": …, "completion": …, "axis": "helpful", "value": 4, "rater": "ada"}       one value a row, as exported
    {"prompt": …, "response": …, "helpfulness": 4, "verbosity": 1}                       one column an axis (HelpSteer)

A rule is an axis of which only true and false, or 1 and 0, are said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from heedful import exact
from heedful.data.columns import as_chat, column, name_in, prompt_from, response, with_template
from heedful.data.comparisons import weight_in
from heedful.data.forms import standard
from heedful.data.reading import Reading, Source, read_items, read_table
from heedful.errors import UserError
from heedful.types import Rated

WORDS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}


def stream_ratings(
    source: Source,
    columns: Sequence[str] = (),
    *,
    axes: Sequence[str] = (),
    skip_bad: bool | None = None,
    reading: Reading | None = None,
) -> Iterator[Rated]:
    """Ratings, those of neighbouring rows that one rater gave one response together; of `axes` only, or of all where
    the rows name theirs in a column `axis`."""

    def parse(where: str, row: dict[str, Any]) -> list[Rated]:
        return ratings_of(where, row, axes)

    reading = reading or Reading()
    rows = read_table(source, columns, broken=True)
    return _together(read_items(source, rows, parse, skip_bad=skip_bad, reading=reading), reading)


def ratings_of(where: str, row: Mapping[str, Any], axes: Sequence[str] = ()) -> list[Rated]:
    """What a row says of its response: nothing, where it is about other axes."""
    values = _values(where, row, axes)
    row = standard(row)
    completion = column(where, row, "completion")
    prompt = as_chat(prompt_from(where, "prompt", column(where, row, "prompt")), completion)
    text = response(where, "completion", completion)
    who, weight = name_in(where, row, "rater"), weight_in(row)
    return [Rated(with_template(where, row, prompt), text, values, who, weight)] if values else []


def _values(where: str, row: Mapping[str, Any], axes: Sequence[str]) -> dict[str, float]:
    if "axis" in row and "value" in row:
        axis = name_in(where, row, "axis")
        named = {} if axis is None or (axes and axis not in axes) else {axis: row["value"]}
    elif axes:
        if not any(axis in row for axis in axes):
            raise UserError(
                f"{where}: none of the axes {', '.join(axes)} is a column; found {', '.join(row)}"
            )
        named = {axis: row[axis] for axis in axes if axis in row}
    else:
        raise UserError(
            f"{where}: expected the columns `axis` and `value`, or --axes NAME … with the names of columns that hold "
            f"ratings; found {', '.join(row)}"
        )
    return {a: _number(f"{where}: `{a}`", v) for a, v in named.items() if v is not None and v != ""}


def _number(where: str, value: Any) -> float:
    """A rating or a verdict; in CSV as text."""
    if isinstance(value, bool):
        return float(value)
    given = value
    if isinstance(value, str):
        word = value.strip().lower()
        if word in WORDS:
            return WORDS[word]
        with suppress(ValueError):
            value = float(word)
    exact.refuse(where, exact.number(value) and "must be a number, true or false", given)
    return float(value)


def _together(items: Iterable[Rated], reading: Reading) -> Iterator[Rated]:
    """Neighbours of one response by one rater as one; `reading.place` is where the first of them stood."""
    held: Rated | None = None
    place = ""
    for item in items:
        alike = held is not None and (item.prompt, item.response, item.rater, item.weight) == (
            held.prompt, held.response, held.rater, held.weight,
        )  # fmt: skip
        if held is not None and alike and not held.values.keys() & item.values.keys():
            held = replace(held, values={**held.values, **item.values})
            continue
        here = reading.place
        if held is not None:
            reading.place = place
            yield held
        held, place = item, here
    if held is not None:
        reading.place = place
        yield held
