"""Files and folders that are whole or absent, whatever happens while they are written, and a sentence for what a disk
refuses.

What is written goes beside its place first, is synced and renamed, and so are the names: after a power cut a folder
holds what it held before, or all of the new. What could be made again, and is trusted when it is read, is sealed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from heedful.errors import UserError, one_line

PARTIAL = ".partial"  # ends the name of what is being written or thrown away; never looked at
SAFE = "what was saved before is whole, and the same command goes on once that is mended"
POINTER = b"version https://git-lfs"  # begins what git leaves where git-lfs is missing
SEAL = 32  # bytes of the sha256 that ends a sealed file
TROUBLE = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ESTALE,
    errno.EMFILE, errno.ENFILE, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ENXIO, errno.ENODEV,
}  # fmt: skip
# Libraries in Rust and C++ hand on the system's words alone.
OS_ERROR = re.compile(r"\(os error (\d+)\)")
WORDS = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)))
# What is raised while a disk's error is handled, and of these kinds, is a bug of whoever handles it, not the disk's.
BUGS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, NotImplementedError,
    TypeError, ValueError,
)  # fmt: skip
# SQLITE_PERM, BUSY, LOCKED, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB.
SQLITE = {3, 5, 6, 8, 10, 11, 13, 14, 26}
# PostgreSQL's classes: connections, resources, an operator's hand, the system; none where nobody answers.
POSTGRES = ("08", "53", "57", "58")


# ── what a disk refuses ──────────────────────────────────────────────────────────────────────────


class DiskError(UserError):
    """What a disk refused: for whoever typed the command to mend, and not for who sits in front of a browser."""


def trouble(error: BaseException, *more: int) -> tuple[str, str | None] | None:
    """The system's words, and the file if that is known, where an error, or one behind it, is a disk's; else None.

    Behind an error is what caused it, and what was being handled when it came, unless it looks like a bug.

    `more` are numbers of the system's that count, too.
    """
    seen: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop(0)
        if one is None or one in seen:
            continue
        seen.append(one)
        if words := _of_database(one):
            return words, "the database"
        if words := _words(one, more):
            named = getattr(one, "filename", None)
            return words, os.fsdecode(named) if isinstance(named, str | bytes) else None
        todo += [
            one.__cause__,
            None if one.__suppress_context__ or _is_bug(one) else one.__context__,
        ]
        todo += getattr(one, "exceptions", ())
    return None


def _is_bug(error: BaseException) -> bool:
    """A file that the disk has closed is none: `I/O operation on closed file`."""
    return isinstance(error, BUGS) and not (isinstance(error, ValueError) and "clos" in str(error))


def _words(error: BaseException, more: tuple[int, ...]) -> str | None:
    if isinstance(error, FileExistsError) and os.path.isfile(error.filename or ""):
        return f"{os.fsdecode(error.filename)} is a file, a folder is needed"
    if isinstance(error, OSError):
        number = error.errno or 0
        return os.strerror(number).lower() if number in (*TROUBLE, *more) else None
    text = str(error)
    if (found := OS_ERROR.search(text)) and int(found[1]) in TROUBLE:
        return os.strerror(int(found[1])).lower()
    return next((words.lower() for words in WORDS if words in text), None)


def _of_database(error: BaseException) -> str | None:
    code = getattr(error, "sqlite_errorcode", None)
    refused = isinstance(code, int) and code & 0xFF in SQLITE
    if any(kind.__module__ == "psycopg" for kind in type(error).__mro__):
        state = getattr(error, "sqlstate", None) or ""
        refused = state.startswith(POSTGRES) or (
            not state and type(error).__name__ == "OperationalError"
        )
    return one_line(error) if refused else None


def sentence(error: BaseException, where: object = None) -> str | None:
    """One for what a disk refused, None where an error is of another kind; `where` is told if the file is not known."""
    if (what := trouble(error)) is None:
        return None
    words, path = what
    return f"cannot read or write {path or where or 'a file'}: {words}; {SAFE}"


def is_pointer(path: Path) -> bool:
    """Whether a file holds what git-lfs would fetch in its place: a few lines with its size and hash."""
    with path.open("rb") as file:
        return file.read(len(POINTER)) == POINTER


def folders_meant(name: str, folder: Path) -> list[Path]:
    """The folders that a name in a file of `folder` may mean, from where the program runs, in `folder` or beside it;
    never `folder` itself."""
    places = {
        p.resolve(): p for p in (folder.parent / name, folder / name, Path(name)) if p.is_dir()
    }
    places.pop(folder.resolve(), None)
    return list(places.values())


def read_text(path: Path, where: str) -> str:
    """The text of a file that somebody has written; UserError, which begins with `where`, if there is none."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{where}: {path} is not UTF-8 text") from None
    except OSError as error:
        raise UserError(f"{where}: cannot read {path}: {error.strerror or error}") from error


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what a disk refuses into a sentence; whatever was half-written is the caller's to remove."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if what := trouble(error, errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY):
            raise DiskError(f"cannot save {path}: {what[0]}; {SAFE}") from error
        raise


# ── whole or absent ──────────────────────────────────────────────────────────────────────────────


@contextmanager
def whole(target: Path) -> Iterator[IO[bytes]]:
    """A file beside `target` that takes its place once the block has ended well, and is gone otherwise.

    Its folder is made if need be.
    """
    partial = target.with_name(f".{target.name}{PARTIAL}")
    try:
        with disk_errors(target):
            make_folder(target.parent)
            with open(partial, "wb") as file:
                yield file
            sync(partial)
            os.replace(partial, target)
            sync(target.parent)  # without it the new name itself may be lost with the power
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_text(target: Path, text: str) -> None:
    """A small file, entirely or not at all."""
    with whole(target) as file:
        file.write(text.encode())


def write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Create folder `target` with what `write(folder)` puts there: entirely, or not at all."""
    partial = target.with_name(f".{target.name}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with disk_errors(target):
            make_folder(target.parent)
            partial.mkdir()
            write(partial)
            for path in partial.rglob("*"):
                sync(path)
            sync(partial)
            discard(target)
            os.replace(partial, target)
            sync(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A folder inside another that is gone when the block ends."""
    path = folder / f".scratch{PARTIAL}"
    shutil.rmtree(path, ignore_errors=True)
    try:
        with disk_errors(folder):
            path.mkdir(parents=True)
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """A folder and those above it, whose names outlast a power cut."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def discard(path: Path) -> None:
    """Remove a folder; it is gone under its name at once, so that nobody ever meets half of it."""
    aside = path.with_name(f".{path.name}.old{PARTIAL}")
    shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed at this
    if path.exists():
        os.replace(path, aside)
        shutil.rmtree(aside, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what a killed process was just writing here, or throwing away."""
    for path in folder.glob(f".*{PARTIAL}"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(handle)


# ── sealed: a cache's files ──────────────────────────────────────────────────────────────────────


def seal(path: Path, content: bytes) -> None:
    """Write a file that ends with the sha256 of its content; several processes may write the same one."""
    make_folder(path.parent)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
    try:
        with open(handle, "wb") as file:
            file.write(content + hashlib.sha256(content).digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def unsealed(path: Path) -> bytes | None:
    """The content of a sealed file; None where it is not there, cannot be read, or is not what was written."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    content = data[:-SEAL]
    return content if hashlib.sha256(content).digest() == data[-SEAL:] else None
