"""A workspace from SQLite to PostgreSQL, when a team outgrows a file, or back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from heedful.configs.move import Config
from heedful.recipes import init
from heedful.store.database import move
from heedful.store.database.db import Store, open_store


def run(config: Config) -> dict[str, Any]:
    """{verdict, next, tables: {name: {rows, sha256}}}; `UserError` where nothing was moved."""
    source = open_store(config.source)
    try:
        file = _file_of(config.target)
        new = file is not None and not file.exists()
        target = _opened(config.target)
        try:
            moved = move.move(source, target)
        except BaseException:
            target.close()
            if new and file is not None:
                for ending in ("", "-wal", "-shm"):
                    Path(f"{file}{ending}").unlink(missing_ok=True)
            raise
        target.close()
    finally:
        source.close()
    return {
        "verdict": f"{sum(content.rows for content in moved.values())} rows arrived as they were sent",
        "next": _next(config),
        "tables": {name: asdict(content) for name, content in moved.items()},
    }


def _opened(address: str) -> Store:
    if "://" not in address:
        init.run(init.Config(folder=Path(address)))
    return open_store(address)


def _file_of(address: str) -> Path | None:
    """The file that a new SQLite database will be; None where the address is of another kind."""
    if "://" not in address:
        return Path(address) / "heedful.db"
    name = make_url(address).database if address.startswith("sqlite") else None
    return Path(name) if name else None


def _next(config: Config) -> str:
    if "://" not in config.target:
        return f"heedful serve {config.target}"
    folder = config.source if "://" not in config.source else "WORKSPACE"
    return f'write its address into {folder}/heedful.toml: database = "…"'
