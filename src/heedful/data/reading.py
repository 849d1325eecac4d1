"""Sources → rows → items: one file or several, columns by other names, and aloud what was not read.

    --data a.jsonl b.jsonl@0.5 hf:org/name:config:split     b with half of its rows
    --columns prompt=frage completion=antwort

A share above 1 repeats rows: `@2` is every row twice.
"""

from __future__ import annotations

import logging
import os
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from heedful.data.columns import SYSTEM, TEMPLATE
from heedful.data.files import Broken, Row, unbroken
from heedful.data.forms import ASKED, in_their_words, standard
from heedful.data.message_trees import TREE, questions
from heedful.data.tables import read_export
from heedful.errors import UserError

Source = str | Path | Sequence[str | Path]
SHARE = re.compile(r"\d+(?:\.\d+)?|\.\d+")
NUMBER = re.compile(r"[-+]?(?:[\d.,]+(?:e[-+]?\d+)?%?|nan|inf)", re.IGNORECASE)
# Columns that heedful itself writes beside the wanted ones, and those that say who a row is.
BESIDE = {
    "index", "logprob", "stop_reason", "model", "seed", "tokens", "reward", "reward_parts", "gold", "voice", "rater",
    "judgment", "created_at", "strength", "order_shown", "seconds", "policy_version", "outcome", "source",
    "licence", "language", "split", "checkpoint", "engine", "sampling", "logprobs", "turn", "kl", "id", "prefilled",
    "reward_extra", "win", "explanation", TREE,
}  # fmt: skip
MANY = 100_000  # numbers of which a set may be made
log = logging.getLogger("heedful")
T = TypeVar("T")


def sources_of(source: Source) -> list[str]:
    """The files of a source, as they were typed."""
    return [str(source)] if isinstance(source, str | Path) else [str(s) for s in source]


def named(source: Source) -> str:
    """A source as messages call it."""
    return " ".join(sources_of(source))


def share_of(source: str) -> tuple[str, float]:
    """A file and the share of its rows that is wanted: 1, unless `@0.5` stands behind its name."""
    name, _, share = source.rpartition("@")
    if not name or os.path.exists(source):
        return source, 1.0
    if SHARE.fullmatch(share) and float(share) > 0:
        return name, float(share)
    if os.path.exists(name) or NUMBER.fullmatch(share):
        raise UserError(
            f"{source}: a share of the rows must be a number above 0, such as {name}@0.5 for half of them, "
            f"not {share or 'nothing'}"
        )
    return source, 1.0


def renamed_by(columns: Sequence[str]) -> dict[str, str]:
    """A row's own name of a column → heedful's, of `prompt=question,completion=answer`."""
    names: dict[str, str] = {}
    for pair in (p.strip() for word in columns for p in word.split(",") if p.strip()):
        wanted, equals, found = pair.partition("=")
        if not equals or not wanted.strip() or not found.strip():
            raise UserError(f"--columns {pair}: expected pairs such as prompt=question")
        if found.strip() in names:
            raise UserError(f"--columns names `{found.strip()}` twice")
        names[found.strip()] = wanted.strip()
    return names


def read_table(
    source: Source, columns: Sequence[str] = (), *, lines: bool = False, broken: bool = False
) -> Iterator[Row]:
    """Rows of one or several files, under the names that `columns` gives them; `lines` and `broken` as `read_rows` has
    them."""
    names = renamed_by(columns)
    for file in sources_of(source):
        name, share = share_of(file)
        rows = questions(read_export(name, lines=lines, broken=broken))
        for number, (where, row) in enumerate(rows):
            # Spread evenly over the file, so that the share holds however far one reads.
            for _ in range(int((number + 1) * share) - int(number * share)):
                row = row if broken else unbroken(row)
                yield where, _renamed(where, row, names) if names else row


