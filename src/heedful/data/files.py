"""Rows from and to files: JSONL, JSON, CSV, Parquet, text, gzip of them, and Hugging Face datasets."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from heedful.errors import UserError

Row = tuple[str, dict[str, Any]]  # where it stands, for error messages, and what it says
KINDS = (".jsonl", ".json", ".csv", ".parquet", ".txt")


def read_rows(source: str | Path) -> Iterator[Row]:
    """Rows with their places, such as `pairs.jsonl:12`. A source without any row is an error."""
    count = 0
    for count, row in enumerate(_rows(str(source)), start=1):  # noqa: B007
        yield row
    if count == 0:
        raise UserError(f"{source} is empty: it has no rows")


def write_rows(path: str | Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write JSONL (gzipped if so named), entirely or not at all; returns the number of rows."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    count = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as raw, _packed(raw, path) as file:
            for row in rows:
                line = json.dumps(row, ensure_ascii=False)
                file.write(line.encode("utf-8", "surrogatepass") + b"\n")
                count += 1
            file.flush()
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(f"disk full while writing {path}; nothing was written") from error
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return count


def _packed(raw: IO[bytes], path: Path) -> Any:
    # No time and no name in the gzip header: the same rows give the same bytes.
    return (
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) if path.suffix == ".gz" else raw
    )


def _rows(source: str) -> Iterator[Row]:
    if source.startswith("hf:"):
        yield from _hub(source)
        return
    path = Path(source)
    if not path.exists():
        raise UserError(f"{source}: there is no such file")
    if path.is_dir():
        raise UserError(f"{source} is a folder; a file of rows is needed")
    kind = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if kind not in KINDS:
        raise UserError(
            f"{source}: cannot tell what it is; expected one of {', '.join(KINDS)} (.gz)"
        )
    if kind == ".parquet":
        yield from _parquet(path)
        return
    try:
        with path.open("rb") as raw, _opened(raw, path) as file:
            if kind == ".txt":
                yield from _paragraphs(path.name, file)
            elif kind == ".csv":
                for number, row in enumerate(csv.DictReader(file), start=2):
                    yield f"{path.name}:{number}", {k: v for k, v in row.items() if k is not None}
            elif kind == ".json":
                yield from _json(path.name, file)
            else:
                yield from _json_lines(path.name, file)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{source} is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from error
    except (EOFError, gzip.BadGzipFile) as error:
        raise UserError(f"{source} is not whole gzip data: {error}") from error


def _opened(raw: IO[bytes], path: Path) -> io.TextIOWrapper:
    data: Any = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
    return io.TextIOWrapper(data, encoding="utf-8-sig", newline="")


def _json_lines(name: str, file: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield f"{name}:{number}", _object(f"{name}:{number}", line)


def _json(name: str, file: IO[str]) -> Iterator[Row]:
    text = file.read()
    if not text.lstrip().startswith("["):
        yield from _json_lines(name, io.StringIO(text))
        return
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{name}:{error.lineno} is not JSON: {error.msg}") from error
    for number, row in enumerate(rows, start=1):
        where = f"{name} item {number}"
        if not isinstance(row, dict):
            raise UserError(f"{where} is {_article(row)}, expected an object")
        yield where, row


def _object(where: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not JSON: {error.msg} (column {error.colno})") from error
    if not isinstance(row, dict):
        raise UserError(f'{where} is {_article(row)}, expected an object like {{"text": …}}')
    return row


def _article(value: Any) -> str:
    names = {list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _paragraphs(name: str, file: Iterable[str]) -> Iterator[Row]:
    lines: list[str] = []
    start = 1
    for number, line in enumerate([*file, ""], start=1):
        if line.strip():
            start = start if lines else number
            lines.append(line.rstrip("\r\n"))
        elif lines:
            yield f"{name}:{start}", {"text": "\n".join(lines)}
            lines = []


def _parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"{path} needs pyarrow: pip install 'heedful[parquet]'") from None
    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise UserError(f"{path} is not Parquet: {' '.join(str(error).split())[:120]}") from error
    for number, row in enumerate(rows, start=1):
        yield f"{path.name} row {number}", row


def _hub(source: str) -> Iterator[Row]:
    name, _, split = source.removeprefix("hf:").partition(":")
    try:
        from datasets import load_dataset
    except ImportError:
        raise UserError(f"{source} needs datasets: pip install 'heedful[hub]'") from None
    try:
        rows: Any = load_dataset(name, split=split or "train")
    except Exception as error:  # offline, unknown name or split: the library has many types for it
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{source} cannot be loaded: {reason}") from error
    for number, row in enumerate(rows, start=1):
        yield f"{source} row {number}", dict(row)
