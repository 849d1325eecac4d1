"""The workspace's database: opened, migrated and backed up; its transactions and its clock.

One code for SQLite and PostgreSQL. On SQLite every write is `BEGIN IMMEDIATE`: a deferred transaction that
turns into a write later fails at once with "database is locked", whatever the timeout.
"""

from __future__ import annotations

import functools
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import (
    Connection,
    Engine,
    Table,
    create_engine,
    event,
    inspect,
    select,
)
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from heedful.errors import Unavailable, UserError, one_line
from heedful.store.database.patience import patiently
from heedful.store.database.privacy import make_private, shown
from heedful.store.tables.columns import DatabaseClock

if TYPE_CHECKING:
    from alembic.config import Config

BUSY_SECONDS = 20
LOG_BYTES = 4 << 20  # of SQLite's write-ahead log, when nobody reads what is older
LOG_PAGES = 1000  # from which on a commit copies the log into the file: SQLite's own limit
MOST_LOG_PAGES = (
    8000  # the same where `store.database.log` does that, which may be slower than who writes
)
MIGRATIONS = Path(__file__).parents[1] / "migrations"


# What a database says of itself, in lower case. These last: nobody else's commit and no restart ends them.
LASTING = ("full", "readonly", "read-only", "unable to open", "disk i/o", "no space")
PASSING = (
    "locked", "busy", "could not connect", "connection failed", "connection refused", "closed the connection",
    "connection is lost", "starting up", "shutting down", "terminating connection", "too many c", "connection slots",
    "deadlock", "could not serialize", "lock timeout",
)  # fmt: skip
T = TypeVar("T")


@dataclass(frozen=True)
class Store:
    """An open workspace database."""

    engine: Engine
    # One writer at a time within this process: threads that wait here wake in turn, those that wait inside
    # SQLite poll and may starve. Between processes SQLite's own lock does.
    _write_lock: threading.Lock | None = field(default=None, repr=False)
    patience: float = (
        0.0  # seconds for which `in_read` and `in_write` wait for a database that is away
    )
    busy_seconds: float = BUSY_SECONDS  # that a write waits for this process's, then for others'

    @property
    def dialect(self) -> str:
        return self.engine.dialect.name

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view."""
        with _translate_errors(), self.engine.connect() as connection:
            if self.dialect == "sqlite":
                connection.exec_driver_sql("BEGIN")
            else:
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection
            connection.rollback()

    @contextmanager
    def write(self, *, leaves_log: bool = False) -> Iterator[Connection]:
        """A transaction that is committed when the block ends, or leaves nothing behind.

        Raises `Unavailable` where others write for longer than `busy_seconds`. `leaves_log`: SQLite's log is copied by
        another, see `store.database.log`.
        """
        with self._turn() as left, _translate_errors(), self.engine.connect() as connection:
            if self.dialect == "sqlite":
                connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(left * 1000)}")
                with _log_left(connection) if leaves_log else nullcontext():
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                    yield connection
                    connection.commit()
            else:
                limit = int(self.busy_seconds * 1000)
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {limit}")
                yield connection
                connection.commit()

    @contextmanager
    def _turn(self) -> Iterator[float]:
        """This process's one writer, where there is one: whoever waits for ever keeps a thread from those who read.
        Gives the seconds that are left to wait for others'."""
        if self._write_lock is None:
            yield self.busy_seconds
            return
        end = time.monotonic() + self.busy_seconds
        if not self._write_lock.acquire(timeout=self.busy_seconds):
            raise Unavailable(f"others have written for {self.busy_seconds:g} seconds")
        try:
            yield max(0.0, end - time.monotonic())
        finally:
            self._write_lock.release()

    def in_read(self, work: Callable[[Connection], T]) -> T:
        """`work` in a `read`, again from its start while the database is away."""
        return patiently(lambda: _within(self.read, work), self.patience)

    def in_write(self, work: Callable[[Connection], T], *, leaves_log: bool = False) -> T:
        """`work` in a `write`, again from its start while the database is away: it must do nothing twice.

        Of a commit whose answer was lost nobody knows whether it was made.
        """
        write = functools.partial(self.write, leaves_log=leaves_log)
        return patiently(lambda: _within(write, work), self.patience)

    def close(self) -> None:
        self.engine.dispose()


