"""How models stand whose responses were compared: how often they win, and Bradley–Terry ratings on Elo's scale.

Answers about one prompt hang together, and so do those of one rater; intervals allow for both. Files have battles in
two forms, each with the columns `prompt` and `rater` where these are known:

    {"model_a": "m", "model_b": "n", "winner": "model_a"}        Chatbot Arena's; any other winner is a tie
    {"models": ["m", "n", "o"], "ranking": [1, 2, null]}         of rankings whose responses these models wrote
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from heedful.data.columns import column
from heedful.data.comparisons import WINNERS
from heedful.data.reading import Source, read_items, read_table
from heedful.errors import UserError
from heedful.evals.ratings import Battle, Clusters, clusters, elo, share_of
from heedful.evals.statistics import Interval
from heedful.types import places


@dataclass(frozen=True)
class Standing:
    """A model's win rate with its interval (`evals.ratings.share_of`), a tie is half a win; and its rating, None for
    models that no comparison joins to the most."""

    model: str
    wins: float
    n: int
    value: float
    low: float
    high: float
    elo: float | None
    elo_ci: Interval | None


@dataclass(frozen=True)
class Wins:
    """What somebody won of n comparisons with its share and a 95 % interval."""

    wins: float
    n: int
    value: float
    low: float
    high: float


def standings(battles: Iterable[Battle]) -> list[Standing]:
    """Of each model, the one that wins most often first. Of a model against itself nothing is learned."""
    fought = [battle for battle in battles if battle.first != battle.second]
    if not fought:
        return []
    counts: dict[tuple[str, str], float] = {}
    for a, b, won, *_ in fought:
        counts[a, b] = counts.get((a, b), 0.0) + won
        counts[b, a] = counts.get((b, a), 0.0) + 1 - won
    ratings = elo(counts, fought)
    each = win_shares(fought, [((b.first,), (b.second,)) for b in fought])
    found = []
    for model, of in each.items():
        rating, interval = ratings.get(model, (None, None))
        found.append(Standing(model, **asdict(of), elo=rating, elo_ci=interval))
    return sorted(found, key=lambda s: (-s.value, s.model))


def win_shares(
    battles: Sequence[Battle], kept: Iterable[tuple[Iterable[Hashable], Iterable[Hashable]]]
) -> dict[Any, Wins]:
    """How often who is counted under a key won: `kept` has of each battle the keys under which it counts for its first,
    and those under which it counts for its second. In each interval answers about one prompt hang together, and those
    of one rater."""
    of, keys = clusters(battles), dict[Hashable, int]()
    sides = [
        (keys.setdefault(key, len(keys)), row, abs(side - battle.won))
        for row, (battle, of_battle) in enumerate(zip(battles, kept, strict=True))
        for side, of_side in zip((0, 1), of_battle, strict=True)
        for key in of_side
    ]
    if not sides:
        return {}
    number, row, won = (np.array(column) for column in zip(*sides, strict=True))
    order = np.argsort(number, kind="stable")
    ends = np.cumsum(np.bincount(number))
    shares = {}
    for key, part in zip(keys, np.split(order, ends[:-1]), strict=True):
        rows, mine = row[part], won[part]
        share = share_of(mine, Clusters(of.prompt[rows], of.rater[rows]))
        shares[key] = Wins(float(mine.sum()), len(mine), *share)
    return shares


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
