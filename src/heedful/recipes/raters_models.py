"""Ratings of the models whose responses raters compared."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from heedful.configs.raters import Config
from heedful.data.files import write_json
from heedful.data.reading import named
from heedful.errors import UserError
from heedful.raters.standings import Standing, read_battles, standings
from heedful.transfer.workspace import in_project
from heedful.web.insight import battles


def run(config: Config) -> list[dict[str, Any]]:
    """Prints a table and writes `models`; returns that: a list of `Standing`, the best rated first."""
    source = config.data
    if isinstance(source, str) and source.startswith("db:"):
        found = in_project(
            source, lambda connection, project: standings(battles(connection, project))
        )
    else:
        skip = config.on_bad_row == "drop"
        found = standings(read_battles(source, config.columns, skip_bad=skip))
    if not found:
        raise UserError(f"{named(source)}: no two models were compared")
    found.sort(key=lambda s: (s.elo is None, -(s.elo or 0), s.model))
    rows = [asdict(s) for s in found]
    if config.out is not None:
        write_json(config.out, {"models": rows})
    _print(found)
    return rows


def _print(found: list[Standing]) -> None:
    console = Console(highlight=False)
    table = Table(box=None, header_style="bold")
    for title in ("model", "rating", "wins", "comparisons"):
        table.add_column(title, justify="left" if title == "model" else "right")
    for s in found:
        rating = "–"
        if s.elo is not None and s.elo_ci is not None:
            rating = f"{s.elo:.0f} [{s.elo_ci[0]:.0f}, {s.elo_ci[1]:.0f}]"
        wins = f"{s.value:.0%} [{s.low:.0%}, {s.high:.0%}]"
        table.add_row(Text(s.model), rating, wins, str(s.n))
    console.print(table)
    console.print(
        "rating: Bradley–Terry on Elo's scale, with the mean 1000 and 400 points for odds of ten to one, whoever was "
        "compared with whom; wins: of its comparisons, ties half; in brackets 95 % "
        "intervals, which allow for answers about one prompt, and of one rater, hanging together"
    )
    if any(s.elo is None for s in found):
        console.print("–: nothing joins it to the others, however indirectly")
