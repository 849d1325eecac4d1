"""Rows from and to files: JSONL, JSON, CSV, TSV, Parquet, text, gzip of them, and Hugging Face datasets."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from heedful.data.hub import hub_rows
from heedful.disk import is_pointer, whole
from heedful.errors import UserError

Row = tuple[str, dict[str, Any]]  # where it stands, for error messages, and what it says
KINDS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")
WRAPS = ("data", "train", "rows", "examples", "instances")  # keys that some tools put around rows
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # how such a file begins
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # as JSON escapes it; fine in pairs, no text alone


class Broken(dict[str, Any]):
    """A row of a file that is none, such as half a line of JSON: without columns, and with the error that says why.

    Whoever has a policy for rows that do not fit applies it to these, too; `unbroken` raises.
    """

    def __init__(self, error: UserError):
        super().__init__()
        self.error = error


def unbroken(row: dict[str, Any]) -> dict[str, Any]:
    """The row; the error of one that is `Broken`."""
    if isinstance(row, Broken):
        raise row.error
    return row


def read_rows(source: str | Path, *, lines: bool = False, broken: bool = False) -> Iterator[Row]:
    """Rows with their places, such as `pairs.jsonl:12`. A source without any row is an error.

    Of a text file a row is a paragraph, `{"text": …}`, or with `lines` a line, `{"prompt": …}`. With `broken` a line of
    JSON or CSV that is no row is one that is `Broken`, else an error.
    """
    count = 0
    for count, (where, row) in enumerate(_rows(str(source), lines), start=1):  # noqa: B007
        yield where, row if broken else unbroken(row)
    if count == 0:
        raise UserError(f"{source} is empty: it has no rows")


def write_rows(path: str | Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write JSONL (gzipped if so named), entirely or not at all; returns the number of rows."""
    path, count = Path(path), 0
    with whole(path) as raw, packed(raw, path) as file:
        for row in rows:
            count += 1
            _whole_text(f"row {count} for {path.name}", row)
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return count


