"""How models stand whose responses were compared: how often they win, and Bradley–Terry ratings on Elo's scale.

A battle is (model, model, what the first won: 1, ½ or 0). Files have them in two forms:

    {"model_a": "m", "model_b": "n", "winner": "model_a"}        Chatbot Arena's; any other winner is a tie
    {"models": ["m", "n", "o"], "ranking": [1, 2, null]}         of rankings whose responses these models wrote
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from heedful.data.columns import column
from heedful.data.comparisons import WINNERS
from heedful.data.reading import Source, read_items, read_table
from heedful.errors import UserError
from heedful.evals.ratings import elo
from heedful.evals.statistics import Interval
from heedful.raters.agreement import wilson
from heedful.types import places

Battle = tuple[str, str, float]


@dataclass(frozen=True)
class Standing:
    """A model's win rate, with Wilson's interval, a tie is half a win; and its rating, None for models that no
    comparison joins to the most."""

    model: str
    wins: float
    n: int
    value: float
    low: float
    high: float
    elo: float | None
    elo_ci: Interval | None


def standings(battles: Iterable[Battle]) -> list[Standing]:
    """Of each model, the one that wins most often first. Of a model against itself nothing is learned."""
    wins: dict[tuple[str, str], float] = {}
    met: dict[str, int] = {}
    for a, b, won in battles:
        if a != b:
            wins[a, b] = wins.get((a, b), 0.0) + won
            wins[b, a] = wins.get((b, a), 0.0) + 1 - won
            met |= {a: met.get(a, 0) + 1, b: met.get(b, 0) + 1}
    return sorted(_rows(wins, met), key=lambda s: (-s.value, s.model))


def _rows(wins: Mapping[tuple[str, str], float], met: Mapping[str, int]) -> Iterator[Standing]:
    ratings = elo(wins)
    for model, n in met.items():
        won = sum(count for (a, _), count in wins.items() if a == model)
        rating, interval = ratings.get(model, (None, None))
        yield Standing(model, won, n, won / n, *wilson(won, n), rating, interval)


def read_battles(
    source: Source, columns: Sequence[str] = (), *, skip_bad: bool | None = None
) -> Iterator[Battle]:
    """The battles of files. UserError for a row that does not say which model wrote what."""
    rows = read_items(source, read_table(source, columns), _of_row, skip_bad=skip_bad)
    return (battle for _, battle in rows)


def of_ranking(models: Sequence[str], ranking: Sequence[int | None]) -> Iterator[Battle]:
    """Of every two of which at least one has a rank: None is behind all that have one (`types.Comparison`)."""
    place = places(ranking)
    for i, j in combinations(range(len(models)), 2):
        if ranking[i] is not None or ranking[j] is not None:
            yield models[i], models[j], (1 + (place[j] > place[i]) - (place[j] < place[i])) / 2


def _of_row(where: str, row: dict[str, Any]) -> list[tuple[str, Battle]]:
    if {"model_a", "model_b"} <= row.keys():
        models = [row["model_a"], row["model_b"]]
        ranking: Any = list(WINNERS.get(str(column(where, row, "winner")), (1, 1)))
    elif "models" in row:
        models, ranking = row["models"], column(where, row, "ranking")
    else:
        raise UserError(
            f"{where}: nothing says which model wrote what: expected model_a, model_b and winner, or models beside "
            f"ranking; found {', '.join(row)}"
        )
    named = isinstance(models, list) and all(isinstance(m, str) and m.strip() for m in models)
    ranked = isinstance(ranking, list) and all(r is None or type(r) is int for r in ranking)
    if not (named and ranked and len(models) == len(ranking) > 1):
        raise UserError(
            f"{where}: expected two models or more by name and a rank, or null, for each"
        )
    return [(where, battle) for battle in of_ranking(models, ranking)]
