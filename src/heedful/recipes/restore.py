"""A backup → a workspace, verified before it is there."""

from __future__ import annotations

from typing import Any

from heedful.configs.restore import Config
from heedful.transfer import backup


def run(config: Config) -> dict[str, Any]:
    """Returns the backup's manifest, with the new workspace's folder."""
    manifest = backup.restore(config.file, config.workspace, database=config.database)
    return {"workspace": str(config.workspace), **manifest}
