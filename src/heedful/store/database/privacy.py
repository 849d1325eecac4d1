"""Databases' addresses as they may be shown, and files that nobody else on the machine can read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Up to the last @: a password that was not encoded may hold one itself. `:/` is what a path makes of `://`.
PASSWORD = re.compile(r"(\w:/{1,2}[^:/@\s]*):[^\s]*@")
SECRETS = re.compile(r"([?&]\w*(?:password|secret|key)=)[^&#\s]*", re.IGNORECASE)


def shown(address: object) -> str:
    """A database's address without its password, wherever that stands; also one that cannot be parsed."""
    return SECRETS.sub(r"\1***", PASSWORD.sub(r"\1:***@", str(address)))


@contextmanager
def private_files() -> Iterator[None]:
    """What is written meanwhile only its owner reads: what people said, who they are and how they sign in."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def make_private(path: Path) -> None:
    """A file that only its owner reads, from its first moment; of one that is there others lose their rights.

    SQLite gives its journal and WAL the rights of the database.
    """
    with suppress(OSError):  # what cannot be written is told by who writes it
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            mode = path.stat().st_mode & 0o777
            if mode & 0o007:  # a group may have been meant
                path.chmod(mode & ~0o007)