@contextmanager
def _log_left(connection: Connection) -> Iterator[None]:
    """Commits copy the log into SQLite's file only where it has become very long."""
    connection.exec_driver_sql(f"PRAGMA wal_autocheckpoint = {MOST_LOG_PAGES}")
    try:
        yield
    finally:  # others will have this connection
        connection.exec_driver_sql(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")


def _within(
    transaction: Callable[[], AbstractContextManager[Connection]], work: Callable[[Connection], T]
) -> T:
    with transaction() as connection:
        return work(connection)


CLOCK = select(DatabaseClock())


def now(connection: Connection) -> float:
    """Seconds since 1970 by the database's clock, which all leases and limits use."""
    return float(connection.execute(CLOCK).scalar_one())


TICKS = [f"{tick:03x}" for tick in range(1 << 12)]  # within a millisecond
VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_id_lock = threading.Lock()
_latest_tick = 0  # ticks of the newest id


def new_id() -> str:
    """UUIDv7 (RFC 9562 §5.7, with fractions of milliseconds by §6.2, method 3): sorts by the time it was made.

    Those of one process do so strictly, also when they are made at the same moment or the clock is set back.
    """
    return new_ids(1)[0]


def new_ids(number: int) -> list[str]:
    """So many, each after the one before."""
    global _latest_tick
    with _id_lock:
        first = max(_latest_tick + 1, (time.time_ns() << 12) // 1_000_000)  # ticks of 1/4096 ms
        _latest_tick = first + number - 1
    chance, ids, head = secrets.token_bytes(8 * number).hex(), [], ""
    for at, tick in enumerate(range(first, first + number)):
        if not head or not tick & 0xFFF:
            when = f"{tick >> 12:012x}"  # 48 bits, of which the many ids of a millisecond have the same
            head = f"{when[:8]}-{when[8:]}-7"
        any_ = chance[16 * at : 16 * at + 16]  # 64 bits; of these, two say which kind of UUID it is
        ids.append(f"{head}{TICKS[tick & 0xFFF]}-{VARIANT[any_[0]]}{any_[1:4]}-{any_[4:]}")
    return ids


def insert(connection: Connection, table: Table, **values: Any) -> str:
    """A new row, made now if `created_at` is not among its values; returns its id."""
    values.setdefault("id", new_id())
    if "created_at" not in values:
        values["created_at"] = now(connection)
    connection.execute(table.insert().values(**values))
    return values["id"]


def location(workspace: Path) -> str:
    """The database's URL: $HEEDFUL_DATABASE, `database` in heedful.toml, or heedful.db in the workspace."""
    if url := os.environ.get("HEEDFUL_DATABASE"):
        return url
    settings = workspace / "heedful.toml"
    if settings.exists():
        import tomllib

        try:
            database = tomllib.loads(settings.read_text(encoding="utf-8")).get("database")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{settings}: {error}") from None
        if database:
            return str(database)
    return f"sqlite:///{workspace / 'heedful.db'}"


def open_store(
    address: str | Path, *, patience: float = 0.0, busy_seconds: float | None = None
) -> Store:
    """Open a database by its URL, or the one of a workspace's folder; bring its schema up to date.

    `patience` are the seconds for which a command waits when it is away later on; a server says so at once.
    `busy_seconds`, for which each write waits for others, are `BUSY_SECONDS` unless told. Raises
    `UserError` where there is no such database, or where a newer heedful has written it.
    """
    if isinstance(address, Path) or "://" not in address:
        folder = Path(address)
        if not (folder / "heedful.toml").exists() and not (folder / "heedful.db").exists():
            raise UserError(
                f"{shown(folder)} is no workspace; `heedful init {shown(folder)}` makes one"
            )
        address = location(folder)
    busy_seconds = BUSY_SECONDS if busy_seconds is None else busy_seconds
    engine = _engine(address, busy_seconds)
    try:
        migrate(engine)
    except (DBAPIError, sqlite3.OperationalError) as error:
        origin = error.orig if isinstance(error, DBAPIError) else error
        raise UserError(
            f"the database {shown(address)} cannot be opened: {one_line(origin or error)}"
        ) from None
    sqlite = engine.dialect.name == "sqlite"
    return Store(engine, threading.Lock() if sqlite else None, patience, busy_seconds)


def migrate(engine: Engine) -> None:
    """Upgrade to this version's schema, after a copy of a SQLite file; refuse a schema that is newer than this."""
    from alembic import command
    from alembic.runtime.migration import MigrationContext

    with engine.connect() as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
        connection.rollback()
    head, known = _revisions(MIGRATIONS)
    if revision == head:
        return
    if revision is not None and revision not in known:
        raise UserError(
            f"the database {shown(engine.url)} was written by a newer heedful (schema {revision}, this one knows "
            f"{head}); upgrade heedful to open it"
        )
    if revision is not None and engine.dialect.name == "sqlite" and engine.url.database:
        backup(Path(engine.url.database), Path(f"{engine.url.database}.before-{head}"))
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            # Two servers that start together take turns; a migration cut off midway leaves nothing.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7431)")
        config = _alembic(MIGRATIONS)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()


def _alembic(migrations: Path) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations))
    return config


