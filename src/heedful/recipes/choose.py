"""Active choice: samples → the pairs that are worth asking people about, each with the probability of being asked."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heedful.configs.choose import Config
from heedful.data.collate import collate
from heedful.data.reading import named
from heedful.data.samples import as_group
from heedful.data.sources import prompt_text, read_comparisons, read_samples, write_rows
from heedful.data.tokens import encode_group
from heedful.errors import UserError
from heedful.models.limits import context_length
from heedful.models.load import load_reward_model, load_tokenizer
from heedful.models.personal import all_states
from heedful.raters.choosing import STRATEGIES, Asked, belief, chosen, double_thompson
from heedful.recipes.pluralism import differences, ordered
from heedful.rewards.personal import MICRO_BATCH_TOKENS
from heedful.transfer.sources import materialise

SPREAD = 2.0  # standard deviation of a usual pair's margin before anybody was asked


def run(config: Config) -> Path:
    """Returns the file of the chosen samples, two of each question, the most telling first."""
    told = read_comparisons(materialise(config.answered, "rankings"))
    groups = grouped(read_samples(config.data, config.columns))
    if not groups:
        raise UserError(f"{named(config.data)}: no prompt has two different responses to compare")
    if config.number > len(groups):
        raise UserError(
            f"--number {config.number}: {named(config.data)} has {len(groups)} prompts with two different responses"
        )
    model = load_reward_model(config.reward, device=config.device)
    pairs = ordered(told)
    if not pairs.row:
        raise UserError(f"{config.answered}: nobody has put two responses in an order yet")
    d = differences(model, config.reward, told, pairs)
    scale = SPREAD / d.square().sum(1).mean().sqrt().clamp(min=1e-9)
    draws = belief(scale * d, weight=torch.tensor(pairs.weight), seed=config.seed).float()
    tokenizer, limit = load_tokenizer(config.reward), context_length(model)
    rng = random.Random(f"choose/{config.seed}")
    found = []
    for rows in groups:
        group = as_group(rows)
        samples = encode_group(tokenizer, group.prompt, group.responses, max_length=limit)
        scores = scale * draws @ all_states(model, collate(samples), MICRO_BATCH_TOKENS).T
        found.append(best_pair(config.strategy, scores, rng))
    asked = chosen(
        [value for _, value in found], config.number, uniform=config.uniform, seed=config.seed
    )
    write_rows(config.out, (row for a in asked for row in _question(config, groups, found, a, rng)))
    print(
        f"{len(asked)} questions, {sum(a.by_chance for a in asked)} of them by chance; "
        f"`heedful import samples {config.out} --ask pair` asks them"
    )
    return config.out


def grouped(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The different responses of each prompt, of those that have two."""
    prompts: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        key = prompt_text(as_group([row]).prompt)
        prompts.setdefault(key, {}).setdefault(str(row["completion"]), row)
    return [list(texts.values()) for texts in prompts.values() if len(texts) > 1]


def best_pair(strategy: str, scores: Tensor, rng: random.Random) -> tuple[tuple[int, int], float]:
    """The most telling pair of K responses, of draws of their scores `[M, K]`, and how much it tells; by double
    Thompson sampling two that may be the best, and how often the draws disagree about them."""
    pairs = list(combinations(range(scores.shape[1]), 2))
    margin = torch.stack([scores[:, i] - scores[:, j] for i, j in pairs], 1)
    if strategy == "double_thompson":
        one, other = sorted(double_thompson(scores, rng))
        place = pairs.index((one, other))
        return (one, other), float(STRATEGIES["disagreement"](margin)[place])
    values = STRATEGIES[strategy](margin)
    return pairs[int(values.argmax())], float(values.max())


def _question(
    config: Config,
    groups: Sequence[Sequence[dict[str, Any]]],
    found: Sequence[tuple[tuple[int, int], float]],
    asked: Asked,
    rng: random.Random,
) -> list[dict[str, Any]]:
    """Two samples. Where chance has chosen the prompt it chooses the pair, too, and the propensity is the pair's."""
    rows, (best, value) = groups[asked.number], found[asked.number]
    pairs = list(combinations(range(len(rows)), 2))
    pair = rng.choice(pairs) if asked.by_chance else best
    by_chance = round(config.uniform * config.number) / len(groups)
    propensity = by_chance / len(pairs) + (asked.propensity - by_chance) * (pair == best)
    how = {
        "strategy": "random" if asked.by_chance else config.strategy,
        "score": round(value, 6),
        "propensity": round(propensity, 6),
    }
    return [dict(rows[k]) | how for k in pair]
