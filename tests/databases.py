"""Databases of one's own for each test: copies of one that was migrated once, since the migrations cost more than most
tests of what is in it."""

from __future__ import annotations

import functools
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine

from heedful.store.database.db import Store, open_store


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
def postgresql(server: str, template: str | None = None) -> Iterator[str]:
    """The name of a database of one's own: empty, or a copy."""
    name = f"heedful_{uuid.uuid4().hex}"
    like = f" TEMPLATE {template}" if template else ""
    with administered(server) as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}{like}")
    try:
        yield name
    finally:
        with administered(server) as connection:  # a test may have stopped the server in between
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