@functools.cache
def _revisions(migrations: Path) -> tuple[str | None, frozenset[str]]:
    """The newest schema there, and all of them: one file each, read once a process."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_alembic(migrations))
    return scripts.get_current_head(), frozenset(s.revision for s in scripts.walk_revisions())


def backup(source: Path, target: Path) -> None:
    """A consistent copy of a SQLite database, also while others write to it; whole or absent."""
    aside = target.with_name(target.name + ".part")
    aside.unlink(missing_ok=True)
    make_private(aside)
    origin, copy = sqlite3.connect(source), sqlite3.connect(aside)
    try:
        origin.backup(copy)
    finally:
        copy.close()
        origin.close()
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(aside, target)


def tables(engine: Engine) -> set[str]:
    """Names of the tables that are there."""
    return set(inspect(engine).get_table_names())


def _engine(url: str, busy_seconds: float) -> Engine:
    try:
        if url.startswith("postgresql://"):
            url = url.replace("postgresql://", "postgresql+psycopg://", 1)
        if not url.startswith(("sqlite", "postgresql")):
            raise ValueError("another kind of database")
        if not url.startswith("sqlite"):
            return create_engine(
                url, pool_size=20, max_overflow=30, pool_pre_ping=True, hide_parameters=True
            )
        engine = create_engine(
            url,
            hide_parameters=True,  # errors that are logged hold no texts of people and no hashes
            connect_args={"timeout": busy_seconds, "check_same_thread": False},
            pool_size=8,
            max_overflow=40,  # as many as the server has threads, and some for those of its own
        )
    except (NoSuchModuleError, ImportError) as error:
        raise UserError(f"'{shown(url)}' is no database address: {error}") from None
    except (SQLAlchemyError, ValueError):  # whose message may hold a piece of the password
        raise UserError(
            f"'{shown(url)}' is no database address, such as postgresql://USER@HOST/NAME or sqlite:///FILE"
        ) from None
    if not engine.url.database or engine.url.database == ":memory:":
        raise UserError("a workspace's SQLite database must be a file")
    path = Path(engine.url.database)
    if not path.parent.is_dir():
        raise UserError(f"the folder {path.parent} of the database does not exist")
    make_private(path)

    @event.listens_for(engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        # KiB of each connection, and there may be forty; what is read often is in the system's cache anyway.
        connection.execute("PRAGMA cache_size=-6144")
        # What somebody's long reading has let the log grow to is not kept for ever. SQLite begins it anew at 4 MiB.
        connection.execute(f"PRAGMA journal_size_limit={LOG_BYTES}")

    return engine


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Raise `Unavailable` where the database is locked, full, read-only or unreachable; other errors pass."""
    try:
        yield
    except NoConnectionFree as error:
        raise Unavailable("all connections to it are in use") from error
    except Exception as error:
        origin = (error.orig if isinstance(error, DBAPIError) else error) or error
        if not _of_the_database(origin):  # what a user wrote stands in other errors' messages
            raise
        message = str(origin).lower()
        lasts = any(sign in message for sign in LASTING)
        lost = isinstance(error, DBAPIError) and error.connection_invalidated
        if lasts or lost or any(sign in message for sign in PASSING):
            raise Unavailable(one_line(origin), passes=lost or not lasts) from error
        raise


def _of_the_database(error: BaseException) -> bool:
    """Whether a driver says that the database itself has a problem, and not what it was asked."""
    kinds = {k.__name__ for k in type(error).__mro__ if k.__module__ in ("sqlite3", "psycopg")}
    return bool(kinds & {"OperationalError", "InternalError", "InterfaceError"})
