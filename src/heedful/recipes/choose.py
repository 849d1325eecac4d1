"""Active choice: samples → the pairs that are worth asking people about, each with the probability of being asked."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

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
from heedful.raters.choosing import Telling, belief, best_pair, questions
from heedful.recipes.pluralism import differences, ordered
from heedful.rewards.personal import MICRO_BATCH_TOKENS
from heedful.transfer.sources import materialise
from heedful.types import Comparison, Prompt

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
    texts = [(as_group(rows).prompt, [str(row["completion"]) for row in rows]) for rows in groups]
    best = telling(
        config.reward, told, texts, config.strategy, seed=config.seed, device=config.device
    )
    asked = questions(
        best,
        [len(rows) for rows in groups],
        config.number,
        strategy=config.strategy,
        uniform=config.uniform,
        seed=config.seed,
    )
    rows = (
        dict(groups[q.group][k])
        | {"strategy": q.strategy, "score": q.score, "propensity": q.propensity}
        for q in asked
        for k in q.pair
    )
    write_rows(config.out, rows)
    print(
        f"{len(asked)} questions, {sum(q.strategy == 'random' for q in asked)} of them by chance; "
        f"`heedful import samples {config.out} --ask pair` asks them"
    )
    return config.out


def telling(
    reward: str,
    answered: Sequence[Comparison],
    groups: Sequence[tuple[Prompt, Sequence[str]]],
    strategy: str,
    *,
    seed: int = 0,
    device: str = "cpu",
) -> list[Telling]:
    """The most telling pair of the responses to each prompt, as the reward model's last layer is unsure of it.

    UserError where nobody has ordered anything yet.
    """
    pairs = ordered(answered)
    if not pairs.row:
        raise UserError(
            "nobody has put two responses in an order yet, so there is nothing to choose by"
        )
    model = load_reward_model(reward, device=device)
    d = differences(model, reward, answered, pairs)
    scale = SPREAD / d.square().sum(1).mean().sqrt().clamp(min=1e-9)
    draws = belief(scale * d, weight=torch.tensor(pairs.weight), seed=seed).float()
    tokenizer, limit = load_tokenizer(reward), context_length(model)
    rng = random.Random(f"choose/{seed}")
    best = []
    for prompt, responses in groups:
        samples = encode_group(tokenizer, prompt, responses, max_length=limit)
        scores = scale * draws @ all_states(model, collate(samples), MICRO_BATCH_TOKENS).T
        best.append(best_pair(strategy, scores, rng))
    return best


def grouped(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The different responses of each prompt, of those that have two."""
    prompts: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        key = prompt_text(as_group([row]).prompt)
        prompts.setdefault(key, {}).setdefault(str(row["completion"]), row)
    return [list(texts.values()) for texts in prompts.values() if len(texts) > 1]