def add_rows(path: str | Path, *rows: dict[str, Any]) -> None:
    """Behind those that are there; the file is replaced as a whole, so that it is never half written."""
    before = [row for _, row in read_rows(path)] if Path(path).exists() else []
    write_rows(path, [*before, *rows])


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file, entirely or not at all."""
    with whole(Path(path)) as file:
        file.write(json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n")


def packed(raw: IO[bytes], path: Path) -> Any:
    """The file itself, or gzip into it; without time and name in the header, so that equal rows are equal bytes."""
    return (
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0)
        if path.suffix.lower() == ".gz"
        else raw
    )


def kind_of(source: str) -> str:
    """One of `KINDS`; UserError where there is no file of rows."""
    path = Path(source)
    if source.startswith("db:"):
        raise UserError(f"{source}: files and data sets of the hub are read here, no workspace")
    if not os.path.exists(path):  # unlike Path.exists, also answers for names too long for a file
        on_hub = source.count("/") == 1 and not path.suffix and not path.parent.is_dir()
        hint = f"; a data set of the hub is --data hf:{source}" if on_hub else ""
        raise UserError(f"{source}: there is no such file{hint}")
    if path.is_dir():
        raise UserError(
            f"{source} is a folder; a file of rows is needed, or hf:{source} where it is a data set of the hub's layout"
        )
    kind = (Path(path.stem) if path.suffix.lower() == ".gz" else path).suffix.lower()
    if kind not in KINDS:
        raise UserError(
            f"{source}: cannot tell what it is; expected one of {', '.join(KINDS)} (.gz)"
        )
    return kind


def refuse_name(path: Path) -> None:
    """UserError for a name that says something else than JSON lines, which is what `write_rows` writes."""
    bare = path.name.lower().removesuffix(".gz")
    if not bare.endswith((".jsonl", ".json")):
        raise UserError(f"--out {path} would hold JSON lines; name it .jsonl or .jsonl.gz")
    above = next((p for p in path.parents if p.exists()), path)
    if above.is_file():
        raise UserError(f"--out {path}: {above} is a file, a folder is needed")


def _rows(source: str, by_line: bool) -> Iterator[Row]:
    if source.startswith("hf:"):
        yield from hub_rows(source)
        return
    path, kind = Path(source), kind_of(source)
    try:
        if is_pointer(path):
            raise UserError(
                f"{source} is a pointer of git-lfs, not the file itself; say `git lfs pull` in its folder"
            )
        if kind == ".parquet":
            yield from _parquet(path)
            return
        with path.open("rb") as raw:
            file: Any = gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else raw
            lines = _lines(path.name, file)
            parse = {".csv": _csv, ".tsv": _csv, ".json": _json, ".jsonl": _json_lines}
            parse[".txt"] = _prompts if by_line else _paragraphs
            yield from parse[kind](path.name, lines)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{source} is not whole gzip data: {error}") from error
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror or error}") from error


def _lines(name: str, file: Any) -> Iterator[str]:
    if file.peek(2)[:2] in UTF_16:  # as spreadsheets write "Unicode text"
        try:
            yield from io.TextIOWrapper(file, encoding="utf-16", newline="\n")
        except UnicodeDecodeError as error:
            raise UserError(f"{name} is not whole UTF-16 text: {error.reason}") from error
        return
    for number, raw in enumerate(file, start=1):
        try:
            yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{name}:{number} is not UTF-8 text: {error.reason} at byte {error.start} of the line; "
                f"save it as UTF-8, such as by iconv -f {_guessed(raw)} -t utf-8"
            ) from error


def _guessed(raw: bytes) -> str:
    """The encoding that such a line is mostly in: spreadsheets write UTF-16 or Windows-1252."""
    return "utf-16" if b"\0" in raw else "cp1252"


def _json_lines(name: str, lines: Iterable[str]) -> Iterator[Row]:
    """An object a line; an array under this name is read as one."""
    stream = iter(lines)
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        if number == 1 and line.lstrip().startswith("["):
            whole_text = line + "".join(stream)
            if _is_table(whole_text):
                yield from _json(name, [whole_text])
                return
        where = f"{name}:{number}"
        try:
            row = _object(where, _parsed(where, line), line)
        except UserError as error:
            row = Broken(error)
        if number == 1:
            _refuse_columns(name, row)
        yield where, row


def _is_table(text: str) -> bool:
    """Whether a text is a JSON array of objects."""
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(rows, list) and all(isinstance(row, dict) for row in rows)


def _rows_in(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def _json(name: str, lines: Iterable[str]) -> Iterator[Row]:
    """One array, one object over several lines, or JSON lines under another name."""
    read_lines = list(lines)
    text = "".join(read_lines)
    if text.lstrip().startswith("["):
        for number, row in enumerate(_parsed(name, text, whole=True), start=1):
            where = f"{name} item {number}"
            try:
                row = _object(where, row, text)
            except UserError as error:
                row = Broken(error)
            yield where, row
        return
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        yield from _json_lines(name, read_lines)
        return
    row = _parsed(name, text)
    if isinstance(row, dict) and (key := next((k for k in WRAPS if _rows_in(row.get(k))), "")):
        raise UserError(
            f"{name} is one object, whose `{key}` holds {len(row[key])} rows; leave that list alone in the file"
        )
    _refuse_columns(name, row)
    yield f"{name}:1", _object(f"{name}:1", row, text)


def _refuse_columns(name: str, row: Any) -> None:
    """An object of whole columns, as pandas and `Dataset.to_dict` write them, is no row."""
    columns = list(row.values()) if isinstance(row, dict) else []
    if not columns or not all(type(c) is type(columns[0]) and c for c in columns):
        return
    if isinstance(columns[0], dict):
        whole_columns = all(c.keys() == columns[0].keys() for c in columns)
        whole_columns &= all(key.isdigit() for key in columns[0])
    else:  # a row may hold lists, too: of messages, which are objects, and of numbers
        whole_columns = isinstance(columns[0], list) and all(
            len(c) == len(columns[0]) and all(isinstance(v, str | list) for v in c) for c in columns
        )
    if whole_columns:
        raise UserError(
            f"{name} is one object of columns with {len(columns[0])} values each; rows are needed, as "
            "DataFrame.to_json(orient='records', lines=True) and Dataset.to_json of `datasets` write them"
        )


def _parsed(where: str, text: str, *, whole: bool = False) -> Any:
    try:
        return _reader.decode(text)
    except _Twice as error:
        raise UserError(f"{where}: {twice(str(error))}") from None
    except json.JSONDecodeError as error:
        line = f":{error.lineno}" if whole else ""  # a line's own number is in `where`
        raise UserError(f"{where}{line} is not JSON: {error.msg} (column {error.colno})") from error
    except (ValueError, RecursionError) as error:  # endless digits, endless nesting
        raise UserError(f"{where} is not JSON that can be read: {error}") from error


class _Twice(Exception):
    """A key that an object has twice: Python's own reader would let the last one win."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise _Twice(repeated(name for name, _ in pairs)[0])
    return row


