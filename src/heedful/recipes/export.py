"""Out of a workspace: judgments as files that trainers read, with a manifest of what is in them and what is not."""

from __future__ import annotations

from typing import Any

from heedful.configs.common import WEIGHTS, weights_file
from heedful.configs.export import Config
from heedful.data.comparisons import comparison_of
from heedful.errors import UserError
from heedful.store.database.db import Store
from heedful.store.exports import snapshot
from heedful.store.exports.snapshot import Query
from heedful.transfer.workspace import export_file, opened, project_of

EQUAL, RATERS, COLUMN = WEIGHTS
WEIGHED = ("comparisons", "rankings", "unpaired")


def run(config: Config) -> dict[str, Any]:
    """Returns the manifest."""
    refuse_nonsense(config)
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
        weights = weights_of(config, store, project)
        return export_file(
            store,
            project,
            query,
            config.file,
            snapshot_id=config.snapshot,
            weights=weights,
            quiet=config.quiet,
        )


def refuse_nonsense(config: Config) -> None:
    """Weights that cannot be given."""
    if config.weights == COLUMN:
        raise UserError("--weights column is for training; of an export expected raters or a file")
    if config.weights != EQUAL and config.what not in WEIGHED:
        raise UserError(f"--weights is for {', '.join(WEIGHED)}, not for {config.what}")
    weights_file(config.weights)


def weights_of(config: Config, store: Store, project: str) -> dict[str, Any] | None:
    """By the file, or fitted to the rankings of the same split."""
    if config.weights == EQUAL:
        return None
    from heedful.raters import weights  # with torch, which nothing else here needs

    if file := weights_file(config.weights):
        return weights.loaded(file).as_json()
    taken = snapshot.take(store, project, Query("rankings", config.split, question=config.question))
    rows = store.in_read(lambda c: list(snapshot.rows(c, taken.query, taken.ids)))
    return weights.fitted_to(comparison_of("db:", row) for row in rows).as_json()
