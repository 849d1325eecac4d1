"""Tables as files whose every cell comes back: JSONL, CSV and Parquet, and the manifest that says how to read them.

A manifest `FILE.manifest.json` beside the file names each column and its type. In CSV, text is written as it is,
but a cell that a spreadsheet would take for a formula (after any number of ' comes =, +, -, @, tab or CR) gets a '
before it; everything that is no text is JSON. In Parquet, columns of the type json are JSON texts.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

from heedful import exact
from heedful.data.columns import unpacked
from heedful.data.files import Broken, Row, packed, read_rows, write_json
from heedful.disk import whole
from heedful.errors import UserError

FORMATS = ("jsonl", "csv", "parquet")
FORMULA = re.compile(r"'*[=+\-@\t\r]")
ROW_GROUP = 1000
as_json = exact.encoder()  # made once: `json.dumps` makes one for each value
OURS = (  # names that together are in no other program's file
    {"rater", "judgment", "created_at"},
    {"licence", "language", "split"},
    {"checkpoint", "stop_reason", "engine"},
)
TEXTS = ("prompt", "completion", "chosen", "rejected", "text", "question", "response")
TURNS = ("messages", "conversations")  # which hold nothing else
VALUES = (
    "strength", "margin", "seconds", "responses", "ranking", "order_shown", "messages", "conversations", "tools",
    "chat_template_kwargs", "index", "seed", "reward", "tokens", "logprobs", "sampling", "label",
)  # fmt: skip
TYPES = ("text", "texts", "number", "whole", "wholes", "truth", "messages", "json")


def format_of(path: str | Path) -> str:
    """jsonl, csv or parquet, by the file's name; `.gz` may follow the first two."""
    name = Path(path).name.lower()
    bare = name.removesuffix(".gz")
    for known in FORMATS:
        if bare.endswith(f".{known}") and (known != "parquet" or bare == name):
            return known
    raise UserError(f"{path}: name the file .jsonl, .csv (each also with .gz) or .parquet")


def write_table(
    path: str | Path,
    rows: Iterable[Mapping[str, Any]],
    columns: Mapping[str, str],
    escaped: Callable[[Any], Any] = lambda row: row,
) -> int:
    """Write rows, entirely or not at all; the same rows give the same bytes. Returns how many.

    `columns` are names and `TYPES`; a cell that a row lacks is empty. `escaped` makes a row one that has neither lone
    surrogates nor NUL.
    """
    path, kind = Path(path), format_of(path)
    with whole(path) as raw:
        if kind == "parquet":
            return _parquet(raw, map(escaped, rows), columns)
        with packed(raw, path) as file:
            if kind == "csv":
                return _csv(file, map(escaped, rows), columns)
            return _jsonl(file, rows, columns, escaped)


def write_manifest(path: str | Path, manifest: dict[str, Any]) -> Path:
    """The sidecar of the file at `path`."""
    sidecar = manifest_path(path)
    write_json(sidecar, manifest)
    return sidecar


def manifest_path(path: str | Path) -> Path:
    return Path(f"{path}.manifest.json")


