"""Into a workspace: prompts, demonstrations, comparisons and samples from files of ours and of other tools."""

from __future__ import annotations

import json

from sqlalchemy import Connection, func, select

from heedful.configs.ingest import Config
from heedful.store.project import projects
from heedful.store.tables import schema
from heedful.transfer.ingest import load
from heedful.transfer.workspace import opened, project_of


def run(config: Config) -> dict[str, int]:
    """Returns what was added, or with `dry_run` what there is. The whole file is read before anything is written."""
    loaded = load(config)
    if config.dry_run:
        for item in loaded.first:
            print(json.dumps(item, ensure_ascii=False))
        return loaded.counts

    def project(connection: Connection) -> str:
        number = connection.execute(select(func.count()).select_from(schema.project)).scalar()
        if config.project is None and number:
            return project_of(connection, None)
        return projects.ensure(connection, "main" if config.project is None else config.project)

    with opened(config.workspace) as store:
        return loaded.write(store, store.in_write(project))