_reader = json.JSONDecoder(object_pairs_hook=_once)  # made once: `json.loads` makes one a line


def repeated(names: Iterable[str]) -> list[str]:
    """Names that stand there more than once, in time linear in how many there are."""
    return [name for name, number in Counter(names).items() if number > 1]


def twice(name: str) -> str:
    """What is said of a name that stands twice in a header or an object."""
    return f"`{name}` is there twice; rename or remove one of them"


def _object(where: str, row: Any, text: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise UserError(f'{where} is {_article(row)}, expected an object like {{"text": …}}')
    if SURROGATE.search(text):
        _whole_text(where, row)
    return row


def _whole_text(where: str, row: dict[str, Any]) -> None:
    """Half an emoji, as careless truncation leaves it, can neither be written as UTF-8 nor tokenized."""
    for name, value in row.items():
        try:
            json.dumps({name: value}, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            raise UserError(
                f"{where}: `{ascii(name)[1:-1]}` holds half of a surrogate pair "
                f"({ascii(half)[1:-1]}), which is no text"
            ) from error


def _csv(name: str, lines: Iterable[str]) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)  # by default a text of more than 131,072 characters is an error
    stream = iter(lines)
    first = next(stream, "")
    # Spreadsheets of half of Europe write semicolons; a tie is a file of one column.
    separator = max((",", ";", "\t"), key=first.count)
    reader = csv.DictReader(itertools.chain([first], stream), delimiter=separator)
    try:
        names = [n.strip() for n in reader.fieldnames or ()]
        if again := repeated(n for n in names if n):
            raise UserError(f"{name}: the column {twice(again[0])}")
        reader.fieldnames = names
        for row in reader:
            where = f"{name}:{reader.line_num}"
            if None in row:
                more = "more fields than the header; a text with commas needs quotes"
                row = Broken(UserError(f"{where} has {more}"))
            elif None in row.values():
                row = Broken(UserError(f"{where} has fewer fields than the header"))
            yield where, row
    except csv.Error as error:
        raise UserError(f"{name}:{reader.line_num} is not CSV: {error}") from error


def _article(value: Any) -> str:
    names = {list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _paragraphs(name: str, lines: Iterable[str]) -> Iterator[Row]:
    paragraph: list[str] = []
    start = 1
    for number, line in enumerate(itertools.chain(lines, [""]), start=1):
        if line.strip():
            start = start if paragraph else number
            paragraph.append(line.rstrip("\r\n"))
        elif paragraph:
            yield f"{name}:{start}", {"text": "\n".join(paragraph)}
            paragraph = []


def _prompts(name: str, lines: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{name}:{number}", {"prompt": line.rstrip("\r\n")}


def _parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"{path} needs pyarrow: pip install 'heedful[parquet]'") from None
    number = 0
    try:
        with path.open("rb") as file:  # the library's messages would name the whole path
            table = pyarrow.parquet.ParquetFile(file)
            names = table.schema_arrow.names
            if again := repeated(names):
                raise UserError(f"{path}: the column {twice(again[0])}")
            for batch in table.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path.name} row {number}", row
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path} is not Parquet: {' '.join(str(error).split())[:120]}") from error
