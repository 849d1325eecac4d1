"""SQLite's write-ahead log, brought into the database's file beside long work and not by whoever commits.

A commit that finds a thousand pages in the log copies them into the file and waits for the disk once more, and of a
thousand rows each does. Here a thread does so, by a connection of its own, while the next rows are composed. Either
way what is committed is in the log, and on the disk.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from heedful.store.database.db import Store


@contextmanager
def copied_beside(store: Store) -> Iterator[Callable[[], None]]:
    """Gives a function that has all copied which is committed by then, and does not wait for it: to be called behind
    each `store.in_write(…, leaves_log=True)`."""
    if store.dialect != "sqlite":
        yield lambda: None
        return
    wanted, over = threading.Event(), threading.Event()

    def work() -> None:
        while wanted.wait() and not over.is_set():
            wanted.clear()
            try:
                with store.engine.connect() as connection:
                    connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").all()
            except DBAPIError:  # of a full disk, say, whoever commits is told
                return

    thread = threading.Thread(target=work, name="heedful-log", daemon=True)
    thread.start()
    try:
        yield wanted.set
    finally:
        over.set()
        wanted.set()
        thread.join()
