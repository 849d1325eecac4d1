"""A workspace: a folder with the database of what people say, and room for runs."""

from __future__ import annotations

from pathlib import Path

from heedful.configs.init import Config
from heedful.errors import UserError
from heedful.store.database.db import location, open_store
from heedful.store.database.privacy import make_private

SETTINGS = """\
# A heedful workspace. `heedful serve` here opens the raters' pages.

# SQLite, in this folder, unless you name another database here or in $HEEDFUL_DATABASE:
# database = "postgresql://user:password@host/name"
"""


def run(config: Config) -> Path:
    """Returns the folder; one that is a workspace already is only brought up to date."""
    folder = config.folder
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, not a folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "runs").mkdir(mode=0o700, exist_ok=True)
        settings = folder / "heedful.toml"
        if not settings.exists():
            make_private(settings)  # a password may come to stand in it
            settings.write_text(SETTINGS, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror or error}") from error
    open_store(location(folder)).close()
    return folder
