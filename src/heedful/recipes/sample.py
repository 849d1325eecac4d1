"""Sampling: prompts → responses with their log-probs, best of n by a reward if asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.data.sources import prompt_to_json, read_prompts, write_rows
from heedful.engine.torch import TorchEngine
from heedful.errors import UserError
from heedful.models.load import load_policy, load_tokenizer
from heedful.progress import Progress
from heedful.recipes.config import Drawing, alias
from heedful.recipes.workspace import materialise
from heedful.rewards import load_reward
from heedful.rollout import response_text, rollout, score, tasks
from heedful.types import Prompt, Reward, Sample, Sampling

CHUNK = 256  # prompts between two updates of the progress bar


@dataclass(frozen=True, kw_only=True)
class Config(Drawing):
    """Sample responses from a language model."""

    out: Path
    """The file of samples, .jsonl or .jsonl.gz."""
    n: Annotated[int, alias("--num-generations")] = 1
    """Responses to each prompt."""


@dataclass(frozen=True)
class Drawn:
    """The responses to one prompt."""

    prompt: Prompt
    samples: list[Sample]
    texts: list[str]


def run(config: Config) -> Path:
    """Returns the path of the samples."""
    if config.best_of and config.reward is None:
        raise UserError("--best-of needs --reward to say which response is the best")
    if config.best_of and config.n != 1:
        raise UserError("--best-of keeps one response a prompt; leave --n away")
    prompts = read_prompts(materialise(config.data, "prompts", split="all"))[: config.limit]
    tokenizer = load_tokenizer(config.model)
    model = load_policy(config.model, device=config.device)
    reward = load_reward(config.reward, device=config.device) if config.reward else None
    drawn = draw(
        model,
        tokenizer,
        prompts,
        n=config.best_of or config.n,
        max_tokens=config.max_tokens,
        sampling=config.sampling,
        seed=config.seed,
        reward=reward,
        quiet=config.quiet,
    )
    rows = (
        sample_row(d, k, config.model, config.seed, with_reward=reward is not None)
        for d in drawn
        for k in ([best(d)] if config.best_of else range(len(d.samples)))
    )
    write_rows(config.out, rows)
    return config.out


def draw(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    n: int,
    max_tokens: int,
    sampling: Sampling,
    seed: int,
    reward: Reward | None = None,
    quiet: bool = False,
) -> list[Drawn]:
    """`n` responses to each prompt, with rewards if a reward is given."""
    if n < 1 or max_tokens < 1:
        raise UserError("the number of responses and --max-tokens must be at least 1")
    engine, drawn = TorchEngine(model), []
    todo = tasks(tokenizer, prompts)

    async def chunk(start: int) -> list[Sample]:
        part = todo[start : start + CHUNK]
        samples = await rollout(
            engine,
            part,
            n=n,
            max_tokens=max_tokens,
            sampling=sampling,
            seed=seed + start,
        )
        return samples if reward is None else await score(reward, part, samples, tokenizer)

    with Progress("sample", len(todo), quiet=quiet) as bar:
        for start in range(0, len(todo), CHUNK):
            samples = asyncio.run(chunk(start))
            for i, task in enumerate(todo[start : start + CHUNK]):
                own = samples[i * n : (i + 1) * n]
                drawn.append(Drawn(task.prompt, own, [response_text(tokenizer, s) for s in own]))
            bar.update(min(start + CHUNK, len(todo)))
    return drawn


def best(drawn: Drawn) -> int:
    """The index of the response with the highest reward; the first of several."""
    rewards = [s.reward for s in drawn.samples]
    return rewards.index(max(rewards))


def sample_row(drawn: Drawn, k: int, model: str, seed: int, *, with_reward: bool) -> dict:
    """One response as a row of a samples file."""
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
    return row | ({"reward": round(sample.reward, 6)} if with_reward else {})
