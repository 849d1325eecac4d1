"""What raters read beside a question: written from a file, or printed."""

from __future__ import annotations

from typing import Any

from heedful.configs.guidelines import Config
from heedful.errors import UserError
from heedful.store import projects
from heedful.transfer.workspace import opened, project_of

MOST = 200_000  # characters


def run(config: Config) -> dict[str, Any] | None:
    """The version that is shown from now on; without a file its text is printed."""
    body = None if config.file is None else _text(config)
    with opened(config.workspace) as store, store.write() as connection:
        project = project_of(connection, config.project)
        before = projects.guidelines(connection, project)
        if body is None:
            if before is None:
                raise UserError("this project has no guidelines yet; heedful guidelines FILE.md")
            print(before.body)
            return None
        version = projects.write_guidelines(connection, project, body, actor=None)
        return {"version": version, "new": before is None or before.id != version}


def _text(config: Config) -> str:
    try:
        text = config.file.read_text(encoding="utf-8")  # type: ignore[union-attr]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise UserError(f"cannot read {config.file}: {reason}") from None
    if not text.strip() or len(text) > MOST:
        raise UserError(f"{config.file}: guidelines have 1 to {MOST} characters")
    return text
