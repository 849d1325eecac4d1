"""Prompts against an engine: recorded tokens, masks and log-probs, nothing ever re-tokenised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from heedful import ranks
from heedful.data.tokens import decode_response, encode_prompt, stop_tokens
from heedful.models.sampling import derive_seed
from heedful.rewards.parts import Early, Group, Parts, Scores
from heedful.types import (
    NO_FACTS,
    Completion,
    Engine,
    Facts,
    Metrics,
    Prompt,
    Reward,
    Sample,
    Sampling,
)


@dataclass(frozen=True)
class Task:
    """A prompt and its tokens, encoded once; `facts` are for the reward."""

    prompt: Prompt
    tokens: tuple[int, ...]
    stop: tuple[int, ...]
    facts: Facts = field(default_factory=lambda: NO_FACTS, hash=False)


def tasks(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    facts: Sequence[Facts] | None = None,
) -> list[Task]:
    """Encode prompts for sampling. `facts`, one mapping a prompt, are what `data.sources.read_questions` gives."""
    known = [NO_FACTS] * len(prompts) if facts is None else facts
    return [
        Task(p, tuple(encode_prompt(tokenizer, p)), tuple(stop_tokens(tokenizer, p)), f)
        for p, f in zip(prompts, known, strict=True)
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

    async def write(numbered: tuple[int, Task]) -> list[Sample]:
        return await _written(
            engine,
            *numbered,
            n=n,
            max_tokens=max_tokens,
            sampling=sampling,
            seed=seed,
            version=version,
        )

    groups = await ranks.shared(list(enumerate(batch)), write)
    return [sample for group in groups for sample in group]


async def scored_rollout(
    engine: Engine,
    reward: Parts | Reward,
    batch: Sequence[Task],
    tokenizer: PreTrainedTokenizerBase,
    **how: Any,
) -> tuple[list[Sample], Metrics]:
    """`rollout` (which see for `how`) and `score`. A reward that is no model here, such as one asked over the network,
    judges a group as soon as it is written, while others are still being written."""
    parts = Parts.of(reward)

    async def ask(numbered: tuple[int, Task]) -> tuple[list[Sample], Early]:
        samples = await _written(engine, *numbered, **how)
        return samples, await parts.early(_judged(numbered[1], samples, tokenizer))

    done = await ranks.shared(list(enumerate(batch)), ask)
    samples = [sample for own, _ in done for sample in own]
    groups = [_judged(t, own, tokenizer) for t, (own, _) in zip(batch, done, strict=True)]
    scores = await parts.score(groups, [early for _, early in done])
    return _rewarded(samples, scores)


async def _written(
    engine: Engine,
    number: int,
    task: Task,
    *,
    n: int,
    max_tokens: int,
    sampling: Sampling,
    seed: int,
    version: int = 0,
) -> list[Sample]:
    """The samples of the batch's task of this number."""
    completions = await engine.generate(
        task.tokens,
        n=n,
        max_tokens=max_tokens,
        sampling=sampling,
        stop=task.stop,
        seed=derive_seed(seed, number),
    )
    return [as_sample(task, c, group=number, version=version) for c in completions]


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
    reward: Parts | Reward,
    batch: Sequence[Task],
    samples: Sequence[Sample],
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[list[Sample], Metrics]:
    """The samples with their rewards, and mean and spread of each part over the batch; see `score_parts`."""
    return _rewarded(samples, await score_parts(reward, batch, samples, tokenizer))


def _rewarded(samples: Sequence[Sample], scores: Scores) -> tuple[list[Sample], Metrics]:
    paired = zip(samples, scores.total, strict=True)
    return [replace(sample, reward=value) for sample, value in paired], scores.metrics


def _judged(task: Task, samples: Sequence[Sample], tokenizer: PreTrainedTokenizerBase) -> Group:
    """A task's samples as a reward sees them.

    The text is that of the tokens under the mask, and `ended` is how sampling stopped: the prompt has no
    say in whether a response ended.
    """
    texts = [response_text(tokenizer, sample) for sample in samples]
    return Group(task.prompt, texts, [s.stop_reason == "stop" for s in samples], task.facts)


async def score_parts(
    reward: Parts | Reward,
    batch: Sequence[Task],
    samples: Sequence[Sample],
    tokenizer: PreTrainedTokenizerBase,
) -> Scores:
    """What the samples are worth, part by part, in their own order; each group is scored in one call."""
    members: dict[int, list[int]] = {}
    for i, sample in enumerate(samples):
        assert sample.group is not None
        members.setdefault(sample.group, []).append(i)
    scores = await Parts.of(reward).score(
        [_judged(batch[g], [samples[i] for i in own], tokenizer) for g, own in members.items()]
    )
    order = [i for own in members.values() for i in own]

    def in_order(values: Sequence[float]) -> list[float]:
        return [value for _, value in sorted(zip(order, values, strict=True))]

    parts = {name: in_order(values) for name, values in scores.parts.items()}
    return Scores(in_order(scores.total), parts, scores.metrics)
