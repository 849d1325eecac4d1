"""Responses as rows of a samples file, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from heedful.data.sources import facts_of, prompt_columns, prompt_of
from heedful.types import Facts, Group, Prompt, Sample

OWN = (  # columns of a samples file that say something about the response, not about the prompt
    "prompt", "completion", "index", "logprob", "stop_reason", "model", "seed", "tokens", "prefilled", "reward",
    "reward_parts", "reward_extra", "gold", "voice", "win",
)  # fmt: skip


class _Scores(Protocol):
    """`rewards.Scores`."""

    @property
    def total(self) -> Sequence[float | None]: ...
    @property
    def parts(self) -> Mapping[str, Sequence[float | None]]: ...
    @property
    def extra(self) -> Mapping[str, Sequence[Any]]: ...


@dataclass(frozen=True)
class Rewards:
    """What a response is worth: the sum, None where every term abstained, the raw terms, what they logged beside."""

    total: float | None
    parts: Mapping[str, float | None] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


NO_REWARDS = Rewards(None)


@dataclass(frozen=True)
class Drawn:
    """The responses to one prompt, and what each is worth where a reward was asked."""

    prompt: Prompt
    samples: list[Sample]
    texts: list[str]
    facts: Facts
    rewards: list[Rewards]
    prefilled: str = ""

    def reward(self, k: int) -> float:
        """Of response k; −∞ where every term of the reward abstained: it is never the best."""
        total = self.rewards[k].total
        return -math.inf if total is None else total


def rewards_of(scores: _Scores) -> list[Rewards]:
    """A batch's scores, response by response."""

    def row(columns: Mapping[str, Sequence[Any]], k: int) -> dict[str, Any]:
        return {name: values[k] for name, values in columns.items()}

    return [
        Rewards(total, row(scores.parts, k), row(scores.extra, k))
        for k, total in enumerate(scores.total)
    ]


def best(drawn: Drawn) -> int:
    """The index of the response with the highest reward; the first of several."""
    rewards = [drawn.reward(k) for k in range(len(drawn.samples))]
    return rewards.index(max(rewards))


def all_rewards(drawn: Sequence[Drawn]) -> list[list[float]]:
    """The rewards of all responses that have one, a list for each prompt that has one."""
    lists = [[r.total for r in d.rewards if r.total is not None] for d in drawn]
    return [rewards for rewards in lists if rewards]


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
    row |= {"prefilled": drawn.prefilled} if drawn.prefilled else {}
    kept = {name: v for name, v in drawn.facts.items() if name not in OWN and _is_json(v)}
    return row | reward_columns(drawn.rewards[k]) | kept


def reward_columns(rewards: Rewards) -> dict[str, Any]:
    """`reward`, and `reward_parts` where there are several, unweighted, None for those that abstain; nothing where
    nothing was scored."""
    if rewards.total is None:
        return {}
    parts = {name: v if v is None else round(v, 6) for name, v in rewards.parts.items()}
    extra = logged(rewards.extra)
    columns: dict[str, Any] = {"reward": round(rewards.total, 6)}
    columns |= {"reward_parts": parts} if len(parts) > 1 else {}
    return columns | ({"reward_extra": extra} if extra else {})


def logged(extra: Mapping[str, Any]) -> dict[str, Any]:
    """What rewards logged of a response, as far as a file can have it."""
    return {name: v for name, v in extra.items() if v is not None and _is_json(v)}


def as_group(rows: Sequence[Mapping[str, Any]]) -> Group:
    """Rows of one prompt as a reward sees them."""
    tokens = [row.get("tokens") for row in rows]
    return Group(
        prompt_of("a sample", rows[0]),
        [row["completion"] for row in rows],
        [row.get("stop_reason", "stop") == "stop" for row in rows],
        facts_of_sample(rows[0]),
        tokens=[list(ids) for ids in tokens if ids] if all(tokens) else None,
        prefilled=str(rows[0].get("prefilled", "")),
    )


def facts_of_sample(row: Mapping[str, Any]) -> Facts:
    """The columns of a samples file that came from the prompt's row, and not from sampling or scoring."""
    return facts_of(row, *OWN)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):  # pictures and dates of Parquet files and data sets
        return False
    return True
