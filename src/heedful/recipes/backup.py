"""A workspace → one file that has all of it, verified."""

from __future__ import annotations

from typing import Any

from heedful.configs.backup import Config
from heedful.transfer import backup


def run(config: Config) -> dict[str, Any]:
    """Returns the manifest."""
    return backup.write(config.workspace, config.file, folders=config.folders)
