"""Responses as rows of a samples file, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heedful.data.sources import facts_of, prompt_columns
from heedful.types import Facts, Prompt, Sample

OWN = (  # columns of a samples file that say something about the response, not about the prompt
    "prompt", "completion", "index", "logprob", "stop_reason", "model", "seed", "tokens", "reward",
    "reward_parts", "gold", "voice",
)  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """The responses to one prompt, `parts[k]` the raw parts of response k's reward."""

    prompt: Prompt
    samples: list[Sample]
    texts: list[str]
    facts: Facts
    parts: list[dict[str, float]]


def best(drawn: Drawn) -> int:
    """The index of the response with the highest reward; the first of several."""
    rewards = [s.reward for s in drawn.samples]
    return rewards.index(max(rewards))


def rewards_of(drawn: Sequence[Drawn]) -> list[list[float]]:
    """The rewards of all responses, a list for each prompt."""
    return [[s.reward for s in d.samples] for d in drawn]


def sample_row(drawn: Drawn, k: int, model: str, seed: int) -> dict[str, Any]:
    """One response as a row of a samples file; what else the prompt's row said comes along."""
    sample = drawn.samples[k]
    written = [t for t, m in zip(sample.tokens, sample.mask, strict=True) if m]
    row = {
        **prompt_columns(drawn.prompt),
        "completion": drawn.texts[k],
        "index": k,
        "logprob": round(sum(sample.logprobs), 6),
        "stop_reason": sample.stop_reason,
        "model": model,
        "seed": seed,
        "tokens": written,
    }
    kept = {name: v for name, v in drawn.facts.items() if name not in OWN and _is_json(v)}
    return row | reward_columns(sample.reward, drawn.parts[k]) | kept


def reward_columns(total: float, parts: Mapping[str, float]) -> dict[str, Any]:
    """`reward`, and `reward_parts` where there are several, unweighted; nothing where nothing was scored."""
    if not parts:
        return {}
    several = {"reward_parts": {name: round(v, 6) for name, v in parts.items()}}
    return {"reward": round(total, 6)} | (several if len(parts) > 1 else {})


def facts_of_sample(row: Mapping[str, Any]) -> Facts:
    """The columns of a samples file that came from the prompt's row, and not from sampling or scoring."""
    return facts_of(row, *OWN)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):  # pictures and dates of Parquet files and data sets
        return False
    return True
