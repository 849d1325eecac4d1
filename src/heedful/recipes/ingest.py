"""Into a workspace: prompts, demonstrations, comparisons and samples from files of ours and of other tools."""

from __future__ import annotations

from sqlalchemy import func, select

from heedful.configs.ingest import Config
from heedful.store import projects, schema
from heedful.transfer.ingest import load
from heedful.transfer.workspace import opened, project_of


def run(config: Config) -> dict[str, int]:
    """Returns what was added. The whole file is read before anything is written."""
    work = load(config)
    with opened(config.workspace) as store:
        with store.write() as connection:
            number = connection.execute(select(func.count()).select_from(schema.project)).scalar()
            if config.project is None and number:
                project = project_of(connection, None)
            else:
                project = projects.ensure(connection, config.project or "main")
        return work(store, project)
