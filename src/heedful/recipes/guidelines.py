"""What raters read beside a question: written from a file, or printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from heedful.configs.guidelines import Config
from heedful.disk import read_text
from heedful.errors import UserError
from heedful.store.project import projects
from heedful.transfer.workspace import opened, project_of

MOST = 200_000  # characters


def run(config: Config) -> dict[str, Any] | None:
    """The version that is shown from now on; without a file its text is printed."""
    body = None if config.file is None else _text(config.file)
    with opened(config.workspace) as store:
        if body is not None:
            return store.in_write(lambda connection: _write(connection, config.project, body))
        newest = store.in_read(lambda c: projects.guidelines(c, project_of(c, config.project)))
    if newest is None:
        raise UserError("this project has no guidelines yet; heedful guidelines FILE.md")
    print(newest.body)
    return None


def _write(connection: Connection, name: str | None, body: str) -> dict[str, Any]:
    project = project_of(connection, name)
    before = projects.newest_guidelines(connection, project)
    version = projects.write_guidelines(connection, project, body, actor=None)
    return {"version": version, "new": version != before}


def _text(file: Path) -> str:
    text = read_text(file, "guidelines")
    if not text.strip() or len(text) > MOST:
        raise UserError(f"{file}: guidelines have 1 to {MOST} characters")
    return text
