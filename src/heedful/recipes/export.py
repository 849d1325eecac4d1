"""Out of a workspace: judgments as files that trainers read, with a manifest of what is in them and what is not."""

from __future__ import annotations

from typing import Any

from heedful.configs.export import Config
from heedful.store.exports.snapshot import Query
from heedful.transfer.workspace import export_file, opened, project_of


def run(config: Config) -> dict[str, Any]:
    """Returns the manifest."""
    query = Query(
        config.what,
        config.split,
        surplus=config.surplus,
        gold=config.gold,
        swaps=config.swaps,
        margin=config.margin,
        question=config.question,
    )
    with opened(config.workspace) as store:
        project = store.in_read(lambda connection: project_of(connection, config.project))
        return export_file(store, project, query, config.file, snapshot_id=config.snapshot)
