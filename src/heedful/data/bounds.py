"""Whether what came over the network can be read whole: how many bytes, values and levels it has once unpacked.

What is to be bounded is not parsed to find out. A file of one's own disk is not asked.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from heedful.data.files import kind_of
from heedful.data.pages import pages
from heedful.errors import UserError

MAX_BYTES = 100_000_000  # of a file, unpacked
MAX_VALUE_BYTES = (
    20_000_000  # of one line, or of JSON that is parsed as one value: nobody is answered meanwhile
)
MAX_WEIGHT = 10_000_000  # values, of some 50 bytes each in memory, and CONTAINER more for each list, object and row
CONTAINER = 8
MAX_DEPTH = 100
MAX_CHUNKS = 100_000  # columns × row groups of Parquet
# A string, closed or not, taken in one piece: nothing in it is looked at twice.
STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class TooMuch(UserError):
    """More than there is room for."""


class Shape(NamedTuple):
    """Of a JSON text: at most how many values, how many lists and objects, and how deep they are."""

    values: int
    containers: int
    depth: int


def shape(text: bytes, most: int = MAX_DEPTH) -> Shape:
    """Linear in the length, and nothing is built; `depth` ends at one more than `most`."""
    bare = STRING.sub(b"", text)
    containers = bare.count(b"[") + bare.count(b"{")
    depth = deepest = 0
    for bracket in bare.translate(None, NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
        if deepest > most:
            break
    return Shape(1 + bare.count(b",") + containers, containers, deepest)


def check(path: Path) -> None:
    """Raises `TooMuch` for a file of rows that must not be read; whether it is whole, its reader says."""
    kind = kind_of(str(path))
    if kind == ".parquet":
        _check_parquet(path)
        return
    weight = 0
    try:
        with path.open("rb") as raw:
            file = gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else raw
            for piece in _pieces(path.name, cast(IO[bytes], file), kind):
                weight += _weight(path.name, piece, kind)
                if weight > MAX_WEIGHT:
                    raise TooMuch(f"{path.name} holds more values than there is room for; split it")
    except (EOFError, OSError, zlib.error):
        return


def _pieces(name: str, file: IO[bytes], kind: str) -> Iterator[bytes]:
    """What is parsed at once: lines, or the whole text where that is one JSON value."""
    total = 0
    while line := file.readline(MAX_VALUE_BYTES + 1):
        # JSON lines may be an array under this name.
        if total == 0 and (kind == ".json" or (kind == ".jsonl" and line.lstrip()[:1] == b"[")):
            line += file.read(MAX_VALUE_BYTES + 1)
        total += len(line)
        if len(line) > MAX_VALUE_BYTES:
            raise TooMuch(
                f"{name}: one line or value is longer than {MAX_VALUE_BYTES // 10**6} MB, too long to be sent; "
                "save it as JSON lines (.jsonl), a row a line, or use `heedful import` where the workspace is"
            )
        if total > MAX_BYTES:
            raise TooMuch(f"{name} unpacks to more than {MAX_BYTES} bytes")
        yield line


def _weight(name: str, piece: bytes, kind: str) -> int:
    if kind not in (".json", ".jsonl"):
        return CONTAINER + sum(piece.count(separator) for separator in (b",", b";", b"\t"))
    found = shape(piece)
    if found.depth > MAX_DEPTH:
        raise TooMuch(f"{name}: a row is nested more than {MAX_DEPTH} deep")
    return found.values + CONTAINER * found.containers


def _check_parquet(path: Path) -> None:
    """By what it says of itself, and then by what it is: a few bytes of a dictionary may stand for gigabytes."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return
    try:
        with path.open("rb") as file:
            table = pyarrow.parquet.ParquetFile(file)
            about: Any = table.metadata
            if about.num_columns * about.num_row_groups > MAX_CHUNKS:
                raise TooMuch(f"{path.name} has more columns and row groups than there is room for")
            chunks = [
                about.row_group(group).column(column)
                for group in range(about.num_row_groups)
                for column in range(about.num_columns)
            ]
            weight = sum(c.num_values for c in chunks) + CONTAINER * about.num_rows
            if weight > MAX_WEIGHT:
                raise TooMuch(f"{path.name} holds more values than there is room for; split it")
            sizes = [max(c.total_uncompressed_size, _unpacked(file, c)) for c in chunks]
            total = sum(sizes)
            # No value is longer than its chunk, so that no batch is longer than a file may be.
            rows = max(1, min(1024, MAX_BYTES // max(1, *sizes, 1)))
            if total <= MAX_BYTES:
                total = 0
                for batch in table.iter_batches(batch_size=rows):
                    total += batch.nbytes
                    if total > MAX_BYTES:
                        break
            if total > MAX_BYTES:
                raise TooMuch(f"{path.name} unpacks to more than {MAX_BYTES} bytes")
    except (pyarrow.ArrowException, OSError):
        return
    except ValueError as error:  # what another reader makes of it is not tried
        raise UserError(f"{path.name} has a Parquet page that cannot be read: {error}") from None


def _unpacked(file: IO[bytes], chunk: Any) -> int:
    """The bytes of a column chunk by its pages' own headers. ValueError where they say what cannot be."""
    start, dictionary = chunk.data_page_offset, chunk.dictionary_page_offset
    if dictionary is not None and 0 < dictionary < start:
        start = dictionary
    total = values = 0
    for page in pages(file, start, chunk.total_compressed_size):
        total += page.size
        values += 0 if page.is_dictionary else page.values
        if (page.is_dictionary and page.values > page.size) or values > chunk.num_values:
            raise ValueError("it has more values than there can be")
        if total > MAX_BYTES:
            break
    return total
