"""A small policy-gradient loop with all that such a loop carries along: critic, adaptive β, running scale, paid judge.

It stands for the recipes that sample, and shows how these call `run`.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from heedful.configs.common import Training
from heedful.data.collate import collate, take
from heedful.data.sources import read_prompts
from heedful.engine.local import LocalEngine
from heedful.learner.local import LocalLearner, Loss
from heedful.models.load import load_policy, load_tokenizer, new_reward_model
from heedful.models.sampling import derive_seed
from heedful.ranks import ALONE, Ranks
from heedful.rollout import rollout, tasks
from heedful.run import Run, check_out
from heedful.training.forwards import critic_forward, policy_forward
from heedful.training.supervised import batches, optim, saver
from heedful.types import Batch, Outputs, Sampling


@dataclass(frozen=True, kw_only=True)
class Config(Training):
    """Sample, pay the judge, update policy and critic twice, adapt β."""

    model: str
    """The policy."""
    data: str
    """Prompts."""
    bill: Path
    """The judge writes here what it was asked."""
    steps: int = 8
    """Rounds."""
    batch_size: int = 5
    """Prompts in a round."""


@dataclass
class Beta:
    """An adaptive coefficient as a part: a number with a past."""

    value: float

    def adapt(self, kl: float) -> None:
        self.value *= 1.1 if kl > 0.01 else 0.93

    def state_dict(self) -> dict:
        return {"value": self.value}

    def load_state_dict(self, state: dict) -> None:
        self.value = state["value"]


class Scale:
    """A running mean of squares, by which rewards are divided."""

    def __init__(self) -> None:
        self.mean, self.count = torch.zeros(()), 0

    def __call__(self, reward: Tensor) -> Tensor:
        self.count += 1
        self.mean = self.mean + (reward.square().mean() - self.mean) / self.count
        return reward / self.mean.sqrt().clamp(min=1e-3)

    def state_dict(self) -> dict:
        return {"mean": self.mean, "count": self.count}

    def load_state_dict(self, state: dict) -> None:
        self.mean, self.count = state["mean"], state["count"]


def run(config: Config, ranks: Ranks = ALONE) -> Path:
    check_out(config)
    random.seed(config.seed)  # the judge is noisy, and draws from Python's global generator
    tokenizer = load_tokenizer(config.model)
    model = load_policy(config.model)
    critic_model = new_reward_model(config.model, seed=config.seed)
    todo = tasks(tokenizer, read_prompts(config.data))
    engine, sampling = LocalEngine(model), Sampling()
    policy = LocalLearner(model, policy_forward(), optim(config, 2 * config.steps))
    critic = LocalLearner(
        critic_model,
        critic_forward,
        optim(config, 2 * config.steps),
    )
    beta, scale = Beta(0.05), Scale()
    parts = {"policy": policy, "critic": critic, "beta": beta, "scale": scale}
    stream = batches(len(todo), config.batch_size, config.steps, config.seed)
    save = saver(policy, tokenizer, config)
    with Run(
        config.out, config, total_steps=config.steps, quiet=True, report_to=config.report_to
    ) as run_:
        start = run_.restore(parts)
        if start:
            asyncio.run(engine.load(policy.weights(), version=start))
        for step, rows in enumerate(itertools.islice(stream, start, None), start + 1):
            batch = run_.stashed(step)
            if batch is None:
                batch = sampled(config, engine, tokenizer, [todo[i] for i in rows], sampling, step)
                run_.stash(step, batch)
            metrics = update(policy, critic, batch, beta, scale)
            asyncio.run(engine.load(policy.weights(), version=step))
            beta.adapt(metrics["kl"])
            run_.log(step, {**metrics, "beta": beta.value, "first": float(rows[0])})
            if config.save_every and step % config.save_every == 0:
                run_.checkpoint(step, save(), metrics)
            run_.keep(step, parts)
        run_.finish(save())
    return config.out


def sampled(config: Config, engine, tokenizer, asked, sampling, step: int) -> Batch:
    seed = derive_seed(config.seed, step)
    samples = asyncio.run(
        rollout(
            engine, asked, tokenizer, n=1, max_tokens=6, sampling=sampling, seed=seed, version=step
        )
    )
    with open(config.bill, "a") as bill:
        bill.write(f"{step}\n")
    batch = collate(samples)
    noise = torch.tensor([random.random() for _ in samples])
    batch.reward.copy_(batch.mask.sum(1) + noise)
    return batch


def update(policy, critic, batch: Batch, beta: Beta, scale: Scale) -> dict[str, float]:
    reward = scale(batch.reward)

    def policy_loss(out: Outputs, b: Batch) -> Loss:
        logp, worth = out.logp, scale.mean.sqrt()
        return Loss(-logp * (b.reward / worth)[:, None] + beta.value * (logp - b.old_logp).square())

    def critic_loss(out: Outputs, b: Batch) -> Loss:
        return Loss((out.value[:, :-1] - b.reward[:, None]).square())

    metrics: dict[str, float] = {}
    half = len(batch.tokens) // 2
    for part in (slice(0, half), slice(half, len(batch.tokens))):
        metrics = policy.step(policy_loss, take(batch, part))
        metrics["value/loss"] = critic.step(critic_loss, take(batch, part))["loss"]
    kl = ((batch.old_logp - policy.outputs(batch).logp) * batch.mask).sum(1).mean()
    return {**metrics, "reward": float(reward.mean()), "kl": float(kl)}
