"""Rewards: async callables on all responses to one prompt. An error in one stops the run; it never becomes 0.0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from heedful.errors import UserError
from heedful.plugins import load_function
from heedful.types import Prompt, Reward, Scorer


def each(scorer: Scorer) -> Reward:
    """Lift a function of (prompt, response) to a reward on groups."""

    async def reward(
        prompt: Prompt, responses: Sequence[str], ended: Sequence[bool]
    ) -> list[float]:
        return [float(scorer(prompt, response)) for response in responses]

    return reward


def load_reward(spec: str, *, device: str = "cpu", micro_batch_tokens: int = 16384) -> Reward:
    """A reward model's folder or hub name, or `package.module:function` of (prompt, response)."""
    if ":" in spec and not Path(spec).exists():
        return each(load_function(spec))
    from heedful.rewards.model import ModelReward

    return ModelReward.load(spec, device=device, micro_batch_tokens=micro_batch_tokens)


def check_finite(rewards: Sequence[float], prompt: str, responses: Sequence[str]) -> None:
    """A reward that is NaN or infinite is an error that names the response."""
    for value, response in zip(rewards, responses, strict=True):
        if not math.isfinite(value):
            raise UserError(
                f"the reward of {response[:80]!r} (prompt {prompt[:80]!r}) is {value}; "
                "rewards must be finite numbers"
            )
