"""Forms of reward models on the same comparisons by cross-validation: each prompt is predicted by what was fitted to
the other folds. A prediction is kept as soon as it is made, so that an interrupted command goes on.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from heedful import __version__
from heedful.configs.compare_rewards import TRAINED, Config
from heedful.data.files import write_json
from heedful.data.reading import named
from heedful.data.sources import fold_of, read_comparisons
from heedful.errors import UserError
from heedful.evals import preferences
from heedful.recipes.demo import machine
from heedful.report import instruments, reward_forms
from heedful.run import settings
from heedful.transfer.sources import materialise
from heedful.types import Comparison
from heedful.yaml_file import read_yaml

Fitted = Callable[[Comparison], list[float]]  # P(i ≻ j) of its `preferences.ordered` pairs
log = logging.getLogger("heedful")


def run(config: Config) -> Path:
    """Returns the page's path; rewards.json beside it has every number."""
    comparisons = read(config)
    folds = [fold_of(c.prompt, config.folds) for c in comparisons]
    if missing := sorted(set(range(config.folds)) - set(folds)):
        raise UserError(
            f"{named(config.data)}: fold {missing[0] + 1} of {config.folds} has no prompt; fewer --folds"
        )
    begin(config)
    said: dict[str, list[list[float]]] = {}
    alike: dict[str, str] = {}
    for name in config.forms:
        if why := same(name, comparisons):
            alike[name] = why
        else:
            said[name] = predicted(config, name, comparisons, folds)
    if not said:
        raise UserError(f"--forms: each would be bradley_terry: {next(iter(alike.values()))}")
    result = {
        "model": config.model,
        "data": named(config.data),
        "folds": config.folds,
        "forms": preferences.summary(comparisons, said),
        "same_as_bradley_terry": alike,
        "settings": {k: v for k, v in settings(config).items() if k not in ("out", "quiet")},
        "version": __version__,
        "machine": machine(),
    }
    write_json(config.out / "rewards.json", result)
    print(reward_forms.outcome(result))
    return instruments.write(config.out / "rewards.html", **reward_forms.page(result))


def read(config: Config) -> list[Comparison]:
    """The comparisons in which something is better than something else, or ties with it."""
    skip = config.on_bad_row != "stop"
    data = materialise(config.data, "rankings")
    every = read_comparisons(data, skip_bad=skip, columns=config.columns)
    if not any(preferences.ordered(c) for c in every):
        raise UserError(f"{named(config.data)}: no row compares anything: all are ties")
    if config.strength is None:
        return every
    return [c if c.strength is not None else replace(c, strength=config.strength) for c in every]


def begin(config: Config) -> None:
    """Predictions of other settings are not taken for these."""
    import yaml

    from heedful.disk import write_text

    file = config.out / "compared.yaml"
    left = ("out", "quiet", "device", "forms")
    told = {k: v for k, v in settings(config).items() if k not in left}
    if file.exists() and read_yaml(file, str(file)) != told:
        raise UserError(
            f"{config.out} holds predictions of other settings ({file}): choose another --out, or remove it"
        )
    config.out.mkdir(parents=True, exist_ok=True)
    write_text(file, yaml.safe_dump(told, sort_keys=False, allow_unicode=True))


def same(name: str, comparisons: Sequence[Comparison]) -> str | None:
    """Why a form would be Bradley–Terry on these comparisons; None where it is another."""
    if name in ("davidson", "rao_kupper") and not any(preferences.ties(c) for c in comparisons):
        return "nothing ties"
    if name in ("plackett_luce", "top_1") and all(len(c.responses) == 2 for c in comparisons):
        return "all comparisons are pairs"
    told = [c.strength is not None for c in comparisons]
    if name == "margin" and not any(told):
        return "no comparison has a strength; --strength gives them one"
    if name == "soft_bradley_terry" and not all(told):
        return "not every comparison has a strength; --strength gives them one"
    return None


def predicted(
    config: Config, name: str, comparisons: Sequence[Comparison], folds: Sequence[int]
) -> list[list[float]]:
    """P(the better one is preferred) of every ordered pair of each comparison, by the folds that it is not in."""
    said: list[list[float]] = [[] for _ in comparisons]
    for k in range(config.folds):
        held = [i for i, fold in enumerate(folds) if fold == k]
        file = config.out / "predictions" / f"{name}-{k}.json"
        if not file.exists():
            train = [c for c, fold in zip(comparisons, folds, strict=True) if fold != k]
            of_fold = [comparisons[i] for i in held]
            log.info("%s, fold %d of %d", name, k + 1, config.folds)
            file.parent.mkdir(exist_ok=True)
            write_json(file, fitted(config, name, k, train, of_fold))
        for i, chances in zip(held, json.loads(file.read_bytes()), strict=True):
            said[i] = chances
    return said


def fitted(
    config: Config,
    name: str,
    fold: int,
    train: Sequence[Comparison],
    held: Sequence[Comparison],
) -> list[list[float]]:
    """What a form says of the held-out comparisons after seeing the others."""
    if name == "length":
        return list(map(by_length(train), held))
    if name == "n-grams":
        return list(map(by_ngrams(train), held))
    from heedful.recipes import compare_rewards_trained as models

    folder = config.out / "runs" / f"{name}-{fold}"
    if name == "regression":
        return models.regression(config, folder, train, held)
    return models.trained(config, name, TRAINED[name], folder, train, held)


def by_length(train: Sequence[Comparison]) -> Fitted:
    """Logistic regression on the difference of log(1 + characters)."""
    import numpy as np

    from heedful.evals.biases import logistic

    def differences(c: Comparison) -> list[float]:
        sizes = [math.log1p(len(text)) for text in c.responses]
        return [sizes[i] - sizes[j] for i, j in preferences.ordered(c)]

    of = [(row, x) for row, c in enumerate(train) for x in differences(c)]
    rows, xs = (np.array(column) for column in zip(*of, strict=True))
    slope = float(logistic(xs[:, None], rows, np.ones(len(xs)))[0][0])
    return lambda c: [_sigmoid(slope * x) for x in differences(c)]


def by_ngrams(train: Sequence[Comparison]) -> Fitted:
    """`baselines.ngram_scorer`, whose scores are log-odds."""
    from heedful.recipes.baselines import ngram_scorer

    score = ngram_scorer(train)

    def chances(c: Comparison) -> list[float]:
        scores = score(c)
        return [_sigmoid(scores[i] - scores[j]) for i, j in preferences.ordered(c)]

    return chances


def _sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))
