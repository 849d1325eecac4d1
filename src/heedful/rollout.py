"""Prompts against an engine: recorded tokens, masks and log-probs, nothing ever re-tokenised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NotRequired, TypedDict, Unpack

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


class How(TypedDict):
    """How to sample, `n` responses to each task. The seed is that of the batch; a version marks the samples."""

    n: int
    max_tokens: int
    sampling: Sampling
    seed: int
    version: NotRequired[int]


async def rollout(engine: Engine, batch: Sequence[Task], **how: Unpack[How]) -> list[Sample]:
    """`n` samples of each task, those of one task next to each other in one group; rewards are still 0."""

    async def write(numbered: tuple[int, Task]) -> list[Sample]:
        return await _written(engine, *numbered, **how)

    groups = await ranks.shared(list(enumerate(batch)), write)
    return [sample for group in groups for sample in group]


async def scored_rollout(
    engine: Engine,
    reward: Parts | Reward,
    batch: Sequence[Task],
    tokenizer: PreTrainedTokenizerBase,
    **how: Unpack[How],
) -> tuple[list[Sample], Metrics]:
    """`rollout` and `score`. A reward that is no model here, such as one asked over the network, judges a group as
    soon as it is written, while others are still being written."""
    parts = Parts.of(reward)

    async def ask(numbered: tuple[int, Task]) -> tuple[list[Sample], list[str], Early]:
        samples = await _written(engine, *numbered, **how)
        texts = _texts(samples, tokenizer)
        return samples, texts, await parts.early(_judged(numbered[1], samples, texts))

    done = await ranks.shared(list(enumerate(batch)), ask)
    groups = [_judged(task, own, texts) for task, (own, texts, _) in zip(batch, done, strict=True)]
    scores = await parts.score(groups, [early for *_, early in done])
    return _rewarded([sample for own, *_ in done for sample in own], scores)


async def _written(engine: Engine, number: int, task: Task, **how: Unpack[How]) -> list[Sample]:
    """The samples of the batch's task of this number."""
    completions = await engine.generate(
        task.tokens,
        n=how["n"],
        max_tokens=how["max_tokens"],
        sampling=how["sampling"],
        stop=task.stop,
        seed=derive_seed(how["seed"], number),
    )
    version = how.get("version", 0)
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


def _texts(samples: Sequence[Sample], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    return [response_text(tokenizer, sample) for sample in samples]


def _judged(task: Task, samples: Sequence[Sample], texts: Sequence[str]) -> Group:
    """A task's samples as a reward sees them.

    The text is that of the tokens under the mask, and `ended` is how sampling stopped: the prompt has no
    say in whether a response ended.
    """
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
    of_groups = {group: [samples[i] for i in own] for group, own in members.items()}
    scores = await Parts.of(reward).score(
        [_judged(batch[g], own, _texts(own, tokenizer)) for g, own in of_groups.items()]
    )
    order = [i for own in members.values() for i in own]

    def in_order(values: Sequence[float]) -> list[float]:
        return [value for _, value in sorted(zip(order, values, strict=True))]

    parts = {name: in_order(values) for name, values in scores.parts.items()}
    return Scores(in_order(scores.total), parts, scores.metrics)
