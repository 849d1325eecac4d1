"""Scoring: adds a reward to every response of a file."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.data.sources import prompt_from_json, prompt_text, read_samples, write_rows
from heedful.recipes.config import alias
from heedful.rewards import check_finite, load_reward
from heedful.types import Prompt


@dataclass(frozen=True, kw_only=True)
class Config:
    """Score responses with a reward."""

    reward: Annotated[str, alias("--model", "--reward-model")]
    """A reward model's folder, or package.module:function of (prompt, response)."""
    data: Annotated[str, alias("--dataset-name")]
    """Samples: rows with prompt and completion."""
    out: Path
    """The file of samples with rewards."""
    device: str = "cpu"
    """Torch device."""


def run(config: Config) -> Path:
    """Returns the path of the scored samples; their mean reward is printed."""
    rows = read_samples(config.data)
    reward = load_reward(config.reward, device=config.device)

    async def one(row: dict) -> float:
        prompt: Prompt = prompt_from_json(row["prompt"])
        ended = row.get("stop_reason", "stop") == "stop"
        values = await reward(prompt, [row["completion"]], [ended])
        check_finite(values, prompt_text(prompt), [row["completion"]])
        return values[0]

    async def everything() -> list[float]:
        return list(await asyncio.gather(*(one(row) for row in rows)))

    rewards = asyncio.run(everything())
    write_rows(
        config.out, (row | {"reward": round(r, 6)} for row, r in zip(rows, rewards, strict=True))
    )
    print(f"{len(rows)} responses, mean reward {sum(rewards) / len(rewards):.4f}")
    return config.out
