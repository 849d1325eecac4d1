"""Scoring: adds a reward to every response of a file."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heedful.configs.score import Config
from heedful.data.samples import facts_of_sample, reward_columns
from heedful.data.sources import prompt_of, read_samples, write_rows
from heedful.rewards import Group, Parts, load_rewards


def run(config: Config) -> Path:
    """Returns the path of the scored samples; the means of their rewards are printed."""
    rows = read_samples(config.data)
    rewards = load_rewards(
        config.reward,
        weights=config.reward_weights,
        normalise=config.normalise_rewards,
        device=config.device,
    )
    columns = asyncio.run(score_rows(rewards, rows))
    write_rows(config.out, (row | column for row, column in zip(rows, columns, strict=True)))
    mean = sum(column["reward"] for column in columns) / len(rows)
    print(f"{len(rows)} responses, mean reward {mean:.4f}")
    if len(rewards.names) > 1:
        for name in rewards.names:
            part = sum(column["reward_parts"][name] for column in columns) / len(rows)
            print(f"  {name}: {part:.4f}")
    return config.out


async def score_rows(rewards: Parts, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """`reward` (and `reward_parts`) for each row; the rows of one prompt with the same facts are a group."""
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        key = repr((row["prompt"], sorted(facts_of_sample(row).items(), key=repr)))
        groups.setdefault(key, []).append(i)
    scores = await rewards.score(
        [
            Group(
                prompt_of("a sample", rows[members[0]]),
                [rows[i]["completion"] for i in members],
                [rows[i].get("stop_reason", "stop") == "stop" for i in members],
                facts_of_sample(rows[members[0]]),
            )
            for members in groups.values()
        ]
    )
    columns: list[dict[str, Any]] = [{}] * len(rows)
    for k, i in enumerate(i for members in groups.values() for i in members):
        parts = {name: values[k] for name, values in scores.parts.items()}
        columns[i] = reward_columns(scores.total[k], parts)
    return columns