def sha256_of(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(source: str | Path) -> dict[str, Any] | None:
    """What stands beside the file, if anything does; `UserError` if it is about another version of the file."""
    sidecar = manifest_path(source)
    if not sidecar.is_file() or not Path(source).is_file():
        return None
    try:
        manifest = json.loads(sidecar.read_text(encoding="utf-8"))
        columns, sha256 = manifest["columns"], manifest["sha256"]
        known = set(columns.values()) <= set(TYPES)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise UserError(f"{sidecar} is no manifest of an export") from None
    if not known:
        raise UserError(f"{sidecar} was written by a newer heedful")
    if sha256 != sha256_of(source):
        raise UserError(
            f"{sidecar} belongs to another version of {source}: the sha256 differs; without a manifest "
            "the file is read as it is"
        )
    return manifest


def read_export(source: str | Path, *, lines: bool = False, broken: bool = False) -> Iterator[Row]:
    """Rows of any source as `read_rows` has them; those of an export in CSV or Parquet have the types they were written
    with.

    Without a manifest, as a browser downloads it, the columns of a CSV file say by their names what they hold.
    """
    bare = str(source).lower().removesuffix(".gz")
    csv_cells = bare.endswith((".csv", ".tsv"))
    if bare.endswith((".csv", ".parquet")) and (manifest := read_manifest(source)):
        return typed(read_rows(source), manifest["columns"], csv_cells=csv_cells)
    rows = read_rows(source, lines=lines, broken=broken)
    if csv_cells:
        return map(_guessed, rows)
    kept = (*TURNS, *TEXTS) if bare.endswith(".parquet") else TURNS
    return (_with_messages(where, row, kept) for where, row in rows)


def is_export(row: Mapping[str, Any]) -> bool:
    """Whether a row has the columns that only an export of heedful has."""
    return _is_ours(tuple(row))


@lru_cache
def _is_ours(names: tuple[str, ...]) -> bool:
    return any(ours <= set(names) for ours in OURS)


def _guessed(placed: Row) -> Row:
    """Cells of a CSV file without a manifest: empty ones are left out, numbers and lists are such again."""
    where, row = placed
    if isinstance(row, Broken):
        return placed
    ours, cells = is_export(row), {}
    for name, value in row.items():
        if value == "" and name not in TEXTS:
            continue
        packed = unpacked(where, name, value)
        if name in TEXTS and not isinstance(packed, str):
            value = packed
        elif name in VALUES:
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                cells[name] = value  # no JSON: whoever reads it will say what is wrong
                continue
        elif ours:
            value = _without_mark(value)
        cells[name] = value
    return where, cells


def _with_messages(where: str, row: dict[str, Any], names: Iterable[str]) -> Row:
    """The row, with lists where these columns hold messages as JSON text."""
    texts = {name: value for name in names if isinstance(value := row.get(name), str)}
    for name, value in texts.items():
        if not isinstance(told := unpacked(where, name, value), str):
            row = {**row, name: told}
    return where, row


def _without_mark(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def typed(rows: Iterable[Row], columns: Mapping[str, str], *, csv_cells: bool) -> Iterator[Row]:
    """Cells as they were before `write_table`; empty ones are left out."""
    for where, row in rows:
        cells = {}
        for name, value in row.items():
            kind = columns.get(name, "text")
            if value is None or (value == "" and kind != "text"):
                continue
            if csv_cells and kind == "text":
                value = _without_mark(value)
            elif csv_cells or kind == "json":
                try:
                    value = json.loads(value)
                except (ValueError, RecursionError):
                    raise UserError(f"{where}: `{name}` is not the JSON it ought to be") from None
            cells[name] = value
        yield where, cells


def _jsonl(
    file: IO[bytes],
    rows: Iterable[Mapping[str, Any]],
    columns: Mapping[str, str],
    escaped: Callable[[Any], Any],
) -> int:
    count = 0
    for row in rows:
        count += 1
        given = {name: row[name] for name in columns if row.get(name) is not None}
        file.write(_line(given, escaped) + b"\n")
    return count


def _line(row: dict[str, Any], escaped: Callable[[Any], Any]) -> bytes:
    try:
        line = as_json(row).encode()
        if (
            b"\\u00" not in line
        ):  # as NUL stands in JSON; so it is nearly always seen that nothing is to be escaped
            return line
    except UnicodeEncodeError:
        pass  # a lone surrogate
    return as_json(escaped(row)).encode()


def _csv(file: IO[bytes], rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> int:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    # With \r\n as the end of a row, cells with either are quoted.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    count = 0
    for row in rows:
        count += 1
        writer.writerow([_cell(row.get(name), kind) for name, kind in columns.items()])
    text.detach()
    return count


def _cell(value: Any, kind: str) -> str:
    if value is None:
        return ""
    if kind != "text":
        return json.dumps(value, ensure_ascii=False)
    return f"'{value}" if FORMULA.match(value) else value


def _parquet(raw: IO[bytes], rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> int:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UserError("Parquet needs pyarrow: pip install 'heedful[parquet]'") from None
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    arrow = {
        "text": pa.string(),
        "json": pa.string(),
        "texts": pa.list_(pa.string()),
        "number": pa.float64(),
        "whole": pa.int64(),
        "wholes": pa.list_(pa.int64()),
        "truth": pa.bool_(),
        "messages": pa.list_(message),
    }
    schema = pa.schema([(name, arrow[kind]) for name, kind in columns.items()])
    count, rest = 0, iter(rows)
    # Everything that changes the bytes is said here, and not left to the library's defaults.
    with pq.ParquetWriter(
        cast(Any, raw),
        schema,
        version="2.6",
        compression="zstd",
        compression_level=3,
        data_page_version="1.0",
        use_dictionary=True,
        write_statistics=True,
    ) as writer:
        while group := list(islice(rest, ROW_GROUP)):
            count += len(group)
            records = [
                {
                    name: json.dumps(row[name], ensure_ascii=False)
                    if kind == "json" and row.get(name) is not None
                    else row.get(name)
                    for name, kind in columns.items()
                }
                for row in group
            ]
            writer.write_table(
                pa.Table.from_pylist(records, schema=schema), row_group_size=ROW_GROUP
            )
    return count