def _renamed(where: str, row: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    if isinstance(row, Broken):
        return row
    if missing := [n for n in names if n not in row]:
        raise UserError(
            f"{where}: --columns names `{missing[0]}`, found {', '.join(row) or 'none'}"
        )
    # What is asked of somebody stays a user's turn, whichever column it is called for.
    wanted = {n: "question" if w == "prompt" and n in ASKED else w for n, w in names.items()}
    rest = {k: v for k, v in row.items() if k not in names and k not in wanted.values()}
    return {wanted[n]: row[n] for n in names} | rest


class Aside(str):
    """What a parser says of something in a row that is no item: it is counted, and told with the rest."""


@dataclass
class Reading:
    """What a reader tells who gives it one: where the last item stood, and at the end what was left out."""

    place: str = ""
    rows: int = 0
    skipped: int = 0
    reason: str = ""


@dataclass
class Tally:
    """What is told of a source once it is read, in one line."""

    source: Source
    rows: int = 0
    skipped: int = 0
    reason: str = ""
    again: int = 0
    asides: Counter[str] = field(default_factory=Counter)
    unread: dict[str, None] = field(default_factory=dict)

    def tell(self) -> None:
        """Say it, if there is anything to say."""
        told = []
        if self.skipped:
            told.append(f"skipped {self.skipped} invalid rows, the first: {self.reason}")
        if self.again:
            told.append(f"{self.again} of {self.rows} rows repeat an earlier one")
        told += [f"{what} ({number})" for what, number in self.asides.items()]
        if self.unread:
            told.append(f"nobody reads the columns {', '.join(self.unread)}")
        if told:
            log.warning("%s: %s", named(self.source), "; ".join(told))


def read_items(
    source: Source,
    rows: Iterable[Row],
    parse: Callable[[str, dict[str, Any]], Iterable[T | Aside]],
    *,
    reads: Callable[[dict[str, Any]], Iterable[str]] | None = None,
    skip_bad: bool | None = None,
    reading: Reading | None = None,
) -> Iterator[T]:
    """What `parse` makes of the rows of a source, one by one; `reads` names the columns that it looked at in one, by
    default all.

    A row that does not fit is an error, or left out and counted with `skip_bad`; None where there is no such choice.
    What there is to say of the source is told behind the last. Who gives a `reading` tells what was left out.
    """
    tally, seen, place = Tally(source), array("q"), ""
    looked_at = set[tuple[str, ...]]()
    number = 0
    for where, row in rows:
        tally.rows += 1
        try:
            made = list(parse(where, unbroken(row)))
        except UserError as error:
            reason = in_their_words(str(error), row)
            if not skip_bad:
                told = skip_bad is False or reading is not None
                hint = "; --on-bad-row drop leaves such rows out" if told else ""
                raise UserError(f"{reason}{hint}") from error
            tally.skipped, tally.reason = tally.skipped + 1, tally.reason or reason
            continue
        for one in made:
            if isinstance(one, Aside):
                tally.asides[one] += 1
        if where != place and made:  # and no repetition that was asked for
            seen.append(hash(repr(made)))
        place = where
        if reads is not None:
            names = tuple([name for name, value in row.items() if value is not None])
            if names not in looked_at:
                looked_at.add(names)
                read = {*reads(row), *BESIDE}
                tally.unread |= {name: None for name in names if name not in read}
        for one in made:
            if not isinstance(one, Aside):
                number += 1
                if reading is not None:
                    reading.place = where
                yield one
    if not number and tally.skipped:
        raise UserError(
            f"{named(source)}: all {tally.skipped} rows are unusable; the first: {tally.reason}"
        )
    tally.again = _repeated(seen)
    if reading is not None:
        reading.rows, reading.skipped, reading.reason = tally.rows, tally.skipped, tally.reason
        tally.skipped = 0
    tally.tell()


def _repeated(hashes: array[int]) -> int:
    """How many of them stand there another time."""
    parts = 1 + len(hashes) // MANY  # a set of all would take more memory than whatever reads them
    return len(hashes) - sum(len({h for h in hashes if h % parts == k}) for k in range(parts))


def reader_of(*wanted: str) -> Callable[[dict[str, Any]], set[str]]:
    """For `read_items`: a parser reads these of heedful's columns, whatever the file calls them."""
    return lambda row: {*wanted, *TEMPLATE, *SYSTEM, *(row.keys() - standard(row).keys())}
