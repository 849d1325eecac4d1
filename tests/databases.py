"""Databases of one's own for each test: copies of one that was migrated once, since the migrations cost more than most
tests of what is in it."""

from __future__ import annotations

import functools
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.exc import ProgrammingError

from heedful.store.database.db import Store, open_store
from heedful.store.tables.schema import metadata


@functools.cache
def _migrated_file() -> tuple[tempfile.TemporaryDirectory, Path]:
    folder = tempfile.TemporaryDirectory(prefix="heedful-database-")
    path = Path(folder.name) / "heedful.db"
    open_store(f"sqlite:///{path}").close()
    return folder, path


def sqlite(path: Path) -> str:
    """The address of a SQLite database at a path, without rows; its tables are there."""
    shutil.copy(_migrated_file()[1], path)
    return f"sqlite:///{path}"


def new_store(path: Path, *, busy_seconds: float | None = None) -> Store:
    """A workspace's database at a path, open."""
    return open_store(sqlite(path), busy_seconds=busy_seconds)


@contextmanager
def administered(server: str) -> Iterator:
    """A connection to a PostgreSQL server that can make databases."""
    driver = server.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_engine(driver, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def address(server: str, name: str) -> str:
    return f"{server.rsplit('/', 1)[0]}/{name}"


@contextmanager
def postgresql(server: str) -> Iterator[str]:
    """The name of an empty database of one's own."""
    name = _made(server)
    try:
        yield name
    finally:
        _dropped(server, name)


def _made(server: str, template: str = "template1") -> str:
    name = f"heedful_{uuid.uuid4().hex}"
    with administered(server) as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    return name


def _dropped(server: str, name: str) -> None:
    with administered(server) as connection:  # a test may have stopped the server in between
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


# What changes with the version, tables, columns, constraints, triggers and what is known for plans, and not with rows.
SHAPE = "SELECT (SELECT max(version_num) FROM alembic_version), " + ", ".join(
    f"(SELECT (count(*), max(xmin::text::bigint)) FROM {catalogue})::text"
    for catalogue in ("pg_class", "pg_attribute", "pg_constraint", "pg_trigger", "pg_statistic")
)


@dataclass
class Copies:
    """Copies of a migrated database, one after the other. To make one costs more than most tests, and so does to be the
    first who asks it: the last one is emptied and given again under a new name, if its tables are as they were."""

    server: str
    template: str
    spare: list[tuple[str, object]] = field(default_factory=list)  # a name, and its shape

    @contextmanager
    def one(self) -> Iterator[str]:
        """The name of one of them, in which there is no row."""
        name, shape = self._next()
        try:
            yield name
        finally:
            if shape == _emptied(self.server, name):
                self.spare.append((name, shape))
            else:
                _dropped(self.server, name)

    def close(self) -> None:
        for name, _ in self.spare:
            _dropped(self.server, name)

    def _next(self) -> tuple[str, object]:
        if not self.spare:
            name = _made(self.server, self.template)
            return name, _emptied(self.server, name)
        before, shape = self.spare.pop()
        name = f"heedful_{uuid.uuid4().hex}"
        with administered(self.server) as connection:  # a thread of the last test's finds nothing
            connection.exec_driver_sql(f"ALTER DATABASE {before} RENAME TO {name}")
        return name, shape


def _emptied(server: str, name: str) -> object:
    """Its shape, once nobody else is connected and all rows are gone, whatever would keep them; none where a table is
    missing."""
    with administered(address(server, name)) as connection, suppress(ProgrammingError):
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        shape = connection.exec_driver_sql(SHAPE).one()
        connection.exec_driver_sql("SET session_replication_role = replica")  # no trigger, no key
        connection.exec_driver_sql(
            "; ".join(f"DELETE FROM {table.name}" for table in metadata.sorted_tables)
        )
        return shape
    return None
