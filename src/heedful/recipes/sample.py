"""Sampling: prompts → responses with their log-probs, best of n by a reward if asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.data.sources import facts_of, prompt_to_json, read_questions, write_rows
from heedful.engine.torch import TorchEngine
from heedful.errors import UserError
from heedful.evals import best_of_n
from heedful.models.load import load_policy, load_tokenizer
from heedful.progress import Progress
from heedful.recipes.config import Drawing
from heedful.recipes.configs.sample import Config, refuse_nonsense
from heedful.recipes.sources import materialise
from heedful.rewards import Parts, load_rewards
from heedful.rollout import Task, response_text, rollout, score_parts, tasks
from heedful.types import Facts, Prompt, Sample, Sampling

CHUNK = 256  # prompts between two updates of the progress bar
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


def run(config: Config) -> Path:
    """Returns the path of the samples. With --best-of, prints how far that takes the policy from itself."""
    refuse_nonsense(config)
    questions = read_questions(materialise(config.data, "prompts", split="all"))[: config.limit]
    drawn = draw_as_told(config, questions, n=config.best_of or config.n)
    rows = [
        sample_row(d, k, config.model, config.seed)
        for d in drawn
        for k in ([best(d)] if config.best_of else range(len(d.samples)))
        if config.at_least is None or d.samples[k].reward >= config.at_least
    ]
    if not rows:
        raise UserError(f"none of the responses has a reward of {config.at_least} or more")
    write_rows(config.out, rows)
    if config.best_of:
        kl, (low, high) = best_of_n.mean_kl(rewards_of(drawn), config.best_of)
        print(
            f"best of {config.best_of}: {kl:.3f} [{low:.3f}, {high:.3f}] nats of KL a response to the "
            f"policy, estimated with ties; at most {best_of_n.bound(config.best_of):.3f}"
        )
    return config.out


def draw_as_told(
    config: Drawing, questions: Sequence[tuple[Prompt, Facts]], *, n: int
) -> list[Drawn]:
    """`draw` with the model, the reward and the sampling that a config names."""
    rewards = None
    if config.reward:
        rewards = load_rewards(config.reward, weights=config.reward_weights, device=config.device)
    return draw(
        load_policy(config.model, device=config.device),
        load_tokenizer(config.model),
        [prompt for prompt, _ in questions],
        facts=[facts for _, facts in questions],
        n=n,
        max_tokens=config.max_tokens,
        sampling=config.sampling,
        seed=config.seed,
        reward=rewards,
        quiet=config.quiet,
    )


def draw(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    facts: Sequence[Facts] | None = None,
    n: int,
    max_tokens: int,
    sampling: Sampling,
    seed: int,
    reward: Parts | None = None,
    quiet: bool = False,
) -> list[Drawn]:
    """`n` responses to each prompt, with rewards if a reward is given."""
    if n < 1 or max_tokens < 1:
        raise UserError("the number of responses and --max-tokens must be at least 1")
    engine, drawn = TorchEngine(model), []
    todo = tasks(tokenizer, prompts, facts)

    async def chunk(part: Sequence[Task], seed: int) -> tuple[list[Sample], list[dict[str, float]]]:
        samples = await rollout(
            engine, part, n=n, max_tokens=max_tokens, sampling=sampling, seed=seed
        )
        if reward is None:
            return samples, [{}] * len(samples)
        scores = await score_parts(reward, part, samples, tokenizer)
        paired = zip(samples, scores.total, strict=True)
        columns = zip(*scores.parts.values(), strict=True)
        parts = [dict(zip(scores.parts, column, strict=True)) for column in columns]
        return [replace(sample, reward=value) for sample, value in paired], parts

    with Progress("sample", len(todo), quiet=quiet) as bar:
        for start in range(0, len(todo), CHUNK):
            chosen = todo[start : start + CHUNK]
            samples, parts = asyncio.run(chunk(chosen, seed + start))
            for i, task in enumerate(chosen):
                own = slice(i * n, (i + 1) * n)
                texts = [response_text(tokenizer, s) for s in samples[own]]
                drawn.append(Drawn(task.prompt, samples[own], texts, task.facts, parts[own]))
            bar.update(start + len(chosen))
    return drawn


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
        "prompt": prompt_to_json(drawn.prompt),
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
