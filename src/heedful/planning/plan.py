"""A run's needs on given GPUs, by part, and what to change where they do not fit."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heedful.configs import policy
from heedful.configs.common import Sharded
from heedful.configs.preference import Direct
from heedful.configs.reward_model import Config as RewardModel
from heedful.configs.tagged.kl import Charged
from heedful.planning import memory
from heedful.planning.gpus import GIB, Cluster
from heedful.planning.models import BYTES, Sizes, empty, prepared, sizes
from heedful.planning.tracing import Trace, trace

RESERVED = 1.5 * GIB  # CUDA's own, and what an allocator cannot use
DECODED_AT_ONCE = 256  # rows, by `engine.local`


@dataclass(frozen=True)
class Work:
    """A step of a run on one rank: tokens in it and in a micro-batch, of which a share is read."""

    tokens: float
    at_once: int
    read: float
    length: int
    rows: int

    @property
    def passes(self) -> float:
        return max(1.0, self.tokens / self.at_once)


@dataclass(frozen=True)
class Plan:
    """Bytes on each rank by part, while training and while sampling; of a step seconds by part and bytes sent."""

    config: Any
    cluster: Cluster
    work: Work
    training: Mapping[str, float]
    sampling: Mapping[str, float]
    seconds: Mapping[str, float]
    sent: float
    flops: float

    @property
    def most(self) -> float:
        """Bytes at the fullest moment."""
        return max(memory.total(self.training), memory.total(self.sampling))

    @property
    def room(self) -> float:
        """Bytes of a GPU that are to be had."""
        return self.cluster.gpu.memory * GIB - RESERVED

    @property
    def fits(self) -> bool:
        return self.most <= self.room


def work(config: Any, cluster: Cluster, prompt: int, response: int) -> Work:
    """How many tokens a rank computes in a step, and at once: a pair has its prompt once."""
    samples, responses = config.batch_size, 1
    if isinstance(config, policy.Config):
        samples = config.minibatch_size or config.batch_size
    elif isinstance(config, Direct | RewardModel):
        responses = 2
    row = prompt + responses * response
    rows = max(1, -(-samples // cluster.ranks))
    tokens = rows * row
    at_once = int(min(tokens, max(row, config.micro_batch_tokens)))
    share = 1.0 if isinstance(config, RewardModel) else responses * response / row
    return Work(tokens, at_once, share, prompt + response, rows)


@functools.lru_cache(maxsize=64)
def _traced(
    name: str, scores: bool, dtype: Any, lora: Any, freeze: int, again: bool, shape: tuple
) -> tuple[Sizes, Trace]:
    """Sizes and one pass of a model; `shape` is (tokens, read, length, whether gradients are there already)."""
    how: Any = Sharded(
        out=Path(), lora=lora, freeze=freeze, gradient_checkpointing=again, dtype=dtype
    )
    model = prepared(empty(name, scores=scores, dtype=dtype), how)
    tokens, read, length, grads = shape
    return sizes(model, nf4=lora.nf4), trace(model, tokens, read, length, grads=grads)


def one(config: Any, todo: Work, *, scores: bool, several: bool) -> tuple[Sizes, Trace]:
    """Sizes and one pass of the model that a config trains, or of its critic."""
    # Of a whole model in bfloat16 gradients are made in each pass and added to float32 ones; sharded, they are counted
    # with the states.
    made = config.dtype == "bfloat16" or not several
    read = max(1, int(todo.at_once * (1.0 if scores else todo.read)))
    shape = (todo.at_once, read, todo.length, config.shard or not made)
    lora = config.lora
    return _traced(
        config.model, scores, config.dtype, lora, config.freeze, config.gradient_checkpointing, shape
    )  # fmt: skip


def plan(
    config: Any, cluster: Cluster, prompt: int, response: int, efficiency: float = 0.4
) -> Plan:
    """The needs of a run of `train sft`, `reward`, a preference method or a policy gradient."""
    shard = config.shard and cluster.ranks > 1
    config = replace(config, shard=shard)
    todo = work(config, cluster, prompt, response)
    several = todo.passes > 1
    how = memory.Setting(
        config.dtype, cluster.ranks, shard, config.shard_sync == "every", config.shard_offload, several
    )  # fmt: skip
    of, passed = one(config, todo, scores=isinstance(config, RewardModel), several=several)
    activations = passed.bytes
    states = memory.learner(of, how, passed)
    training: dict[str, float] = {f"policy: {k}": x for k, x in states.items()}
    if isinstance(config, RewardModel):
        training = dict(states)
    sampling: dict[str, float] = {}
    passes, flops = todo.passes, todo.passes * passed.flops
    others = dict[str, float]()
    generated = 0.0
    if isinstance(config, policy.Config):
        rounds = config.minibatches * config.inner_epochs
        flops *= rounds
        passes *= rounds
        tokens = todo.tokens * config.minibatches
        if isinstance(config.kl, Charged):
            flops += passed.forward_flops * tokens / todo.at_once
            if not config.lora.rank or shard:
                others["reference"] = memory.frozen(of, how)
        if config.own_critic:
            critic, its = one(config, todo, scores=True, several=several)
            others |= {f"critic: {k}": x for k, x in memory.learner(critic, how, its).items()}
            flops += rounds * todo.passes * its.flops
            activations = max(activations, its.bytes)
        for name in _reward_models(config.reward):
            others[f"reward model {name}"] = memory.frozen(sizes(empty(name, scores=True)), how)
        if shard:
            others["policy to sample from"] = memory.frozen(of, replace(how, shard=False))
        rows = max(1, min(DECODED_AT_ONCE, config.batch_size // cluster.ranks))
        kept = {k: x for k, x in training.items() if not k.endswith(("gathered", "gradients"))}
        cells = memory.cache(of, config.dtype, rows, prompt + response)
        sampling = {**kept, **others, "keys and values": cells}
        generated = _sampling_seconds(config, cluster, of, response, cells, rows)
    training |= {**others, "activations": activations}
    sent = _sent(of, how, passes, config)
    peak = cluster.gpu.bfloat16 if config.dtype == "bfloat16" else cluster.gpu.float32
    seconds = {"computing": flops / (peak * efficiency), "sending": sent / cluster.link}
    if sampling:
        seconds["sampling"] = generated
    return Plan(config, cluster, todo, training, sampling, seconds, sent, flops)


def _reward_models(specs: tuple[str, ...]) -> list[str]:
    """The folders among the terms of a reward."""
    return [name for name in specs if (Path(name) / "config.json").exists()]


def _sent(of: Sizes, how: memory.Setting, passes: float, config: Any) -> float:
    """Bytes that a rank sends in a step: a ring's share of each message."""
    ring = (how.ranks - 1) / how.ranks
    if how.ranks == 1:
        return 0.0
    steps = 1.0
    if isinstance(config, policy.Config):
        steps = config.minibatches * config.inner_epochs
    if not how.shard:
        return steps * 2 * ring * memory.GRADIENT * of.trained
    again = (
        2 * of.total - of.root
    )  # layers for the forward and for the backward pass, the root once
    summed = passes if how.every else steps
    return ring * (passes * BYTES[how.dtype] * again + summed * memory.GRADIENT * of.trained)


