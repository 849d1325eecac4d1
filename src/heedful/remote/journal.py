"""What was paid for, kept as it comes: a file of answers, each found again by the digest of what was asked.

A line of the file is JSON, {"key": sha256 of the request, "answer": …, "sum": …}, appended in one write, and on the
disk before anybody sees the answer; a line that was torn or damaged is no answer. Several processes may share a file.

Two things are kept so. A *cache* answers one request in the same way for ever, whoever asks (`limits.Limits.cache`).
A *recording* belongs to one piece of work that may be interrupted: within `recorded(…)` whatever is asked over the
network is written down, and who goes on there is given those answers, a thing that is asked twice both of them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heedful.disk import disk_errors, make_folder
from heedful.disk import sync as sync_to_disk
from heedful.errors import UserError

MISSING: Any = object()
ANSWERS = "answers.jsonl"
SHARE = 0.05  # of the time may go into syncing what is answered within this process
log = logging.getLogger("heedful")


def digest(request: Any) -> str:
    """sha256 of a request, made of JSON's kinds; of what else is in it, its `repr`."""
    text = json.dumps(request, sort_keys=True, default=repr, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Journal:
    """An append-only file of answers; absent until there is one."""

    def __init__(self, path: Path, about: Mapping[str, Any] | None = None):
        """`about` is written in front of the first answer."""
        self.path, self._begins_with = path, about
        self.about: dict[str, Any] | None = None  # what stands in front of those that are there
        self.answers: dict[str, Any] = {}
        self._read_to, self._damaged = 0, 0
        self._sync_at = 0.0

    def find(self, key: str) -> Any:
        """The answer to this request, of whichever process, or MISSING."""
        if key not in self.answers:
            self.read()
        return self.answers.get(key, MISSING)

    def read(self) -> dict[str, Any]:
        """Take in the whole lines that were appended since; returns all answers. Of equal requests the last counts."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._read_to)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return self.answers
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror or error}") from error
        self._read_to += len(whole + newline)
        before = self._damaged
        for line in whole.split(b"\n"):
            self._take(line)
        if self._damaged > before:
            log.warning(
                "%s: %d damaged lines are left out; what they answered is asked again",
                self.path,
                self._damaged - before,
            )
        return self.answers

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            row = json.loads(line)
            name = "about" if "about" in row else "answer"
            key, value = row["key"], row[name]
        except (ValueError, KeyError, TypeError, RecursionError):
            self._damaged += 1
            return
        if row.get("sum", _sum(key, value)) != _sum(key, value):  # older files have none
            self._damaged += 1
        elif name == "about":
            self.about = value
        else:
            self.answers[key] = value

    def write(self, key: str, answer: Any, *, sync: bool = True) -> None:
        """Append an answer. Without `sync` it is safe from a crash of this process at once, of the machine a little
        later."""
        lines = [_line(key, "answer", answer)]
        if self._begins_with is not None and not self.path.exists():
            lines.insert(0, _line("", "about", dict(self._begins_with)))
        self.answers[key] = answer
        with disk_errors(self.path):
            self._append("".join(lines).encode(), sync)

    def _append(self, lines: bytes, sync: bool) -> None:
        if new := not self.path.exists():
            make_folder(self.path.parent)
        with open(self.path, "a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = file.seek(0, os.SEEK_END)
            if end and os.pread(file.fileno(), 1, end - 1) != b"\n":  # somebody died within a line
                lines = b"\n" + lines
            while lines:  # a disk that is nearly full takes a part
                lines = lines[file.write(lines) :]
            if sync or time.monotonic() >= self._sync_at:
                self._sync(file.fileno())
        if new:
            sync_to_disk(self.path.parent)

    def _sync(self, handle: int) -> None:
        began = time.monotonic()
        os.fsync(handle)
        ended = time.monotonic()
        self._sync_at = ended + (ended - began) / SHARE

    def close(self) -> None:
        """Everything is on the disk now."""
        if self._sync_at and self.path.exists():
            sync_to_disk(self.path)


def _line(key: str, name: str, value: Any) -> str:
    return json.dumps({"key": key, name: value, "sum": _sum(key, value)}) + "\n"


def _sum(key: Any, value: Any) -> str:
    return hashlib.sha256(json.dumps([key, value], sort_keys=True).encode()).hexdigest()[:16]


# ── of one piece of work ─────────────────────────────────────────────────────────────────────────


@dataclass(eq=False)
class Recording:
    """Answers of a piece of work: those of its earlier starts, in their order, and now more of them."""

    journal: Journal
    past: Mapping[str, Any]
    part: str = ""  # of the work, as told to `recorded`
    _times: Counter[str] = field(default_factory=Counter)

    def key(self, request: Any) -> str:
        """Of the first, second, … time that this is asked here."""
        of_request = digest([self.part, request])
        self._times[of_request] += 1
        return digest([of_request, self._times[of_request]])

    def find(self, key: str) -> Any:
        """What was answered before this start, or MISSING: what another process is told now is its own affair."""
        return self.past.get(key, MISSING)

    def write(self, key: str, answer: Any, *, sync: bool = True) -> None:
        self.journal.write(key, answer, sync=sync)


_current: ContextVar[Recording | None] = ContextVar("recording", default=None)


def recording() -> Recording | None:
    """Of the piece of work that is being done."""
    return _current.get()


@contextmanager
def recorded(
    path: Path,
    *,
    past: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
    part: str = "",
) -> Iterator[Recording]:
    """Whatever is asked over the network in this block is written to `path`, and read from there by the next start.

    `past` are the answers to go by, if not those in the file; `about` stands in front of them; `part` is which of
    several blocks with the same file this is.
    """
    journal = Journal(path, about)
    known = Recording(journal, dict(journal.read()) if past is None else past, part)
    token = _current.set(known)
    try:
        yield known
    finally:
        _current.reset(token)
        journal.close()


@contextmanager
def recorded_until_done(path: Path, sources: Mapping[str, str]) -> Iterator[None]:
    """`recorded`, and gone when all is done.

    `sources` are digests of the code that is asked. UserError where answers of other code are there: they are no
    longer true of this one, and were paid for.
    """
    with recorded(path, about={"sources": dict(sources)}) as past:
        before = (past.journal.about or {}).get("sources", {})
        if changed := sorted(s for s in sources if before.get(s, sources[s]) != sources[s]):
            raise UserError(
                f"{path} holds {len(past.past)} answers from before {changed[0]} was changed; remove that file to ask "
                "everything anew, or undo the change to go on with them"
            )
        yield
    path.unlink(missing_ok=True)


def beside(out: Path) -> Path:
    """Where the answers of a command are that writes a file, until it is written."""
    return out.with_name(f"{out.name}.{ANSWERS}")
