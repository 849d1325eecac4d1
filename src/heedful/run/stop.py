"""Being asked to stop: signals that wait for the end of a step, and a lock that keeps a second process out."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from heedful.disk import disk_errors
from heedful.errors import UserError

LOCK = ".lock"
TAKEN = (errno.EAGAIN, errno.EACCES)


class StopSignals:
    """While open, the first SIGINT or SIGTERM is only noted in `received`; the next one stops at once, as ever.

    Of several ranks one `tells` it for all.
    """

    def __init__(self, *, tells: bool = True) -> None:
        self._tells = tells
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # nobody else may set handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and & have it
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self.__exit__()
        # Not print: the signal may have come in the middle of one.
        if self._tells:
            os.write(2, b"\nstopping after this step; once more stops at once\n")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else holds `folder` meanwhile, else UserError. However the process ends, the system lets go of it."""
    path = folder / LOCK
    while True:
        with disk_errors(folder):
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            who = os.read(handle, 20).decode(errors="replace").strip()
            os.close(handle)
            if error.errno not in TAKEN:  # some network file systems have no locks
                yield
                return
            raise UserError(
                f"another process{f' ({who})' if who else ''} is training in {folder}; "
                "wait for it, or choose another --out"
            ) from None
        if _is(path, handle):
            break
        os.close(handle)  # its holder removed the file between our opening and our locking it
    try:
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _is(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False
