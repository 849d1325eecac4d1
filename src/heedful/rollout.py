"""Prompts against an engine: recorded tokens, masks and log-probs, nothing ever re-tokenised."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from heedful.data.sources import prompt_text
from heedful.data.tokens import decode_response, encode_prompt, stop_tokens
from heedful.models.sampling import derive_seed
from heedful.rewards import check_finite
from heedful.types import Completion, Engine, Prompt, Reward, Sample, Sampling


@dataclass(frozen=True)
class Task:
    """A prompt and its tokens, encoded once."""

    prompt: Prompt
    tokens: tuple[int, ...]
    stop: tuple[int, ...]


def tasks(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]) -> list[Task]:
    """Encode prompts for sampling."""
    return [
        Task(p, tuple(encode_prompt(tokenizer, p)), tuple(stop_tokens(tokenizer, p)))
        for p in prompts
    ]


async def rollout(
    engine: Engine,
    batch: Sequence[Task],
    *,
    n: int,
    max_tokens: int,
    sampling: Sampling,
    seed: int,
    version: int = 0,
) -> list[Sample]:
    """`n` samples of each task, those of one task next to each other in one group; rewards are still 0."""
    completions = await asyncio.gather(
        *(
            engine.generate(
                task.tokens,
                n=n,
                max_tokens=max_tokens,
                sampling=sampling,
                stop=task.stop,
                seed=derive_seed(seed, i),
            )
            for i, task in enumerate(batch)
        )
    )
    return [
        as_sample(task, completion, group=i, version=version)
        for i, (task, group) in enumerate(zip(batch, completions, strict=True))
        for completion in group
    ]


def as_sample(task: Task, completion: Completion, *, group: int, version: int) -> Sample:
    """The prompt's and the completion's ids side by side; mask and log-probs on the latter."""
    before = len(task.tokens)
    return Sample(
        tokens=(*task.tokens, *completion.tokens),
        mask=(False,) * before + (True,) * len(completion.tokens),
        logprobs=(0.0,) * before + completion.logprobs,
        group=group,
        policy_version=version,
        stop_reason=completion.stop_reason,
    )


def response_text(tokenizer: PreTrainedTokenizerBase, sample: Sample) -> str:
    """What the policy wrote in a sample, decoded."""
    return decode_response(
        tokenizer, [t for t, m in zip(sample.tokens, sample.mask, strict=True) if m]
    )


async def score(
    reward: Reward,
    batch: Sequence[Task],
    samples: Sequence[Sample],
    tokenizer: PreTrainedTokenizerBase,
) -> list[Sample]:
    """The samples with their rewards, each group scored in one call."""
    groups: dict[int, list[int]] = {}
    for i, sample in enumerate(samples):
        assert sample.group is not None
        groups.setdefault(sample.group, []).append(i)

    async def score_group(group: int, members: list[int]) -> list[float]:
        texts = [response_text(tokenizer, samples[i]) for i in members]
        ended = [samples[i].stop_reason == "stop" for i in members]
        values = await reward(batch[group].prompt, texts, ended)
        check_finite(values, prompt_text(batch[group].prompt), texts)
        return values

    values = await asyncio.gather(*(score_group(g, m) for g, m in groups.items()))
    scored = list(samples)
    for members, group_values in zip(groups.values(), values, strict=True):
        for i, value in zip(members, group_values, strict=True):
            scored[i] = replace(scored[i], reward=value)
    return scored
