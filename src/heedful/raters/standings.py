"""How models stand whose responses were compared: how often they win, and Bradley–Terry ratings on Elo's scale.

Answers about one prompt hang together, and so do those of one rater; intervals allow for both. Files have battles in
two forms, each with the columns `prompt` and `rater` where these are known:

    {"model_a": "m", "model_b": "n", "winner": "model_a"}        Chatbot Arena's; any other winner is a tie
    {"models": ["m", "n", "o"], "ranking": [1, 2, null]}         of rankings whose responses these models wrote
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from heedful.data.columns import column
from heedful.data.comparisons import WINNERS
from heedful.data.reading import Source, read_items, read_table
from heedful.errors import UserError
from heedful.evals.ratings import Battle, effective, elo
from heedful.evals.statistics import Interval
from heedful.raters.agreement import wilson
from heedful.types import places


@dataclass(frozen=True)
class Standing:
    """A model's win rate, with Wilson's interval of as many independent answers as they are worth, a tie is half a win;
    and its rating, None for models that no comparison joins to the most."""

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
    fought = [battle for battle in battles if battle.first != battle.second]
    if not fought:
        return []
    wins: dict[tuple[str, str], float] = {}
    met: dict[str, int] = {}
    for a, b, won, *_ in fought:
        wins[a, b] = wins.get((a, b), 0.0) + won
        wins[b, a] = wins.get((b, a), 0.0) + 1 - won
        met |= {a: met.get(a, 0) + 1, b: met.get(b, 0) + 1}
    return sorted(_rows(fought, wins, met), key=lambda s: (-s.value, s.model))


def _rows(
    battles: Sequence[Battle], wins: Mapping[tuple[str, str], float], met: Mapping[str, int]
) -> Iterator[Standing]:
    ratings, models = elo(wins, battles), {model: k for k, model in enumerate(met)}
    won = [sum(count for (a, _), count in wins.items() if a == model) for model in met]
    shares = np.array(won) / np.array(list(met.values()))
    worth = effective(battles, models, shares)
    for model, k in models.items():
        rating, interval = ratings.get(model, (None, None))
        share, n = float(shares[k]), float(worth[k])
        bounds = wilson(share * n, n)
        yield Standing(model, won[k], met[model], share, *bounds, rating, interval)


def read_battles(
    source: Source, columns: Sequence[str] = (), *, skip_bad: bool | None = None
) -> Iterator[Battle]:
    """The battles of files. UserError for a row that does not say which model wrote what."""
    rows = read_items(source, read_table(source, columns), _of_row, skip_bad=skip_bad)
    return (battle for _, battle in rows)


def of_ranking(
    models: Sequence[str], ranking: Sequence[int | None], prompt: Hashable, rater: Hashable
) -> Iterator[Battle]:
    """Of every two of which at least one has a rank: None is behind all that have one (`types.Comparison`)."""
    place = places(ranking)
    for i, j in combinations(range(len(models)), 2):
        if ranking[i] is not None or ranking[j] is not None:
            won = (1 + (place[j] > place[i]) - (place[j] < place[i])) / 2
            yield Battle(models[i], models[j], won, prompt, rater)


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
    # Where a row does not say it, nothing is known to hang together with it.
    prompt, rater = (repr(row[name]) if row.get(name) else where for name in ("prompt", "rater"))
    return [(where, battle) for battle in of_ranking(models, ranking, prompt, rater)]