def _sampling_seconds(
    config: Any, cluster: Cluster, of: Sizes, response: int, cells: float, rows: int
) -> float:
    """Decoding reads all weights and half of the final cache for each token of all rows at once."""
    waves = max(1.0, config.batch_size / cluster.ranks / rows)
    step = (BYTES[config.dtype] * of.total + cells / 2) / cluster.gpu.bandwidth
    computed = 2 * of.total * rows / cluster.gpu.bfloat16
    return waves * response * max(step, computed)


def remedies(planned: Plan, prompt: int, response: int, efficiency: float = 0.4) -> list[Plan]:
    """Where a plan does not fit: those with one flag more each time, in the order of what they cost, until one fits or
    nothing is left to change."""
    tried: list[Plan] = []
    if planned.fits:
        return tried
    config = planned.config
    for change in changes(config, planned.cluster):
        candidate = plan(replace(config, **change), planned.cluster, prompt, response, efficiency)
        before = tried[-1] if tried else planned
        if candidate.most > 0.98 * before.most:
            continue  # it does not help
        config = candidate.config
        tried.append(candidate)
        if candidate.fits:
            break
    return tried


def changes(config: Any, cluster: Cluster) -> list[dict[str, Any]]:
    """Flags that save memory and change no gradient but for rounding, the cheapest first; LoRA, which does, last."""
    some: list[dict[str, Any]] = []
    if config.dtype == "float32":
        some.append({"dtype": "bfloat16"})
    if cluster.ranks > 1 and not config.shard:
        some.append({"shard": True})
    if config.micro_batch_tokens > 2048:
        some.append({"micro_batch_tokens": 2048})
    if not config.gradient_checkpointing:
        some.append({"gradient_checkpointing": True})
    if cluster.ranks > 1 and config.shard_sync == "last":
        some.append({"shard_sync": "every"})
    if cluster.ranks > 1 and not config.shard_offload:
        some.append({"shard_offload": True})
    if not config.lora.rank:
        some.append({"lora": replace(config.lora, rank=16)})
    return some


def flag(change: Mapping[str, Any]) -> str:
    """A change as one types it."""
    (name, value), *_ = change.items()
    if name == "lora":
        return "--lora.rank 16"
    shown = f"--{name.replace('_', '-')}"
    return shown if value is True else f"{shown} {value}"
